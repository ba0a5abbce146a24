"""Trainings without numbers to go by: a loss that is none ends it, a validation that tells nothing keeps the last."""

import json
from pathlib import Path

import pytest
from planted import config, fit, planted

from trawl.errors import InputError
from trawl.executors import Inline
from trawl.inputs import Inputs
from trawl.stage import fingerprint, run_stage
from trawl.training.diverging import Diverged
from trawl.training.stage import MODEL


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ((), "the first 2 steps of epoch 0"),
        (("training.batch_size=2048",), "validation's scores are not numbers, after epoch 0"),  # one step an epoch
    ],
)
def test_a_diverged_training_publishes_nothing(tmp_path: Path, settings: tuple[str, ...], where: str) -> None:
    store, marks = planted(tmp_path, users=16)
    cfg = config("training.lr=1e38", "training.warmup=0", "resources.checkpoint_steps=2", *settings)
    with pytest.raises(Diverged, match=rf"{where}; take a smaller training\.lr \(it is 1e\+38\)"):
        run_stage(MODEL, cfg, store, marks, Inline())
    mark = fingerprint(MODEL, cfg, marks)
    assert store.manifest("model", mark) is None
    assert not store.exists("model", mark, "_work", "state.pt")


def test_without_a_validation_the_last_epoch_is_kept_and_the_files_are_json(tmp_path: Path) -> None:
    store, marks = planted(tmp_path, users=7)  # the first validation user is number 8
    cfg = config("training.epochs=3", "training.patience=1")
    marks, predictions = fit(store, marks, cfg)
    assert predictions.num_rows == 0

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    found = json.loads(store.read_text("model", marks["model"], "metrics.json"), parse_constant=refuse)
    assert [epoch["validation"]["auc"] for epoch in found["epochs"]] == [None] * 3
    assert found["best_epoch"] == 2
    json.loads(store.read_text("model", marks["model"], "_manifest.json"), parse_constant=refuse)
    assert Inputs(store, marks).manifest("model").notes["validation"]["rows"] == 0


def test_no_training_row_is_told(tmp_path: Path) -> None:
    store, marks = planted(tmp_path, cold=tuple(range(1, 31)))
    cfg = config("extraction.source=none", "data.cold_items=0.2")
    with pytest.raises(InputError, match=r"there is no training row: give data\.split a share .*data\.cold_items"):
        run_stage(MODEL, cfg, store, marks, Inline())
