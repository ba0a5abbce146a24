"""Neighbours before and after an adapter, on vectors that are planted on a circle."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from report_world import HOSTILE, data_run
from worlds import publish, table

from trawl.report import neighbours
from trawl.report.record import Record
from trawl.schemas import CONTRACTS
from trawl.store import Store

ANGLES = {1: 0.0, 2: 10.0, 3: 25.0, 4: 45.0, 5: 180.0, 6: 185.0}


def embeddings(store: Store, angles: dict[int, float], without: int = 0) -> str:
    """Vectors at angles in degrees, of length 1 to 6 (only the direction counts), in two parts."""
    rows: list[dict[str, Any]] = [
        {
            "entity": n,
            "vector": [n * np.cos(np.radians(a)), n * np.sin(np.radians(a))],
            "has_text": n != without,
            "tokens_read": 1,
            "tokens_there": 1,
        }
        for n, a in angles.items()
    ]
    schema = CONTRACTS["item_embeddings"].schema
    wide = pa.Table.from_pylist(rows, schema=schema.set(1, pa.field("vector", pa.list_(pa.float32())))).cast(schema)
    return publish(store, "item_embeddings", [wide.slice(0, 2), wide.slice(2)])


def positives(store: Store, pairs: list[tuple[int, int]]) -> str:
    rows = [{"anchor": a, "rank": 0, "partner": b, "score": 0.5, "shared": 2} for a, b in pairs]
    return publish(store, "item_positives", [table("item_positives", rows)])


def after(store: Store, lists: dict[int, list[int]]) -> str:
    rows = [
        {"item": item, "rank": rank, "neighbour": n, "similarity": 0.9 - rank / 10}
        for item, found in lists.items()
        for rank, n in enumerate(found)
    ]
    return publish(store, "item_neighbours", [table("item_neighbours", rows)])


def record(store: Store, **artifacts: str) -> Record:
    out = Record(store, data_run(store))
    out.cells[0]["artifacts"] |= artifacts
    out.cells[0]["overrides"] = {"extraction.source": "extracted"}
    out.all = out._variants()
    return out


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def test_nearest_is_exact_whatever_the_blocks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = record(store, item_embeddings=embeddings(store, ANGLES, without=4))
    variant = run.first("item_embeddings")
    assert variant is not None
    expected = {1: [2, 3, 6], 3: [2, 1, 5], 5: [6, 3, 1]}  # 4 has no text; 1 and 3 are 180 and 155 degrees from 5
    for block in (1, 2, 8192):
        monkeypatch.setattr(neighbours, "_BLOCK", block)
        found = neighbours.nearest(run, variant, np.array([1, 3, 4, 5]), 3)
        assert sorted(found) == [1, 3, 5]
        assert {item: [n for n, _ in row][:2] for item, row in found.items()} == {
            item: row[:2] for item, row in expected.items()
        }
        assert found[1][0][1] == pytest.approx(np.cos(np.radians(10)), abs=1e-3)


def test_fewer_items_than_neighbours(store: Store) -> None:
    run = record(store, item_embeddings=embeddings(store, {1: 0.0, 2: 1.0}))
    variant = run.first("item_embeddings")
    assert variant is not None
    assert [n for n, _ in neighbours.nearest(run, variant, np.array([1]), 10)[1]] == [2]
    assert neighbours.nearest(run, variant, np.array([], dtype=np.int64), 10) == {}


def test_before_and_after(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_TOP", 2)
    run = record(
        store,
        item_embeddings=embeddings(store, ANGLES),
        item_positives=positives(store, [(1, 2), (3, 6), (5, 1)]),
        item_neighbours=after(store, {1: [2, 3], 3: [6, 2], 5: [2, 3], 6: [5, 1]}),
    )
    (found,) = neighbours.neighbours(run)
    # Before: 1 -> 2, 3; 3 -> 2, 4 (20 degrees; 1 is 25 away); 5 -> 6, 4. Of their positives 1 of 3 is among these.
    assert found.looked_at == 3
    assert found.changed == pytest.approx((0 + 1 / 2 + 1) / 3)
    assert found.before == pytest.approx(1 / 3)
    assert found.after == pytest.approx(2 / 3)
    assert found.adapted
    first = found.items[0]
    assert first.title == HOSTILE  # escaped by the template
    assert [(n.title, n.both) for n in first.frozen] == [("Film 2 (1962)", True), ("Film 3 (1963)", False)]
    assert [(n.title, n.both) for n in first.partners] == [("Film 2 (1962)", True)]
    assert [(n.title, n.both) for n in found.items[2].partners] == [(HOSTILE, False)]


def test_without_an_adapter_the_frozen_ones_alone(store: Store) -> None:
    run = record(store, item_embeddings=embeddings(store, ANGLES))
    (found,) = neighbours.neighbours(run)
    assert (found.looked_at, found.changed, found.before, found.after, found.adapted) == (6, None, None, None, False)
    assert all(not item.adapted and not item.partners for item in found.items)


def test_nothing_where_nothing_is_known(store: Store) -> None:
    run = record(store, item_embeddings=embeddings(store, {}))
    assert neighbours.neighbours(run)[0].items == ()
    run.cells[0]["overrides"] = {"extraction.source": "none"}
    assert neighbours.neighbours(run) == []


def test_the_sample_is_spread_over_the_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_SAMPLE", 2)
    run = record(store, item_embeddings=embeddings(store, ANGLES, without=1))
    (found,) = neighbours.neighbours(run)
    assert found.looked_at == 2
    assert [item.title for item in found.items] == ["Film 2 (1962)", "Film 6 (1966)"]
