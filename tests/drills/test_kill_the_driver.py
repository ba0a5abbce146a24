"""kill -9 of `trawl run` at random moments: the same command goes on and ends in the undisturbed run's tables."""

import os
import random
import time
from pathlib import Path

import driver
import pytest
from s3_server import root

from trawl.runs import Run
from trawl.store import Store

KILLS = 6
ARMS = (
    "experiment.arms.extracted.extraction.source=extracted",
    "experiment.arms.shuffled.extraction.source=shuffled",
    'experiment.reference="extracted"',
    "experiment.repetitions=1",
)


def published(store: Store) -> dict[tuple[str, str], float]:
    """When each artifact was published."""
    marks = [key for key in store.artifacts() if store.exists(*key, "_manifest.json")]
    return {key: store.fs.get_file_info(store.path(*key, "_manifest.json")).mtime_ns for key in marks}


@pytest.mark.parametrize(
    ("executor", "launcher", "where"),
    [("inline", "task", "disk"), ("inline", "task", "s3"), ("ray", "task", "disk"), ("ray", "ray_train", "s3")],
)
def test_killed_runs_go_on(
    tmp_path: Path, executor: str, launcher: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 of driver and workers at random moments: it goes on, ends in the same tables, makes nothing twice."""
    settings = (*ARMS, f"resources.executor={executor}", f"resources.launcher={launcher}")
    seed = int(os.environ.get("DRILL_SEED") or random.randrange(10**6))
    print(f"DRILL_SEED={seed}")
    rng, kills = random.Random(seed), 0
    started = time.monotonic()
    driver.run(driver.words(tmp_path / "r.toml", str(tmp_path / "calm"), *settings))
    whole = time.monotonic() - started
    with root(where, tmp_path, monkeypatch) as uri:
        words, seen = driver.words(tmp_path / "r.toml", uri, *settings), {}
        for _ in range(KILLS):
            end = time.monotonic() + rng.uniform(0.1, 0.8) * whole
            ended, _ = driver.run(words, lambda end=end: time.monotonic() > end)
            now = published(Store(uri))
            assert {key: now[key] for key in seen} == seen, "something was published a second time"
            seen = now
            if ended:
                break
            kills += 1
        assert kills, "the run ended before it could be killed"
        assert driver.run(words)[0]
        driver.same_tables(Store(str(tmp_path / "calm")), Store(uri))
        assert Run(Store(uri), "r").read("run.json")["state"] == "done"
