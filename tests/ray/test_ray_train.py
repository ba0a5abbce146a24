"""The model stage on Ray Train: 1 and 2 workers agree, and a killed worker's group goes on."""

import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from planted import config, planted

from trawl.config import Config
from trawl.errors import ConfigError, EngineDied, StoreError
from trawl.executors import Inline
from trawl.inputs import Inputs
from trawl.stage import fingerprint, run_stage
from trawl.store import Store
from trawl.training import trainer
from trawl.training.diverging import Diverged
from trawl.training.loop import Training
from trawl.training.material import material
from trawl.training.stage import MODEL

SETTINGS = (
    "resources.launcher=ray_train",
    "training.precision=float64",
    "training.epochs=2",
    "training.w_item=0.1",
    "training.w_user=0.1",
)


def metrics(store: Store, mark: str) -> list[dict[str, Any]]:
    found = json.loads(store.read_text("model", mark, "metrics.json"))
    return [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in found["epochs"]]


def assert_close(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert one.pop("validation") == pytest.approx(other.pop("validation"), abs=1e-8)
        assert one.pop("gates", None) == other.pop("gates", None)  # rounded to four digits
        norms = [epoch.pop("norms", {}) for epoch in (one, other)]
        assert norms[0].keys() == norms[1].keys()
        for part, values in norms[0].items():
            assert values == pytest.approx(norms[1][part], abs=1e-8)
        assert one == pytest.approx(other, abs=1e-8)


@pytest.mark.usefixtures("ray_cluster")
def test_two_ray_workers_agree_with_this_process(tmp_path: Path) -> None:
    store, marks = planted(tmp_path)
    cfg = config(*SETTINGS, "resources.training_workers=2")
    there = run_stage(MODEL, cfg, store, marks, Inline()).fingerprint
    found = metrics(store, there)
    assert json.loads(store.read_text("model", there, "metrics.json"))["workers"] == 2
    store, marks = planted(tmp_path / "alone")
    here = run_stage(
        MODEL, cfg.override("resources.launcher=task", "resources.training_workers=1"), store, marks, Inline()
    ).fingerprint
    assert here == there  # where a model was trained is no part of what it is
    assert_close(found, metrics(store, here))


class _Killer:
    """Makes the material; of the first attempt, the last worker dies some steps after a checkpoint of the second epoch.

    Each worker notes where it begins an epoch.
    """

    def __init__(self, make: Any, folder: str, workers: int) -> None:
        self.make, self.folder, self.workers = make, Path(folder), workers

    def __call__(self) -> Any:
        import ray.train

        model, found = self.make()
        rank = ray.train.get_context().get_world_rank()
        forward, calls, batches = model.forward, [0], found.train.batches
        steps = -(-len(found.train) // 64)

        def noting(size: int, seed: int, epoch: int, first: int = 0) -> Any:
            with (self.folder / f"begun-{rank}").open("a") as file:
                file.write(f"{epoch} {first}\n")
            return batches(size, seed, epoch, first)

        def dying(*args: Any) -> Any:
            calls[0] += 1
            last = rank == self.workers - 1
            if last and calls[0] > steps + 1 + 8 and not (self.folder / "died").exists():  # one call validated
                time.sleep(4)  # Ray's controller asks for what was reported each second or so
                (self.folder / "died").touch()
                os._exit(9)
            return forward(*args)

        model.forward = dying
        object.__setattr__(found.train, "batches", noting)
        return model, found


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(("workers", "data"), [pytest.param(1, "memory", marks=pytest.mark.slow), (2, "stream")])
def test_a_killed_worker_group_resumes_mid_epoch_and_ends_in_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, data: str
) -> None:
    """To the last digit, epoch sums and dropout included; 1 worker against this process, 2 against 2 undisturbed."""
    cfg = config(*SETTINGS, "model.dropout=0.2", f"resources.training_workers={workers}")
    store, marks = planted(tmp_path)
    on_ray = trainer.train_on_ray
    monkeypatch.setattr(
        trainer, "train_on_ray", lambda make, *rest: on_ray(_Killer(make, str(tmp_path), workers), *rest)
    )
    killed = cfg.override("resources.checkpoint_steps=5", f"resources.training_data={data}")
    there = run_stage(MODEL, killed, store, marks, Inline()).fingerprint
    assert (tmp_path / "died").exists()
    for rank in range(workers):
        begun = (tmp_path / f"begun-{rank}").read_text().split("\n")[:-1]
        assert begun == ["0 0", "1 0", "1 5"], "it went on from the checkpoint in the middle of the epoch"
    monkeypatch.setattr(trainer, "train_on_ray", on_ray)
    calm, marks = planted(tmp_path / "undisturbed")
    alone = ["resources.launcher=task", "resources.training_workers=1"] if workers == 1 else []
    here = run_stage(MODEL, cfg.override(*alone), calm, marks, Inline()).fingerprint
    assert here == there
    assert metrics(store, there) == metrics(calm, here)


def _fails() -> Any:
    raise ValueError("no such thing as this material")


@pytest.mark.usefixtures("ray_cluster")
def test_a_training_that_fails_says_why_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "_FAILURES", 0)
    store = Store(str(tmp_path))
    with pytest.raises(EngineDied, match="no such thing as this material") as caught:
        trainer.train_on_ray(_fails, config(*SETTINGS), store, ("model", "x", "_work"))
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("ray_cluster")
def test_a_training_that_diverges_is_not_tried_again(tmp_path: Path) -> None:
    """Both workers end at the first checkpoint after it, and the driver names the key."""
    store, marks = planted(tmp_path, users=30)
    cfg = config(*SETTINGS, "resources.training_workers=2", "resources.checkpoint_steps=2", "training.lr=1e200")
    with pytest.raises(Diverged, match=r"first 2 steps of epoch 0; take a smaller training\.lr \(it is 1e\+200\)"):
        run_stage(MODEL, cfg, store, marks, Inline())
    mark = fingerprint(MODEL, cfg, marks)
    assert not [n for n in store.names("model", mark, "_work", "train") if n.startswith("checkpoint_")]
    assert store.manifest("model", mark) is None


