"""A training in a task of its own that ends in the middle of an epoch: the next one goes on from its state."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import config, planted

from trawl.config import Config
from trawl.errors import ArtifactError, ConfigError
from trawl.executors import Inline
from trawl.stage import fingerprint, run_stage
from trawl.store import Store
from trawl.training.loop import Training
from trawl.training.stage import MODEL

SETTINGS = ("training.epochs=3", "model.dropout=0.2", "training.w_item=0.1", "resources.checkpoint_steps=5")


class _StoppedError(Exception):
    pass


def stops_after(patch: pytest.MonkeyPatch, steps: int) -> list[tuple[int, int]]:
    """Trainings stop at that step of all; returns the (epoch, step) of each step that was begun."""
    begun: list[tuple[int, int]] = []
    step_of = Training._step

    def stopping(self: Training, step: int, picks: Any) -> None:
        if len(begun) == steps:
            raise _StoppedError
        begun.append((self.progress.epoch, step))
        step_of(self, step, picks)

    patch.setattr(Training, "_step", stopping)
    return begun


def fit(store: Store, marks: dict[str, str], cfg: Config) -> list[dict[str, Any]]:
    mark = run_stage(MODEL, cfg, store, marks, Inline()).fingerprint
    found = json.loads(store.read_text("model", mark, "metrics.json"))["epochs"]
    return [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in found]


@pytest.mark.parametrize("data", ["memory", "stream"])
def test_a_stopped_training_goes_on_from_its_last_state(tmp_path: Path, data: str) -> None:
    cfg = config(*SETTINGS, f"resources.training_data={data}")
    store, marks = planted(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        begun = stops_after(patch, 27)
        with pytest.raises(_StoppedError):
            fit(store, marks, cfg)
        assert begun[-1] == (1, 7)  # 19 steps an epoch
    with pytest.MonkeyPatch.context() as patch:
        begun = stops_after(patch, 10_000)
        found = fit(store, marks, cfg)
        assert begun[0] == (1, 5)
    calm, marks = planted(tmp_path / "calm")
    assert found == fit(calm, marks, cfg.override("resources.checkpoint_steps=0", "resources.training_data=memory"))


@pytest.mark.parametrize("broken", ["half", "empty", "other"])
def test_a_broken_state_ends_the_run_in_one_line(tmp_path: Path, broken: str) -> None:
    store, marks = planted(tmp_path, users=16)
    cfg = config(*SETTINGS, "training.epochs=1")
    whole = io.BytesIO()
    torch.save({"model": {"x": torch.zeros(1000)}, "optimizers": [], "progress": {}, "sums": []}, whole)
    data = {"half": whole.getvalue()[:2000], "empty": b"", "other": whole.getvalue()}[broken]
    store.write_bytes(data, "model", fingerprint(MODEL, cfg, marks), "_work", "state.pt")
    with pytest.raises(ArtifactError, match=r"state\.pt: is no state that .*remove it and run again") as caught:
        fit(store, marks, cfg)
    assert "\n" not in str(caught.value)


def test_gpus_that_are_not_there_end_the_run_in_one_line(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    store, marks = planted(tmp_path)
    with pytest.raises(ConfigError, match=r"training_gpus = 1: this worker sees no GPU"):
        fit(store, marks, config("resources.training_gpus=1"))
