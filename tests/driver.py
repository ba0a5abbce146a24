"""`trawl run` of the small world in a process of its own: run to the end or killed, and its tables compared."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import small

from trawl import schemas
from trawl.runs import Run
from trawl.store import Store

VOLATILE = ("seconds", "attempts")  # of an answer: how it was made, not what it is


def words(recipe: Path, store: str, *settings: str) -> list[str]:
    """Arguments of `trawl` for a run named r of the small world; the recipe's file is made empty."""
    recipe.touch()
    sets = [s for s in (*small.SETTINGS, *settings) if not s.startswith("name=")]
    return ["run", str(recipe), "--store", store, "--name", "r", *(word for s in sets for word in ("--set", s))]


def run(
    arguments: list[str], until: Callable[[], bool] | None = None, env: Mapping[str, str] | None = None
) -> tuple[bool, str]:
    """Run to the end, or kill the driver and all that it started as soon as `until` says so.

    (True when it ended by itself, stderr). Raises AssertionError with its stderr when it failed.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "trawl.cli", *arguments],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | dict(env or {}),
    )
    killed = False
    while until and process.poll() is None:
        if until():
            os.killpg(process.pid, signal.SIGKILL)
            killed = True
            break
        time.sleep(0.005)
    _, err = process.communicate(timeout=900)
    assert killed or process.returncode == 0, err
    return not killed, err


def same_tables(one: Store, two: Store) -> None:
    """Every table and result row of the runs named r are equal, apart from how long things took."""
    record = Run(one, "r").read("run.json")
    assert Run(two, "r").read("run.json")["artifacts"] == record["artifacts"]
    for cell in record["cells"]:
        for name, mark in cell["artifacts"].items():
            if name in schemas.CONTRACTS:
                mine, theirs = (small.table(s, {name: mark}, name) for s in (one, two))
                kept = [c for c in mine.column_names if c not in VOLATILE]
                assert mine.select(kept).equals(theirs.select(kept)), name
    scores = [[(r["validation"], r["test"]) for r in Run(s, "r").results()] for s in (one, two)]
    assert scores[0] == scores[1]
    assert scores[0]
