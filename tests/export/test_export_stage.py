"""Vectors and neighbours as stages: what the adapter gives, the default, which recipes make them, `until`."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import small
import torch
from exported import trained

from trawl import experiment, pipeline
from trawl.executors import Inline
from trawl.experiment import Listener
from trawl.export import stage
from trawl.inputs import Inputs
from trawl.store import Store


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return trained(Store(str(tmp_path_factory.mktemp("export") / "store")), small.config("model.adapter=mlp"))[0]


@pytest.mark.parametrize("side", ["item", "user"])
def test_vectors_are_the_adapters_outputs_with_a_default_where_there_is_no_text(run: Inputs, side: str) -> None:
    bundle = stage.trained(run)
    model = bundle.model()
    adapter = (model.item if side == "item" else model.user).adapter
    assert adapter is not None
    frozen = run.table(f"{side}_embeddings")
    rows = run.table(f"{side}_vectors")
    assert rows["entity"].to_pylist() == frozen["entity"].to_pylist()
    vectors, norm = np.array(rows["vector"].to_pylist()), rows["norm"].to_numpy()
    centre = bundle.lexicon.centre[side]  # type: ignore[index]
    scaled = (np.array(frozen["vector"].to_pylist(), dtype=float) - centre) * bundle.lexicon.scale[side]  # type: ignore[index]
    with torch.no_grad():
        expected = adapter.body(torch.tensor(scaled, dtype=torch.float32)).numpy()
    text = rows["has_text"].to_numpy()
    np.testing.assert_allclose((vectors * norm[:, None])[text], expected[text], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors[text], axis=1), 1, atol=1e-6)
    default = adapter.default.detach().numpy()
    if side == "item":
        assert np.linalg.norm(default) > 0, "the default was not trained: nothing is proved"
        assert not text.all()
        np.testing.assert_allclose((vectors * norm[:, None])[~text], np.tile(default, ((~text).sum(), 1)), atol=1e-6)


def test_neighbours_are_of_items_with_text_among_such(run: Inputs) -> None:
    text = {r["entity"]: r["has_text"] for r in run.table("item_vectors").to_pylist()}
    vectors = {r["entity"]: np.array(r["vector"]) for r in run.table("item_vectors").to_pylist()}
    rows = run.table("item_neighbours").to_pylist()
    known = [e for e, there in text.items() if there]
    assert {r["item"] for r in rows} == set(known) != set(text)
    for item in known[:5]:
        mine = [r["neighbour"] for r in rows if r["item"] == item]
        order = sorted((e for e in known if e != item), key=lambda e: -float(vectors[item] @ vectors[e]))
        assert set(mine) == set(order[: len(mine)])
        assert len(mine) == min(10, len(known) - 1)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((), {"item_vectors", "user_vectors", "item_neighbours"}),
        (("model.side=item",), {"item_vectors", "item_neighbours"}),
        (("model.side=user",), {"user_vectors"}),
        (("export.neighbours=0",), {"item_vectors", "user_vectors"}),
        (("export.vectors=false",), set()),
        (("extraction.source=none", "training.w_user=0", "training.w_item=0"), set()),
        (("model.injection=none", "model.adapted_similarity=true"), {"item_vectors", "item_neighbours"}),
    ],
)
def test_a_recipe_makes_vectors_where_it_has_an_adapter(settings: tuple[str, ...], expected: set[str]) -> None:
    cfg = small.config(*settings)
    assert set(stage.wanted(cfg)) == expected
    marks = pipeline.plan(cfg).fingerprints
    assert {s.artifact for s in stage.STAGES} & set(marks) == expected
    assert pipeline.plan(cfg, "export").fingerprints == marks, "export is the last room"
    plain = pipeline.plan(cfg.override("export.vectors=false")).fingerprints
    assert {a: m for a, m in marks.items() if a not in expected} == plain


def test_until_a_vector_table_trains_and_stops_there(tmp_path: Path) -> None:
    cfg = small.config(
        "experiment.arms.none.extraction.source=none", "experiment.arms.raw.extraction.source=raw", "training.epochs=1"
    )
    store, heard = Store(str(tmp_path / "store")), []
    listener = Listener(lambda outcome, cell: heard.append((outcome.artifact, cell.arm)), lambda row: None)
    experiment.run(cfg, store, "r", lambda cfg: Inline(), listener, "item_vectors")
    assert heard[-2:] == [("model", "raw"), ("item_vectors", "raw")]
    assert "predictions" not in {artifact for artifact, _ in heard}


def test_an_empty_part_gives_an_empty_part(run: Inputs) -> None:
    from trawl.export.vectors import Detached
    from trawl.model.lexicon import Knowledge

    known = {"item": Knowledge(matrix=np.zeros((0, 16), dtype=np.float16), text=np.zeros(0, dtype=bool))}
    table = Detached(stage.trained(run), "item").table(pa.chunked_array([], pa.int64()), known)
    assert table.num_rows == 0
