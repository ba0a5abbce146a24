"""kill -9 of `trawl run` at random moments: the same command goes on and ends in the undisturbed run's tables."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small

from trawl import schemas
from trawl.runs import Run
from trawl.store import Store

VOLATILE = ("seconds", "attempts")


def command(store: Path, executor: str) -> list[str]:
    settings = [*small.SETTINGS, f"resources.executor={executor}"]
    arms = [f"experiment.arms.{a}.extraction.source={a}" for a in ("extracted", "shuffled")]
    words = [word for s in (*settings, *arms) if not s.startswith("name=") for word in ("--set", s)]
    words += ["--set", 'experiment.reference="extracted"', "--set", "experiment.repetitions=1"]
    recipe = store.parent / "empty.toml"
    recipe.touch()
    return [sys.executable, "-m", "trawl.cli", "run", str(recipe), "--store", str(store), "--name", "r", *words]


def run(words: list[str], kill_after: float = 0.0) -> bool:
    """Run to the end, or kill the driver and all that it started after some seconds. True when it ended by itself."""
    process = subprocess.Popen(
        words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _, err = process.communicate(timeout=kill_after or 600)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return False
    assert process.returncode == 0, err
    return True


@pytest.mark.parametrize("executor", ["inline", "ray"])
def test_killed_runs_go_on(tmp_path: Path, executor: str) -> None:
    (tmp_path / "calm").mkdir()
    started = time.monotonic()
    assert run(command(tmp_path / "calm" / "store", executor))
    whole = time.monotonic() - started
    (tmp_path / "wild").mkdir()
    words = command(tmp_path / "wild" / "store", executor)
    rng, kills = random.Random(executor), 0
    while kills < 6 and not run(words, kill_after=rng.uniform(0.1, 0.8) * whole):
        kills += 1
    assert kills, "the run ended before it could be killed"
    assert run(words)
    calm, wild = (Store(str(tmp_path / name / "store")) for name in ("calm", "wild"))
    record = Run(calm, "r").read("run.json")
    assert Run(wild, "r").read("run.json")["artifacts"] == record["artifacts"]
    for cell in record["cells"]:
        for name, mark in cell["artifacts"].items():
            if name in schemas.CONTRACTS:
                one, two = (small.table(s, {name: mark}, name) for s in (calm, wild))
                kept = [c for c in one.column_names if c not in VOLATILE]
                assert one.select(kept).equals(two.select(kept)), name
    scores = [[r["test"] for r in Run(s, "r").results()] for s in (calm, wild)]
    assert scores[0] == scores[1]
