"""Studies with Ray Tune in processes of their own: killed at random moments, many trials at once, few CPUs."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import small

from trawl.runs import Run
from trawl.store import Store

SETTINGS = (*(s for s in small.SETTINGS if not s.startswith("name")), "resources.parallel_cells=2")
LONG = ("data.synthetic.users=400", "data.synthetic.events_per_user=40", "training.batch_size=32")


def command(folder: Path, *settings: str) -> list[str]:
    recipe = folder / "study.toml"
    recipe.touch()
    words = [word for s in (*SETTINGS, *settings) for word in ("--set", s)]
    return [
        sys.executable,
        "-m",
        "tune.contrastive",
        str(folder / "study.toml"),
        "--store",
        str(folder / "store"),
        *words,
    ]


def run(words: list[str], kill_after: float = 0.0, limit: float = 900) -> str | None:
    """What it printed, or None when it was killed after so many seconds with all that it started."""
    process = subprocess.Popen(words, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = process.communicate(timeout=kill_after or limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert kill_after, f"not done after {limit} s: a deadlock"
        return None
    assert process.returncode == 0, err
    return out


def trials(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = Run(Store(str(folder / "store")), "study-contrastive").read("trials.json")["trials"]
    return found


def published(folder: Path) -> dict[str, int]:
    """When each model was published."""
    return {p.parent.name: p.stat().st_mtime_ns for p in (folder / "store" / "model").glob("*/_manifest.json")}


def outcome(folder: Path) -> list[Any]:
    """The trials without their times."""
    rows = []
    for row in trials(folder):
        epochs = [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in row["epochs"]]
        rows.append({k: v for k, v in row.items() if k != "seconds"} | {"epochs": epochs})
    return rows


def test_a_killed_study_goes_on_without_repeating_a_finished_trial(tmp_path: Path) -> None:
    settings = (*LONG, "training.epochs=3")
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    for folder in (calm, wild):
        folder.mkdir()
    started = time.monotonic()
    assert run(command(calm, *settings))
    whole = time.monotonic() - started
    rng, kills, seen = random.Random(4), 0, dict[str, int]()
    while kills < 5 and run(command(wild, *settings), kill_after=rng.uniform(0.3, 0.7) * whole) is None:
        kills += 1
        now = published(wild)
        assert {k: now[k] for k in seen} == seen, "a model that was published is made again"
        seen = now
    assert kills, "the study ended before it could be killed"
    assert run(command(wild, *settings))
    final = published(wild)
    assert {k: final[k] for k in seen} == seen
    assert outcome(wild) == outcome(calm)
    one, two = (Run(Store(str(folder / "store")), "study-contrastive").results() for folder in (calm, wild))
    assert [row["test"] for row in one] == [row["test"] for row in two]
    models = {path.name for path in (wild / "store" / "model").iterdir()}
    assert models == set(final), "nothing half-published is left"


def test_optuna_with_halving_killed_once(tmp_path: Path) -> None:
    settings = (*LONG, "training.epochs=6", "training.patience=6", "search.method=optuna", "search.trials=12")
    tmp_path.mkdir(exist_ok=True)
    words = command(tmp_path, *settings)
    process = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:  # until a few are over
        time.sleep(0.2)
        book = tmp_path / "store" / "runs" / "study-contrastive" / "trials.json"
        if book.exists():
            over = [t for t in json.loads(book.read_text())["trials"] if t["state"] in ("finished", "stopped")]
            if len(over) >= 5:
                os.killpg(process.pid, signal.SIGKILL)
                break
    process.wait()
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    kept = {row["name"]: row for row in trials(tmp_path) if row["state"] in ("finished", "stopped")}
    before = published(tmp_path)
    assert run(words)
    rows = {row["name"]: row for row in trials(tmp_path)}
    assert len(rows) == 13 and {row["state"] for row in rows.values()} <= {"finished", "stopped"}
    assert {name: rows[name] for name in kept} == kept, "what was over is not done again"
    assert {k: v for k, v in published(tmp_path).items() if k in before} == before
    assert len({tuple(row["values"].values()) for row in rows.values()}) == 13
    stopped = [row for row in rows.values() if row["state"] == "stopped"]
    assert stopped and all(len(row["epochs"]) < 6 for row in stopped)
    assert rows["baseline"]["state"] == "finished" and len(rows["baseline"]["epochs"]) == 6
    assert {row["model"] for row in rows.values() if row["state"] == "finished"} == set(published(tmp_path))


@pytest.mark.parametrize(("cpus", "side_by_side"), [(1, 4), (2, 2), (4, 4)])
def test_trials_side_by_side_never_wait_for_each_other(tmp_path: Path, cpus: int, side_by_side: int) -> None:
    """More trials at a time than CPUs, as many, and on a cluster of this size the stages before as tasks of Ray."""
    settings = (
        f"resources.num_cpus={cpus}",
        f"resources.parallel_cells={side_by_side}",
        "resources.executor=ray",
        "resources.actors=1",
        "search.repetitions=2",
        "search.w_item=[]",
        "search.temperature=[]",
    )
    out = run(command(tmp_path, *settings), limit=400)
    assert out and out.splitlines()[-1].startswith("study: ")
    assert len(trials(tmp_path)) == 14 and all(row["state"] == "finished" for row in trials(tmp_path))
