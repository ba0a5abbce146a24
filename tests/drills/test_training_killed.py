"""kill -9 of a worker, or of the driver, of a training on two Ray Train workers: it goes on in the middle of an epoch.

Checkpoints go to a store on disk, or on a server that speaks S3. The numbers of every epoch are those of the same
training undisturbed, to the last digit. Those of a training that begins anew are too, so a mark in the checkpoints
tells that it went on from one.
"""

import io
import json
import re
import time
from pathlib import Path
from typing import Any

import driver
import psutil
import pytest
import torch
from s3_server import root

from trawl.store import Store
from trawl.training.checkpoints import LIST, STATE, newest

MARK = 1e6  # seconds that no epoch takes

SETTINGS = (
    "resources.launcher=ray_train",
    "resources.training_workers=2",
    "resources.checkpoint_steps=20",  # of some 60 in an epoch; a checkpoint takes Ray Train a second or two
    "training.batch_size=16",
    "training.epochs=2",
    "model.dropout=0.1",
    "data.synthetic.users=150",
)


def home(store: Store) -> tuple[str, ...] | None:
    """Where the checkpoints of the model lie that is being trained."""
    found = [mark for artifact, mark in store.artifacts() if artifact == "model"]
    return ("model", found[0], "_work", "train") if len(found) == 1 else None


def work(store: Store) -> list[str]:
    """Names of its checkpoints, without Ray's list of them."""
    folder = home(store)
    names = [] if folder is None else store.names(*folder)
    return [name for name in names if name.startswith("checkpoint_") and name != LIST]


def marked(store: Store) -> bool:
    """Whether there are two checkpoints, as many as are kept, both of the middle of an epoch, and Ray has listed one.

    It asks each second or so; a kill before that begins anew. If so, a training that goes on from one has the mark
    among its epoch's seconds; the one that wrote them has it not.
    """
    folder, names = home(store), work(store)
    if folder is None or len(names) < 2:
        return False
    listed = store.find_bytes(*folder, LIST)
    if listed is None or not any(name.encode() in bytes(listed) for name in names):
        return False
    for name in names:
        found = newest(store, folder, [name])
        if found is None:  # it is being written
            return False
        state, data = torch.load(found[0], weights_only=True), io.BytesIO()
        if not state["progress"]["step"]:
            return False
        state["progress"]["seconds"] = MARK
        torch.save(state, data)
        store.write_bytes(data.getvalue(), *folder, name, STATE)
    return work(store) == names


def epochs(store: Store) -> tuple[list[dict[str, Any]], bool]:
    """What is told of them but for the seconds; whether those have the mark."""
    mark = next(mark for artifact, mark in store.artifacts() if artifact == "model")
    found = json.loads(store.read_text("model", mark, "metrics.json"))["epochs"]
    seconds = [epoch.pop("seconds") for epoch in found]
    return found, max(seconds) >= MARK


def workers() -> list[psutil.Process]:
    """The training workers that this process started through a driver."""
    found = psutil.Process().children(recursive=True)
    return [p for p in found if p.is_running() and re.match(r"ray::.*RayTrainWorker", " ".join(p.cmdline()))]


def kill_a_worker(store: Store) -> bool:
    """kill -9 of a training worker; whether it was done. All are halted while their checkpoints are marked: else one
    without the mark, written just before the kill, may be what the training goes on from."""
    if len(work(store)) < 2 or not (found := workers()):
        return False
    for process in found:
        process.suspend()
    done = marked(store)
    if done:
        found.pop().kill()
    for process in found:
        process.resume()
    return done


@pytest.mark.parametrize(("whom", "where"), [("worker", "disk"), ("driver", "disk"), ("driver", "s3")])
def test_a_killed_training_goes_on_mid_epoch(
    tmp_path: Path, whom: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 of a worker or the driver between two checkpoints of an epoch: it goes on from there, and the metrics of
    every epoch are equal."""
    monkeypatch.setenv("TRAWL_NODE_CACHE", str(tmp_path / "node"))
    driver.run([*driver.words(tmp_path / "r.toml", str(tmp_path / "calm"), *SETTINGS), "--until", "model"])
    with root(where, tmp_path, monkeypatch) as uri:
        words = [*driver.words(tmp_path / "r.toml", uri, *SETTINGS), "--until", "model"]
        store, kills = Store(uri), [0]

        def strike() -> bool:
            time.sleep(0.1)
            if kills[0]:
                return False
            kills[0] += kill_a_worker(store) if whom == "worker" else marked(store)
            return kills[0] > 0 and whom == "driver"

        ended, said = driver.run(words, strike)
        assert kills[0] == 1, said
        assert ended == (whom == "worker")
        if whom == "driver":
            before = work(store)
            assert before, "its checkpoints are there for the next driver"
            assert driver.run(words)[0]
        (found, resumed), (calm, disturbed) = epochs(store), epochs(Store(str(tmp_path / "calm")))
        assert found == calm
        assert resumed, "it began anew"
        assert not disturbed
