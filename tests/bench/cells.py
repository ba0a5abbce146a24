"""Runs a large experiment piece by piece and keeps every finished cell in a file that outlives the store.

    python tests/bench/cells.py RECIPE --store URI --out docs/results/NAME.jsonl [--name RUN] [--set a.b=c]...
        [--minutes M] [--arms PATTERN]... [--of-arm ARM.a.b=c]... [--at-a-time N]

A line of the file is one cell: arm, repetition, its metrics, its differences from the reference arm of the same
repetition with their standard errors over resampled test users, and recipe digest, fingerprint, machine, commit, day.
What stands there with the same fingerprint is not trained again, so an experiment goes on in another session or on
another machine; the reference is trained again where its predictions are gone. Repetitions are the outer loop.
"""

import argparse
import fnmatch
import json
import math
import os
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trawl import arms, experiment, printing, recipes
from trawl.config import Config
from trawl.environment import commit
from trawl.executors import executor
from trawl.runs import Cell
from trawl.stage import Executor
from trawl.store import Store
from trawl.training import comparing, statistics

SLICES = ("all", "warm", "cold")


def finished(path: Path) -> dict[str, dict[str, Any]]:
    """The cells that the file has, by arm, repetition and fingerprint of their predictions."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines if line.strip()]
    return {key(row["arm"], row["repetition"], row["fingerprint"]): row for row in rows}


def key(arm: str, repetition: int, fingerprint: str) -> str:
    return f"{arm}/{repetition}/{fingerprint}"


def key_of(cell: Cell) -> str:
    return key(cell.arm, cell.repetition, cell.fingerprints["predictions"])


def machine() -> str:
    """Model of the processor and how many of it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{model or platform.processor() or platform.machine()}, {os.cpu_count()} virtual cores"


def part(cfg: Config, names: list[str], repetition: int) -> Config:
    """The recipe with some arms of one repetition, the reference first."""
    known = arms.chosen(cfg).arms
    reference = cfg.experiment.reference or next(iter(known))
    named = {arm: known[arm] for arm in dict.fromkeys([reference, *names])}
    tree = cfg.model_dump(mode="json")
    tree["experiment"] |= {"arms": named, "cross": {}, "reference": reference, "repetitions": 1}
    moved = Config.model_validate(tree)
    return moved.override(
        ("data.split_seed", cfg.data.split_seed + repetition), ("training.seed", cfg.training.seed + repetition)
    )


def differences(store: Store, cell: Cell, reference: Cell, resamples: int) -> dict[str, dict[str, list[float]]]:
    """slice -> metric -> [difference, its standard error]: paired resamples of the test users of this split."""
    out: dict[str, dict[str, list[float]]] = {}
    if cell.arm == reference.arm:
        return out
    for name in SLICES if cell.cfg.data.cold_items > 0 else SLICES[:1]:
        both = [
            statistics.replicates([comparing.of_test(store, c.fingerprints["predictions"], name)], resamples)
            for c in (cell, reference)
        ]
        found = {}
        for column, metric in enumerate(statistics.METRICS):
            draws = both[0].draws[:, column] - both[1].draws[:, column]
            mean = both[0].point[metric] - both[1].point[metric]
            if math.isfinite(mean):
                found[metric] = [mean, float(draws.std(ddof=1))]
        out[name] = found
    return out


def written_out(cfg: Config, settings: list[str]) -> Config:
    """The recipe with the arms of its cross among the named ones, and settings of single arms (`ARM.a.b=c`)."""
    known = arms.chosen(cfg).arms
    if unknown := [setting for setting in settings if setting.partition(".")[0] not in known]:
        raise SystemExit(f"--of-arm {unknown[0]}: the recipe has no such arm")
    tree = cfg.model_dump(mode="json")
    tree["experiment"] |= {"arms": known, "cross": {}}
    return Config.build(tree, *(f"experiment.arms.{setting}" for setting in settings))


def refuse_unlike(cells: list[Cell]) -> None:
    """Differences are paired by test row: an arm with other samples needs a file of its own."""
    of_repetition = {cell.repetition: cell.fingerprints["samples"] for cell in reversed(cells)}
    for cell in cells:
        if cell.fingerprints["samples"] != of_repetition[cell.repetition]:
            raise SystemExit(
                f"arm {cell.arm}: its test rows are not those of {cells[0].arm}; run it as an experiment of its own"
            )


def brief(value: Any) -> Any:
    """With six digits after the point, of which no table shows more than four: a fifth of the file is saved."""
    if isinstance(value, dict):
        return {key: brief(one) for key, one in value.items()}
    if isinstance(value, list):
        return [brief(one) for one in value]
    return round(value, 6) if isinstance(value, float) else value


def listen() -> experiment.Listener:
    return experiment.Listener(printing.stage_line, printing.cell_line)


def run_part(cfg: Config, store: Store, make: Executor, names: list[str], repetition: int, out: Path) -> None:
    """Train some arms of a repetition and append their rows."""
    mine = part(cfg, names, repetition)
    cells = {cell.arm: cell for cell in experiment.expand(mine)}
    name = f"{cfg.name}-{repetition}-{names[0]}".replace("+", "-").replace(" ", "")
    run = experiment.run(mine, store, name, lambda _: make, listen())
    rows = {row["arm"]: row for row in run.results()}
    reference = cells[mine.experiment.reference]
    with out.open("a", encoding="utf-8") as file:
        for arm in names:
            cell = cells[arm]
            row = {k: v for k, v in rows[arm].items() if k not in ("model", "predictions")}
            row |= {
                "repetition": repetition,
                "lr": cell.cfg.training.lr,
                "reference": reference.arm,
                "differences": differences(store, cell, reference, cfg.experiment.bootstrap),
                "fingerprint": cell.fingerprints["predictions"],
                "recipe": cfg.digest(),
                "machine": machine(),
                "commit": commit(),
                "day": datetime.now(UTC).strftime("%Y-%m-%d"),
            }
            file.write(json.dumps(brief(row)) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--store", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--name", default="", help="begins the names of the runs; default: the recipe's")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c")
    parser.add_argument("--arms", action="append", default=[], help="only arms that match one of these patterns")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin nothing after so many minutes")
    parser.add_argument("--of-arm", action="append", default=[], metavar="ARM.a.b=c", help="a setting of one arm")
    parser.add_argument("--at-a-time", type=int, default=8, help="arms between two writings of the file")
    options = parser.parse_args()
    cfg = recipes.load(options.recipe, options.set)
    cfg = cfg.model_copy(update={"name": options.name or cfg.name})
    for arm, reason in arms.chosen(cfg).left_out.items():
        print(f"arm {arm} is left out: {reason}", file=sys.stderr)
    cfg = written_out(cfg, options.of_arm)
    store, make, started = Store(options.store), executor(cfg), time.monotonic()
    cells = experiment.expand(cfg)
    refuse_unlike(cells)
    cells = [c for c in cells if not options.arms or any(fnmatch.fnmatch(c.arm, p) for p in options.arms)]
    for repetition in range(cfg.experiment.repetitions):
        there = finished(options.out)
        due = [c.arm for c in cells if c.repetition == repetition and key_of(c) not in there]
        for start in range(0, len(due), options.at_a_time):
            if time.monotonic() - started > 60 * options.minutes:
                print(f"time is up; {len(due) - start} arms of repetition {repetition} are left", file=sys.stderr)
                return 0
            run_part(cfg, store, make, due[start : start + options.at_a_time], repetition, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
