"""The load of gates, and a gate that collapsed."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import config, planted

from trawl.inputs import Inputs
from trawl.model.adapters import HybridExperts, MixtureOfExperts
from trawl.training.gates import Loads
from trawl.training.loop import Material, Training
from trawl.training.stage import MODEL, material


def made(path: Path, *settings: str) -> tuple[object, Material, object]:
    store, marks = planted(path)
    cfg = config(*settings)
    model, found = material(Inputs(store, {name: marks[name] for name in MODEL.reads(cfg)}), cfg)
    return model, found, cfg


def loads(model: object, found: Material) -> dict[str, dict[str, object]]:
    return Loads(model, found.world, {"user": found.train.user, "item": found.train.item})()  # type: ignore[arg-type]


def test_a_share_is_the_mean_over_the_samples(tmp_path: Path) -> None:
    model, found, _ = made(tmp_path)
    gate = model.item.adapter.body  # type: ignore[attr-defined]
    assert isinstance(gate, MixtureOfExperts)
    items = found.world.items
    assert items.vectors is not None and items.text is not None
    there = found.train.item[items.text[torch.from_numpy(found.train.item)].numpy()]
    assert len(there) < len(found.train.item), "an item without text has no share"
    with torch.no_grad():
        share = gate.load(items.vectors.rows(torch.from_numpy(there))).mean(dim=0).numpy()
    load = loads(model, found)["item"]
    np.testing.assert_allclose(load["share"], share, atol=1e-4)
    assert load["entropy"] == pytest.approx(float(-(share * np.log(share)).sum()), abs=1e-3)
    assert load["perplexity"] == pytest.approx(math.exp(load["entropy"]), abs=1e-2)  # type: ignore[arg-type]
    assert load["collapsed"] is False


def test_a_collapsed_gate_is_named(tmp_path: Path) -> None:
    model, found, _ = made(tmp_path, "model.adapter=hybrid")
    for side in (model.user, model.item):  # type: ignore[attr-defined]
        assert isinstance(side.adapter.body, HybridExperts)
    with torch.no_grad():
        model.item.adapter.body.gate.bias[3] += 20.0  # type: ignore[attr-defined]
    found_loads = loads(model, found)
    assert found_loads["item"]["collapsed"] is True
    assert found_loads["item"]["share"] == [0.0, 0.0, 0.0, 1.0]
    assert found_loads["item"]["perplexity"] == pytest.approx(1.0, abs=0.01)
    assert found_loads["user"]["collapsed"] is False
    assert len(found_loads["user"]["share"]) == 4  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings", [("extraction.source=none",), ("model.adapter=linear",), ("model.injection=none",)]
)
def test_without_gates_nothing_is_said(tmp_path: Path, settings: tuple[str, ...]) -> None:
    model, found, cfg = made(tmp_path, "training.epochs=1", *settings)
    assert loads(model, found) == {}
    progress = Training(model, found, cfg).run()  # type: ignore[arg-type]
    assert "gates" not in progress.epochs[0]


def test_each_epochs_record_has_the_loads(tmp_path: Path) -> None:
    model, found, cfg = made(tmp_path, "training.epochs=2")
    progress = Training(model, found, cfg).run()  # type: ignore[arg-type]
    assert [set(epoch["gates"]) for epoch in progress.epochs] == [{"user", "item"}] * 2
    assert progress.epochs[0]["gates"] != progress.epochs[1]["gates"]
