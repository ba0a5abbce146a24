"""Who hears of a training's epochs may stop it, and then it leaves nothing."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from planted import config, planted

from trawl.executors import Inline
from trawl.stage import run_stage
from trawl.training import epochs
from trawl.training.stage import MODEL

SETTINGS = ("resources.launcher=task", "training.epochs=3", "training.patience=3")


def test_each_epoch_is_heard_as_it_is_recorded_and_only_inside_the_block(tmp_path: Path) -> None:
    store, marks = planted(tmp_path)
    heard: list[Mapping[str, Any]] = []
    with epochs.heard_by(lambda record: heard.append(dict(record))):
        mark = run_stage(MODEL, config(*SETTINGS), store, marks, Inline()).fingerprint
    assert heard == json.loads(store.read_text("model", mark, "metrics.json"))["epochs"]
    assert [record["epoch"] for record in heard] == [0, 1, 2]
    run_stage(MODEL, config(*SETTINGS, "training.seed=1"), store, marks, Inline())
    assert len(heard) == 3


class _EnoughError(Exception):
    pass


def test_a_listener_that_raises_stops_the_training_and_nothing_is_published(tmp_path: Path) -> None:
    store, marks = planted(tmp_path)

    def stop(record: Mapping[str, Any]) -> None:
        if record["epoch"] == 1:
            raise _EnoughError

    with pytest.raises(_EnoughError), epochs.heard_by(stop):
        run_stage(MODEL, config(*SETTINGS), store, marks, Inline())
    assert not [p for p in (tmp_path / "store" / "model").rglob("*") if p.suffix in (".json", ".safetensors")]
    assert not run_stage(MODEL, config(*SETTINGS), store, marks, Inline()).skipped
