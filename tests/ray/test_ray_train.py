"""The model stage on Ray Train: 1 and 2 workers agree, and a killed worker's group goes on."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from planted import config, planted

from trawl.errors import EngineDied
from trawl.executors import Inline
from trawl.stage import run_stage
from trawl.store import Store
from trawl.training import stage, trainer
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
    """Makes the material; the worker of the first attempt dies in its second epoch."""

    def __init__(self, make: Any, marker: str) -> None:
        self.make, self.marker = make, marker

    def __call__(self) -> Any:
        model, found = self.make()
        forward, calls, steps = model.forward, [0], -(-len(found.train) // 64)

        def dying(*args: Any) -> Any:
            calls[0] += 1
            if calls[0] > steps + 3 + 1 and not Path(self.marker).exists():  # one call of the epoch is its validation
                Path(self.marker).touch()
                os._exit(9)
            return forward(*args)

        model.forward = dying
        return model, found


@pytest.mark.usefixtures("ray_cluster")
def test_a_killed_worker_group_resumes_and_ends_in_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, marks = planted(tmp_path)
    cfg, marker = config(*SETTINGS), tmp_path / "died"
    original = stage.material
    on_ray = trainer.train_on_ray
    monkeypatch.setattr(trainer, "train_on_ray", lambda make, *rest: on_ray(_Killer(make, str(marker)), *rest))
    there = run_stage(MODEL, cfg, store, marks, Inline()).fingerprint
    assert marker.exists()
    assert stage.material is original
    found = metrics(store, there)
    store, marks = planted(tmp_path / "undisturbed")
    here = run_stage(
        MODEL, cfg.override("resources.launcher=task", "resources.training_workers=1"), store, marks, Inline()
    ).fingerprint
    assert_close(found, metrics(store, here))


def _fails() -> Any:
    raise ValueError("no such thing as this material")


@pytest.mark.usefixtures("ray_cluster")
def test_a_training_that_fails_says_why_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "_FAILURES", 0)
    store = Store(str(tmp_path))
    with pytest.raises(EngineDied, match="no such thing as this material") as caught:
        trainer.train_on_ray(_fails, config(*SETTINGS), store, ("model", "x", "_work"))
    assert "\n" not in str(caught.value)
