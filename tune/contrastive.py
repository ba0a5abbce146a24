"""A study of the contrastive loss: `python -m tune.contrastive RECIPE [--store URI] [--name STUDY] [--set a.b=c]...`

Its weights and its temperature against validation AUC: one at a time as in T's Figure 3, at random, or by Optuna.
What is searched stands in the recipe under `search`; what a study leaves behind, in tune/study.py.
"""

import argparse
import sys
from collections.abc import Sequence

from trawl import cli, recipes
from trawl.progress import Progress
from trawl.store import Store


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or continue a study. Returns the exit code: 0 done, 1 failed, 2 asked wrongly."""
    return cli.search(
        "tune.contrastive", "search the weights and the temperature of the contrastive loss", _do, arguments
    )


def _do(args: argparse.Namespace) -> int:
    from tune import page, study

    cfg, store = recipes.load(args.recipe, args.set), Store(args.store)
    with Progress(sys.stderr) as progress:
        found = study.run(cfg, store, args.name or f"{cfg.name}-contrastive", progress)
    print(page.terminal(found))
    print(f"study: {found.run.path(page.FILE)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