@pytest.mark.usefixtures("ray_cluster")
def test_more_workers_than_cpus_are_refused_before_they_wait_for_ever(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"training_workers = 999, its workers ask for a CPU each, this machine has 4; take"
    ):
        trainer.train_on_ray(_fails, config(*SETTINGS, "resources.training_workers=999"), Store(str(tmp_path)), ("x",))


def test_an_error_of_a_worker_comes_back_as_itself() -> None:
    from ray.train import WorkerGroupError
    from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

    there = WorkerGroupError("long", {1: UserExceptionWithTraceback(StoreError("disk: full"), "trace")})
    found = trainer._died(there)
    assert (type(found), str(found)) == (StoreError, "disk: full")


def _stopped(inputs: Inputs, cfg: Config, kept: list[bytes]) -> None:
    """The states that a training of this process keeps in its second epoch, marked so that they are known again."""
    training = Training(*material(inputs, cfg), cfg)

    def report(record: Any, state: Any) -> None:
        if training.progress.epoch == 1 and record is None:
            training.progress.epochs[0]["seconds"] = 12345.0
            data = io.BytesIO()
            torch.save(state() | {"peak_mib": 1.0}, data)
            kept.append(data.getvalue())

    training.run(report)


@pytest.mark.usefixtures("ray_cluster")
def test_a_driver_killed_while_ray_writes_its_list_goes_on_from_the_newest_whole_checkpoint(tmp_path: Path) -> None:
    store, marks = planted(tmp_path, users=40)
    cfg = config(*SETTINGS, "resources.checkpoint_steps=2")
    kept: list[bytes] = []
    _stopped(Inputs(store, marks, work=("model", "x", "_work")), cfg, kept)
    home = ("model", fingerprint(MODEL, cfg, marks), "_work", "train")
    for name, data in (("2", kept[0]), ("3", kept[1]), ("4", kept[1][:3000])):
        store.write_bytes(data, *home, f"checkpoint_{name}", "state.pt")
    store.write_text('{"ray_version": "2.6', *home, "checkpoint_manager_snapshot.json")
    there = run_stage(MODEL, cfg, store, marks, Inline()).fingerprint
    found = json.loads(store.read_text("model", there, "metrics.json"))["epochs"]
    assert found[0]["seconds"] == 12345.0
    calm, marks = planted(tmp_path / "undisturbed", users=40)
    here = run_stage(MODEL, cfg.override("resources.launcher=task"), calm, marks, Inline()).fingerprint
    assert metrics(store, there) == metrics(calm, here)
