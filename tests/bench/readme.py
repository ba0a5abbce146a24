"""Makes the tables of README.md and docs/*.md from files of measured figures.

`python tests/bench/readme.py` writes them, `--check` only compares.

docs/figures.json: {"machine", "date", "rows": [{"what", "figure", "how"}]}
docs/results/<name>.json: finished cells and comparisons of a run, taken over by `--take RUN_FOLDER NAME`.
docs/results/<name>.jsonl: cells of an experiment that is run piece by piece, written by cells.py: see tables.py.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tables

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def figures() -> str:
    """The table of seconds, memory and ratios."""
    record = json.loads((ROOT / "docs" / "figures.json").read_text(encoding="utf-8"))
    lines = [f"{record['machine']}, {record['date']}.", "", "| what | measured | how |", "|-|-|-|"]
    lines += [f"| {row['what']} | {row['figure']} | {row['how']} |" for row in record["rows"]]
    return "\n".join(lines)


def results(name: str) -> str:
    """One row per arm of a run: means over the repetitions, the difference in test AUC with its 95 % interval."""
    record = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    rows, part = record["result"], "cold" if name.endswith("cold") else "all"
    found = {(c["arm"], c["metric"]): c for c in record["comparisons"] if c["slice"] == part}
    head = f"| arm | n | AUC | gAUC | LogLoss | AUC - {found[next(iter(found))]['reference']} | gAUC - the same |"
    lines = [head, "|-|-|-|-|-|-|-|"]
    for arm in dict.fromkeys(row["arm"] for row in rows):
        mine = [row["test"] if part == "all" else row["test"]["cold"] for row in rows if row["arm"] == arm]
        means = [f"{np.mean([m[metric] for m in mine]):.4f}" for metric in ("auc", "gauc", "logloss")]
        ends = [difference(found.get((arm, metric))) for metric in ("auc", "gauc")]
        lines.append(f"| {arm} | {len(mine)} | {' | '.join([*means, *ends])} |")
    return "\n".join(lines)


def difference(row: dict[str, Any] | None) -> str:
    return f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]" if row else "-"


TABLES = {"results": results, "cells": tables.cells, "cross": tables.cross, "slices": tables.slices}


def render(text: str) -> str:
    """A page with what stands between its markers made anew."""

    def fill(match: re.Match[str]) -> str:
        kind, _, name = match[1].partition(":")
        made = figures() if kind == "figures" else TABLES[kind](name)
        return f"<!-- {match[1]} -->\n{made}\n<!-- end -->"

    return re.sub(
        r"<!-- ((?:figures|(?:results|cells|cross|slices):[a-z0-9:-]+)) -->\n.*?<!-- end -->",
        fill,
        text,
        flags=re.DOTALL,
    )


def take(folder: Path, name: str) -> None:
    """Copy a run's finished cells, comparisons and recipe (without paths) into docs/results."""
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    kept = {key: run[key] for key in ("created", "commit", "recipe_digest")}
    for file in ("result", "comparisons"):
        kept[file] = json.loads((folder / f"{file}.json").read_text(encoding="utf-8"))
    target = ROOT / "docs" / "results" / f"{name}.json"
    target.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--take", nargs=2, metavar=("RUN_FOLDER", "NAME"))
    args = parser.parse_args()
    if args.take:
        take(Path(args.take[0]), args.take[1])
    stale = 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        made = render(text)
        stale += made != text
        if not args.check:
            page.write_text(made, encoding="utf-8")
    return int(args.check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
