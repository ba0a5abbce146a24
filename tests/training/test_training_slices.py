"""Slices of the test rows with counts that can be checked in the head; what the predictions say of their rows."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import config, fit, planted

from trawl.executors import Inline
from trawl.inputs import Inputs
from trawl.stage import run_stage
from trawl.training import metrics
from trawl.training.evaluate import evaluate
from trawl.training.slices import by_count, slices
from trawl.training.stage import MODEL, PREDICTIONS


def test_bins_are_of_as_many_rows_and_zero_stands_alone() -> None:
    found = by_count(np.array([0, 0, *range(1, 101)]))
    assert [(s.name, s.low, s.high, int(s.rows.sum())) for s in found] == [
        ("0", 0, 0, 2),
        ("q1", 1, 20, 20),
        ("q2", 21, 40, 20),
        ("q3", 41, 60, 20),
        ("q4", 61, 80, 20),
        ("q5", 81, 100, 20),
    ]


def test_a_count_is_in_one_bin_only() -> None:
    found = by_count(np.array([30] * 80 + list(range(1, 21))))
    assert [(s.name, s.low, s.high, int(s.rows.sum())) for s in found] == [("q1", 1, 20, 20), ("q2", 30, 30, 80)]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([30] * 90 + [4] * 6 + [9] * 4, [(4, 9, 10), (30, 30, 90)]),  # all quantiles fall on the largest count
        ([*range(1, 31), *[99] * 70], [(1, 20, 20), (21, 30, 10), (99, 99, 70)]),  # all but the first
        ([*range(1, 71), *[99] * 30], [(1, 20, 20), (21, 40, 20), (41, 60, 20), (61, 70, 10), (99, 99, 30)]),
        ([7] * 9, [(7, 7, 9)]),
        ([1] * 90 + [2] * 6 + [3] * 4, [(1, 1, 90), (2, 3, 10)]),
    ],
    ids=["most", "more than half", "some", "all", "the smallest"],
)
def test_a_count_that_most_rows_have_leaves_the_others_to_be_told(
    counts: list[int], expected: list[tuple[int, int, int]]
) -> None:
    found = by_count(np.array(counts))
    assert [(s.low, s.high, int(s.rows.sum())) for s in found] == expected
    assert [s.name for s in found] == [f"q{number}" for number in range(1, len(expected) + 1)]


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 6))
def test_every_row_is_in_one_slice(counts: list[int], bins: int) -> None:
    found = by_count(np.array(counts, dtype=np.int64), bins)
    assert sum(s.rows.astype(int) for s in found).tolist() == [1] * len(counts) if counts else not found  # type: ignore[union-attr]
    assert len(found) <= bins + 1
    assert len(found) > 1 or bins == 1 or len(set(counts)) < 2, "what can be parted is parted"
    assert all(a.high < b.low for a, b in pairwise(found))  # type: ignore[operator]


def predictions(**columns: list[object]) -> pa.Table:
    rows = len(columns["score"])
    plain = {"user": list(range(rows)), "label": [bool(n % 2) for n in range(rows)], "split": ["test"] * rows}
    plain |= {"cold": [False] * rows, "item_count": [1] * rows, "user_count": [3] * rows, "has_text": [None] * rows}
    types = {"has_text": pa.bool_()}
    return pa.table({k: pa.array(v, types.get(k)) for k, v in (plain | columns).items()})


def test_each_slice_is_measured_on_its_own_rows() -> None:
    """The rare items are ranked wrongly, the others rightly."""
    table = predictions(
        score=[0.9, 0.1, 0.2, 0.8] * 5, item_count=[1, 1, 9, 9] * 5, has_text=[True, True, False, False] * 5
    )
    found = evaluate(table)["test"]["slices"]
    assert set(found) == {"items", "text"}  # all users are alike
    assert [(s["name"], s["from"], s["to"], s["auc"], s["rows"]) for s in found["items"]] == [
        ("q1", 1, 1, 0.0, 10),
        ("q2", 9, 9, 1.0, 10),
    ]
    assert [(s["name"], s["auc"]) for s in found["text"]] == [("with", 0.0), ("without", 1.0)]
    assert dict(slices(predictions(score=[0.1, 0.2]))) == {}


def test_ece_is_the_gap_between_what_is_said_and_what_is() -> None:
    label = np.array([1, 1, 1, 0] * 25, dtype=bool)
    assert metrics.ece(label, np.full(100, 0.75)) == pytest.approx(0)
    assert metrics.ece(label, np.full(100, 0.95)) == pytest.approx(0.2)
    both = np.where(np.arange(100) < 50, 0.95, 0.05)  # bins do not make up for each other
    halves = np.abs([label[:50].mean() - 0.95, label[50:].mean() - 0.05])
    assert metrics.ece(label, both) == pytest.approx(halves.mean())
    assert metrics.ece(np.array([True, False]), np.array([1.0, 0.0])) == 0
    assert np.isnan(metrics.ece(np.array([]), np.array([])))
    apart = metrics.ece(np.array([True, False]), np.array([0.05, 0.09]))  # in one bin if there were ten
    assert apart == pytest.approx((0.95 + 0.09) / 2)


def test_predictions_count_what_training_met(tmp_path: Path) -> None:
    store, marks = planted(tmp_path, cold=(1, 2))
    cfg = config("data.cold_items=0.1", "training.epochs=1")
    for stage in (MODEL, PREDICTIONS):
        marks[stage.artifact] = run_stage(stage, cfg, store, marks, Inline()).fingerprint
    inputs = Inputs(store, marks)
    rows, log, splits = (inputs.table(name).to_pylist() for name in ("predictions", "log", "splits"))
    part = {s["user"]: s["part"] for s in splits}
    met = [e["item"] for e in log if part[e["user"]] == "train" and e["item"] not in (1, 2)]
    for row in rows:
        assert row["item_count"] == met.count(row["item"])
        assert row["has_text"] == (row["item"] != 30)  # the last one has none
    assert {r["item_count"] for r in rows if r["cold"]} == {0}
    found = evaluate(inputs.table("predictions"))["test"]
    assert found["slices"]["items"][0]["name"] == "0"
    assert found["slices"]["items"][0]["rows"] == found["cold"]["rows"] > 0


def test_users_are_told_by_all_their_events_where_the_cutoffs_are_alike(tmp_path: Path) -> None:
    store, marks = planted(tmp_path, cold=(1, 2), events=(10, 20, 30), cutoff_max=5)
    _, table = fit(store, marks, config("data.cold_items=0.1", "training.epochs=1"))
    inputs = Inputs(store, marks)
    assert set(inputs.table("cutoffs")["cutoff"].to_pylist()) == {5}
    events = Counter(inputs.table("log")["user"].to_pylist())
    assert [events[user] for user in (9, 19, 29)] == [10, 20, 30]  # of the test
    for row in table.to_pylist():
        assert row["user_count"] == events[row["user"]]
    found = evaluate(table)["test"]["slices"]["users"]
    # 5 users with 10, 20 and 30 events each, of which 5 are before the cut-off; 25 rows are short of a fifth
    assert [(s["name"], s["from"], s["to"], s["rows"]) for s in found] == [("q1", 10, 20, 100), ("q2", 30, 30, 125)]


def test_a_model_without_knowledge_says_nothing_of_texts(tmp_path: Path) -> None:
    store, marks = planted(tmp_path)
    cfg = config("extraction.source=none", "training.epochs=1")
    for stage in (MODEL, PREDICTIONS):
        marks[stage.artifact] = run_stage(stage, cfg, store, marks, Inline()).fingerprint
    table = Inputs(store, marks).table("predictions")
    assert table["has_text"].null_count == len(table)
    assert "text" not in evaluate(table)["test"]["slices"]
