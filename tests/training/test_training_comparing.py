"""Comparisons on slices: paired on the same rows, averaged over the repetitions, and none where a slice is empty."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from worlds import publish

from trawl.schemas import CONTRACTS
from trawl.store import Store
from trawl.training import statistics
from trawl.training.comparing import compared, compared_slices

USERS, ROWS = 30, 20


def arm(better: bool, text: bool | None, seed: int = 0, rows: int = USERS * ROWS) -> pa.Table:
    """Scores at random; a better arm's know the labels of rare items, which have a count of 1."""
    rng = np.random.default_rng(seed)
    user, item = np.repeat(np.arange(1, USERS + 1), ROWS)[:rows], np.tile(np.arange(1, ROWS + 1), USERS)[:rows]
    label, score = rng.random(rows) < 0.5, rng.random(rows)
    rare = item % 2 == 0
    score = np.where(rare & better, 0.9 * label + 0.05, score)
    columns = {
        "user": user,
        "position": np.tile(np.arange(ROWS), USERS)[:rows],
        "item": item,
        "label": label,
        "split": ["test"] * rows,
        "cold": [False] * rows,
        "item_count": np.where(rare, 1, 50),
        "user_count": np.full(rows, 10),
        "has_text": pa.nulls(rows, pa.bool_()) if text is None else pa.array(rare == text),
        "score": score,
    }
    schema = CONTRACTS["predictions"].schema
    return pa.table({name: pa.array(columns[name]).cast(schema.field(name).type) for name in schema.names})


def rows_by(found: list[dict[str, Any]]) -> Mapping[tuple[str, str, str], dict[str, Any]]:
    return {(r["arm"], r["slice"], r["metric"]): r for r in found}


def marks(store: Store, **arms: list[pa.Table]) -> dict[str, list[str]]:
    return {name: [publish(store, "predictions", [t]) for t in tables] for name, tables in arms.items()}


def test_a_difference_is_found_in_the_slice_where_it_is(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    names = marks(store, none=[arm(False, None, s) for s in (0, 1)], texts=[arm(True, True, s) for s in (0, 1)])
    found = rows_by(compared_slices(store, "none", names, 200))
    slices = ("items/q1", "items/q2", "text/with", "text/without")  # all users are alike, so they are no slice
    assert list(dict.fromkeys(s for _, s, _ in found)) == list(slices)
    for where in ("items/q1", "text/with"):  # the reference has no texts of its own: the arm's tell its rows
        row = found["texts", where, "auc"]
        assert 0.3 < row["low"] < row["difference"] < row["high"]
        assert row["p_holm"] < 0.05
        assert row["repetitions"] == 2
    for where in ("items/q2", "text/without"):
        row = found["texts", where, "gauc"]
        assert row["difference"] == row["low"] == row["high"] == 0
    tables = [arm(True, True, s) for s in (0, 1)], [arm(False, None, s) for s in (0, 1)]
    rare = [[t.filter(pa.array(t["item_count"].to_numpy() == 1)) for t in side] for side in tables]
    expected = statistics.compare(rare[0], rare[1], 200)["auc"]
    assert (found["texts", "items/q1", "auc"]["low"], found["texts", "items/q1", "auc"]["high"]) == pytest.approx(
        (expected.low, expected.high)
    )


def test_arms_of_different_texts_are_compared_on_the_arms_own(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    names = marks(store, some=[arm(False, True)], others=[arm(True, False)])
    found = rows_by(compared_slices(store, "some", names, 50))
    assert found["others", "text/with", "auc"]["difference"] == 0  # items with a count of 50
    assert found["others", "text/without", "auc"]["low"] > 0.3


@pytest.mark.parametrize("rows", [0, 1])
def test_an_empty_test_split_defines_nothing_and_breaks_nothing(tmp_path: Path, rows: int) -> None:
    store = Store(str(tmp_path))
    names = marks(store, one=[arm(False, None, rows=rows)], other=[arm(True, True, rows=rows)])
    for part in ("all", "cold"):
        found = rows_by(compared(store, "one", names, part, 20))
        assert found["other", part, "auc"] == found["other", part, "auc"] | dict.fromkeys(
            ("difference", "low", "high", "p", "p_holm")
        )
    assert compared_slices(store, "one", names, 20) == []
