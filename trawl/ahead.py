"""The commands to give before a run: `trawl plan` and `trawl doctor`. Part of the command line."""

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

from trawl import printing, recipes
from trawl.config import Config


def add(
    commands: Any, command: Callable[[Any, str, Any, str], ArgumentParser], add_store: Callable[[ArgumentParser], None]
) -> None:
    """Add both commands with the command line's own helpers."""
    plan = command(commands, "plan", _plan, "what a run would take, before anything is spent: tokens, hours, bytes")
    _add_recipe(plan, add_store, optional=False)
    plan.add_argument("--probe", action="store_true", help="measure: run one real engine on a sample of the prompts")
    plan.add_argument("--gpu", default="", metavar="NAME", help="reckon with this GPU (plan.gpu)")
    doctor = command(commands, "doctor", _doctor, "what is wrong with this set-up, and what to do")
    _add_recipe(doctor, add_store, optional=True)


def _add_recipe(parser: ArgumentParser, add_store: Callable[[ArgumentParser], None], optional: bool) -> None:
    known = f"a path to a .toml file, or one of {', '.join(recipes.shipped())}"
    parser.add_argument("recipe", nargs="?" if optional else None, default="", help=known)
    add_store(parser)
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="change a key of the recipe")
    parser.add_argument("--json", action="store_true", help="JSON on stdout")


def _plan(args: Namespace) -> None:
    from trawl import executors
    from trawl.planning import front, table
    from trawl.progress import Progress, Watched
    from trawl.store import Store

    gpu = [f"plan.gpu={json.dumps(args.gpu)}"] if args.gpu else []
    cfg: Config = recipes.load(args.recipe, [*args.set, *gpu])
    with Progress(sys.stderr) as progress:
        executor = Watched(executors.executor(cfg), progress)
        tell = progress.above(printing.stage_line)
        tree = front.plan(cfg, Store(args.store), executor, tell, args.probe)
    print(json.dumps(tree) if args.json else table.lines(tree))


def _doctor(args: Namespace) -> int:
    from trawl.doctor import front

    cfg = recipes.load(args.recipe, args.set) if args.recipe else Config().override(*args.set)
    tell: Callable[[Any], None] = (lambda finding: None) if args.json else lambda f: print(front.line(f), flush=True)
    findings = front.examine(front.patient_of(cfg, args.store), tell, front.LANES)
    found = front.tree(findings)
    if args.json:
        print(json.dumps(found))
    else:
        print("nothing fails" if found["ok"] else "something fails: see the lines above")
    return 0 if found["ok"] else 1
