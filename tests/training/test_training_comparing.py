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
from trawl.training.comparing import UNLIKE, compared, compared_slices, over_the_table

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


def other(table: pa.Table, **columns: object) -> pa.Table:
    """With other values of some columns."""
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, pa.array(values).cast(table.schema.field(name).type))
    return table


def unlike(kind: str) -> pa.Table:
    """The better arm, where something of its own moved its test rows."""
    table = arm(True, True, 1)
    label, position, item = (table[name].to_numpy() for name in ("label", "position", "item"))
    return {
        "cutoff_max": lambda: other(table, position=position + 1),
        "like_above": lambda: other(table, label=np.where(np.arange(len(label)) == 7, ~label, label)),
        "user_share": lambda: table.slice(0, len(table) - ROWS),
        "items": lambda: other(table, item=item + 1),
    }[kind]()


@pytest.mark.parametrize("kind", ["cutoff_max", "like_above", "user_share", "items"])
def test_arms_whose_test_rows_differ_are_not_paired(tmp_path: Path, kind: str) -> None:
    """In one repetition of two; an arm beside it is paired as ever."""
    store = Store(str(tmp_path))
    names = marks(
        store,
        none=[arm(False, None, s) for s in (0, 1)],
        moved=[arm(True, True, 0), unlike(kind)],
        texts=[arm(True, True, s) for s in (0, 1)],
    )
    found = compared(store, "none", names, "all", 50) + compared_slices(store, "none", names, 50)
    rows = rows_by(over_the_table(found))
    assert {where for name, where, _ in rows if name == "moved"} >= {"all", "items/q1", "items/q2"}
    for (name, where, metric), row in rows.items():
        values = [row[key] for key in ("difference", "low", "high", "p", "p_holm", "p_table")]
        if name == "moved":
            assert (values, row["reason"]) == ([None] * 6, UNLIKE)
        else:
            assert (row["reason"], row["low"] is None) == (None, False), (where, metric)
    alone = rows_by(compared(store, "none", {n: names[n] for n in ("none", "texts")}, "all", 50))
    assert rows["texts", "all", "auc"]["p_holm"] == alone["texts", "all", "auc"]["p_holm"], "no test to correct for"


def test_a_slice_is_paired_only_where_both_arms_have_its_rows(tmp_path: Path) -> None:
    """As where an arm has other cold items: the test rows are the same, what training met is not."""
    store = Store(str(tmp_path))
    moved = arm(True, None)
    rare = moved["item"].to_numpy() % 3 == 0
    moved = other(moved, item_count=np.where(rare, 1, 50), cold=rare)
    first = arm(False, None)
    names = marks(store, none=[other(first, cold=first["item"].to_numpy() % 2 == 0)], moved=[moved])
    assert compared(store, "none", names, "all", 50)[0]["low"] is not None
    assert {row["reason"] for row in compared(store, "none", names, "cold", 50)} == {UNLIKE}
    sliced = compared_slices(store, "none", names, 50)
    assert {(row["slice"], row["reason"]) for row in sliced} == {("items/q1", UNLIKE), ("items/q2", UNLIKE)}


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
