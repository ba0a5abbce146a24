"""kill -9 of a worker, or of the driver, of a training on two Ray Train workers: it goes on in the middle of an epoch.

Checkpoints go to a store on disk, or on a server that speaks S3. The numbers of every epoch are those of the same
training undisturbed, to the last digit.
"""

import json
import re
import time
from pathlib import Path
from typing import Any

import driver
import psutil
import pytest
from s3_server import root

from trawl.store import Store

SETTINGS = (
    "resources.launcher=ray_train",
    "resources.training_workers=2",
    "resources.checkpoint_steps=40",  # a checkpoint takes Ray Train a second or two
    "training.batch_size=16",
    "training.epochs=2",
    "model.dropout=0.1",
    "data.synthetic.users=150",
)


def work(store: Store) -> list[str]:
    """Names of the checkpoints of the model that is being trained."""
    found = [mark for artifact, mark in store.artifacts() if artifact == "model"]
    if len(found) != 1:
        return []
    return [n for n in store.names("model", found[0], "_work", "train") if n.startswith("checkpoint_")]


def epochs(store: Store) -> list[dict[str, Any]]:
    mark = next(mark for artifact, mark in store.artifacts() if artifact == "model")
    found = json.loads(store.read_text("model", mark, "metrics.json"))["epochs"]
    return [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in found]


def kill_a_worker() -> bool:
    """kill -9 of a training worker that this process started through a driver; whether there was one."""
    for process in psutil.Process().children(recursive=True):
        title = " ".join(process.cmdline()) if process.is_running() else ""
        if re.match(r"ray::.*RayTrainWorker", title):
            process.kill()
            return True
    return False


@pytest.mark.parametrize(("whom", "where"), [("worker", "disk"), ("driver", "disk"), ("driver", "s3")])
def test_a_killed_training_goes_on_mid_epoch(
    tmp_path: Path, whom: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 of a worker or the driver between two checkpoints of an epoch: equal metrics in every epoch."""
    monkeypatch.setenv("TRAWL_NODE_CACHE", str(tmp_path / "node"))
    driver.run([*driver.words(tmp_path / "r.toml", str(tmp_path / "calm"), *SETTINGS), "--until", "model"])
    with root(where, tmp_path, monkeypatch) as uri:
        words = [*driver.words(tmp_path / "r.toml", uri, *SETTINGS), "--until", "model"]
        store, kills = Store(uri), [0]

        def strike() -> bool:
            time.sleep(0.1)
            if kills[0] or len(work(store)) < 2:  # two are kept: the second one is of the middle of an epoch
                return False
            if whom == "driver":
                kills[0] += 1
                return True
            kills[0] += kill_a_worker()
            return False

        ended, said = driver.run(words, strike)
        assert kills[0] == 1, said
        assert ended == (whom == "worker")
        if whom == "driver":
            before = work(store)
            assert before, "its checkpoints are there for the next driver"
            assert driver.run(words)[0]
        assert epochs(store) == epochs(Store(str(tmp_path / "calm")))
