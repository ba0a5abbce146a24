"""Samples streamed from disk are those held in memory: the same batches in the same order, and the same model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted import config, planted

from trawl.config import Config
from trawl.inputs import Inputs
from trawl.schemas import TRAIN
from trawl.training import loading, logs, streaming
from trawl.training.batches import Rows
from trawl.training.loop import Material, Training
from trawl.training.material import material
from trawl.training.order import Order
from trawl.training.stage import MODEL
from trawl.training.streaming import RECORD, Streamed

ALL = ("model.similarity=true", "model.adapted_similarity=true", "training.w_item=0.1", "training.w_user=0.1")
STREAM = "resources.training_data=stream"


def inputs_of(path: Path, cfg: Config, **world: Any) -> Inputs:
    store, marks = planted(path, **world)
    return Inputs(store, {name: marks[name] for name in MODEL.reads(cfg)}, work=("model", path.name, "_work"))


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worlds of tests are cut into many blocks and buckets, as large ones are."""
    monkeypatch.setattr(logs, "_BLOCK", 50)
    monkeypatch.setattr(streaming, "BUCKET", 100)
    monkeypatch.setattr(Order.__init__, "__defaults__", (100,))  # of the order held in memory, too
    monkeypatch.setattr(Streamed.__init__, "__defaults__", (100,))


def both(path: Path, *settings: str, **world: Any) -> tuple[Material, Material]:
    cfg = config(*ALL, *settings)
    inputs = inputs_of(path, cfg, **world)
    return material(inputs, cfg)[1], material(inputs, cfg.override(STREAM))[1]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("cold", [(), (1, 2, 3)], ids=["all-items", "cold-items"])
def test_the_batches_are_the_same(tmp_path: Path, cold: tuple[int, ...]) -> None:
    held, streamed = both(tmp_path, *(["data.cold_items=0.2"] if cold else []), cold=cold)
    assert isinstance(held.train, Rows)
    assert isinstance(streamed.train, Streamed)
    assert len(held.train) == len(streamed.train) > 1000
    for epoch, first in ((0, 0), (1, 0), (1, 7)):
        pairs = zip(held.train.batches(64, 5, epoch, first), streamed.train.batches(64, 5, epoch, first), strict=True)
        for (step, picks), (same, places) in pairs:
            assert step == same >= first
            one = held.behaviour.batch(held.train.take(picks))
            other = streamed.behaviour.batch(streamed.train.take(places))
            for name in ("user", "item", "history", "levels", "rate", "label"):
                assert torch.equal(getattr(one, name), getattr(other, name)), name
            assert one.seen is not None
            assert other.seen is not None
            for name in ("items", "offsets", "bag"):
                assert torch.equal(getattr(one.seen, name), getattr(other.seen, name)), name
            assert np.array_equal(held.train.item[picks], streamed.train.item[places])


@pytest.mark.usefixtures("small_blocks")
def test_the_trained_model_is_the_same(tmp_path: Path) -> None:
    cfg = config(*ALL, "training.epochs=2")
    inputs = inputs_of(tmp_path, cfg, users=60)
    ends = []
    for setting in ("resources.training_data=memory", STREAM):
        model, found = material(inputs, cfg.override(setting))
        ends.append(Training(model, found, cfg).run())
    for one, other in zip(ends[0].epochs, ends[1].epochs, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}
    assert all(torch.equal(ends[0].best[name], ends[1].best[name]) for name in ends[0].best)


def test_an_epochs_file_goes_when_the_next_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAWL_NODE_CACHE", str(tmp_path / "node"))
    _, streamed = both(tmp_path)
    assert isinstance(streamed.train, Streamed)
    before = _names(tmp_path / "node")
    kept = []
    for epoch in range(3):
        next(iter(streamed.train.batches(64, 0, epoch)))
        new = _names(tmp_path / "node") - before
        kept.append({name for name in new if name.endswith(".rows")})
    assert [len(k) for k in kept] == [1, 1, 1]
    assert not kept[0] & kept[2]
    streamed.train.close()
    assert not {n for n in _names(tmp_path / "node") - before if n.endswith(".rows")}


def test_memory_is_that_of_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numpy's own count of what is allocated while 1 M samples are put in order: a small part of the 17 MB."""
    import tracemalloc

    monkeypatch.setenv("TRAWL_NODE_CACHE", str(tmp_path / "node"))
    path, count = tmp_path / "x.rows", 1_000_000
    np.zeros(count, dtype=RECORD).tofile(path)
    streamed = Streamed(path, "key", np.zeros(3, dtype=np.int64), bucket=20_000)
    tracemalloc.start()
    for _, picks in streamed.batches(1024, 0, 0):
        streamed.take(picks)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < count * RECORD.itemsize / 3


def test_auto_streams_what_is_too_large(tmp_path: Path) -> None:
    cfg = config()
    inputs = inputs_of(tmp_path, cfg)
    assert not loading.streams(inputs, cfg)
    assert loading.streams(inputs, cfg.override("resources.training_memory_gib=0.0001"))
    assert not loading.streams(
        inputs, cfg.override("resources.training_memory_gib=0.0001", "resources.training_data=memory")
    )


def test_a_split_without_samples_streams_nothing(tmp_path: Path) -> None:
    cfg = config(STREAM)
    inputs = inputs_of(tmp_path, cfg, users=7)  # the first validation user is number 8
    _, found = material(inputs, cfg)
    assert len(found.valid) == 0
    assert list(found.valid.batches(8, 0, 0)) == []
    assert len(loading.samples_of(inputs, found.behaviour, TRAIN, True)) == len(found.train) > 0
