"""The load of gates, and a gate that collapsed."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from planted import ITEMS, config, planted
from worlds import publish, table

from trawl.inputs import Inputs
from trawl.model.adapters import Adapters, HybridExperts, MixtureOfExperts
from trawl.training.gates import Loads
from trawl.training.loop import Material, Training
from trawl.training.material import material
from trawl.training.stage import MODEL

TWO = ("model.knowledge=['text', 'kg']", "model.combine=gate")


def facts() -> pa.Table:
    """Of odd items alone; item 30 has no text either."""
    rows = [
        {"entity": i, "vector": np.full(4, i % 2, np.float16), "has_text": i % 2 == 1, "tokens_read": 1}
        | {"tokens_there": 1}
        for i in range(1, ITEMS + 1)
    ]
    return table("fact_embeddings", rows)


def made(path: Path, *settings: str) -> tuple[object, Material, object]:
    store, marks = planted(path)
    marks["fact_embeddings"] = publish(store, "fact_embeddings", [facts()])
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


def test_the_load_of_sources_is_that_of_the_items_which_have_them(tmp_path: Path) -> None:
    """A gate of 1 to 3 where both sources know an item, and all to the one that does where one does."""
    model, found, _ = made(tmp_path, "model.adapter=mlp", *TWO)
    adapter = model.item.adapter  # type: ignore[attr-defined]
    assert isinstance(adapter, Adapters) and adapter.gate is not None
    with torch.no_grad():
        adapter.gate.weight.zero_()
        adapter.gate.bias.copy_(torch.tensor([0.0, math.log(3)]))
    both, text = (found.train.item % 2 == 1).sum(), ((found.train.item % 2 == 0) & (found.train.item != ITEMS)).sum()
    assert both + text < len(found.train.item), "an item that no source knows has no share"
    load = loads(model, found)
    assert set(load) == {"item.sources"}, "experts there are none of"
    first = (0.25 * both + text) / (both + text)
    assert load["item.sources"]["share"] == pytest.approx([first, 1 - first], abs=1e-4)
    assert load["item.sources"]["decided"] == pytest.approx((0.75 * both + text) / (both + text), abs=1e-4)
    assert load["item.sources"]["sources"] == ["item", "facts"]
    assert load["item.sources"]["collapsed"] is False
    with torch.no_grad():
        adapter.gate.bias[0] += 30.0
    assert loads(model, found)["item.sources"]["share"] == [1.0, 0.0]
    assert loads(model, found)["item.sources"]["collapsed"] is True


@pytest.mark.parametrize(
    ("combine", "names"),
    [("gate", {"user", "item.item", "item.facts", "item.sources"}), ("concat", {"user", "item.item", "item.facts"})],
)
def test_sources_under_a_gate_stand_beside_the_experts_of_each(tmp_path: Path, combine: str, names: set[str]) -> None:
    model, found, cfg = made(tmp_path, "training.epochs=1", *TWO, f"model.combine={combine}")
    progress = Training(model, found, cfg).run()  # type: ignore[arg-type]
    assert set(progress.epochs[0]["gates"]) == names
    assert [name for name, load in progress.epochs[0]["gates"].items() if "sources" in load] == sorted(
        names & {"item.sources"}
    )


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
