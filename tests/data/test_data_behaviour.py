"""Hashing and numbering, the map of fields, splits, cold items, cut-offs and samples: on arrays alone."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import make, raw_ratings, small_movielens, write_movielens

from trawl.data import behaviour, index
from trawl.inputs import Inputs
from trawl.store import Store

EIGHT_ONE_ONE = (0.8, 0.1, 0.1)


@given(st.lists(st.text(max_size=12), max_size=30), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_a_hash_depends_on_the_string_alone(ids: list[str], skip: int) -> None:
    whole = index.hash_ids(pa.array(ids, pa.string()))
    assert index.hash_ids(pa.array(["x", *ids], pa.large_string()).slice(1)).tolist() == whole.tolist()
    assert index.hash_ids(pa.chunked_array([ids[:skip], ids[skip:]], pa.string())).tolist() == whole.tolist()
    assert [int(index.hash_ids(pa.array([i], pa.string()))[0]) for i in ids] == whole.tolist()
    assert len(set(whole.tolist())) == len(set(ids))


def test_the_hash_is_the_same_on_every_machine() -> None:
    """Another value would renumber every published table."""
    assert [hex(h) for h in index.hash_ids(pa.array(["", "1", "Toy Story", "é"]))] == GOLDEN


GOLDEN = ["0xe220a8397b1dcdaf", "0xbb0802c412d354cb", "0x8e1b000dd4ee0c1b", "0x3c834fb71e0f0d69"]


def test_buckets_are_even() -> None:
    counts = np.bincount(index.bucket_of(pa.array([str(i) for i in range(8000)]), 8), minlength=8)
    assert counts.min() > 850
    assert counts.max() < 1150


def test_scatter_keeps_every_row_and_its_order() -> None:
    rows = pa.table({"id": [str(i) for i in range(100)], "at": range(100)})
    bucket = index.bucket_of(rows["id"], 7)
    got = list(index.scatter(rows, bucket, 7))
    assert sorted(at for _, part in got for at in part["at"].to_pylist()) == list(range(100))
    for number, part in got:
        assert part["at"].to_pylist() == np.flatnonzero(bucket == number).tolist()


def test_scatter_of_nothing_still_tells_the_schema() -> None:
    rows = pa.table({"id": pa.array([], pa.string()), "at": pa.array([], pa.int64())})
    assert [(b, t.num_rows) for b, t in index.scatter(rows, np.zeros(0, np.int64), 3)] == [(0, 0)]


def test_numbers_follow_the_buckets_before() -> None:
    rows = pa.table({"id": ["b", "a", "c"], "at": [0, 1, 2]})
    got = index.number(rows, "id", "user", [4, 3, 9], 1)
    assert got["id"].to_pylist() == ["a", "b", "c"]
    assert got["user"].to_pylist() == [5, 6, 7]
    assert index.repeated(got, "id") == -1
    assert index.repeated(pa.table({"id": ["a", "c", "c"]}), "id") == 2


def test_fields_leave_out_what_is_empty() -> None:
    got = index.fields({"genres": pa.array([["a", "b"], [], None]), "year": pa.array([["1990"], ["1991"], []])})
    assert got.to_pylist() == [[("genres", ["a", "b"]), ("year", ["1990"])], [("year", ["1991"])], []]


@pytest.mark.parametrize(("users", "held"), [(6040, 604), (10, 1), (25, 2), (9, 1), (3, 0)])
def test_splits_are_exact(users: int, held: int) -> None:
    counts = Counter(behaviour.Split(users, EIGHT_ONE_ONE, 3).of(np.arange(1, users + 1)).tolist())
    assert (counts["valid"], counts["test"], counts["train"]) == (held, held, users - 2 * held)


def test_a_user_is_in_the_same_split_whichever_part_asks() -> None:
    split, every = behaviour.Split(100, EIGHT_ONE_ONE, 0), np.arange(1, 101)
    parts = np.concatenate([split.of(every[:13]), split.of(every[13:14]), split.of(every[14:])])
    assert parts.tolist() == split.of(every).tolist()


def test_another_seed_draws_another_split() -> None:
    every = np.arange(1, 1001)
    held = [set(every[behaviour.Split(1000, EIGHT_ONE_ONE, s).of(every) != "train"].tolist()) for s in range(4)]
    for first in range(4):
        for second in range(first):
            assert 15 < len(held[first] & held[second]) < 75  # 40 by chance


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.1, 60), (0.333, 200), (1.0, 600)])
def test_cold_items_are_exact(share: float, count: int) -> None:
    assert int(behaviour.Cold(600, share, 1).of(np.arange(1, 601)).sum()) == count


def test_cold_items_are_another_draw_than_splits() -> None:
    every = np.arange(1, 2001)
    cold = behaviour.Cold(2000, 0.1, 7).of(every)
    valid = behaviour.Split(2000, EIGHT_ONE_ONE, 7).of(every) == "valid"
    assert 5 < int((cold & valid).sum()) < 45  # 20 by chance


def test_cutoffs_of_every_user_with_or_without_events() -> None:
    got = behaviour.cutoffs(np.arange(5, 9), np.array([5, 5, 5, 7, *[8] * 99]), 30)
    assert got.to_pylist() == [
        {"user": 5, "cutoff": 2, "events": 3},
        {"user": 6, "cutoff": 0, "events": 0},
        {"user": 7, "cutoff": 1, "events": 1},
        {"user": 8, "cutoff": 30, "events": 99},
    ]


def test_ties_of_time_keep_the_order_of_the_file() -> None:
    rows = pa.table({"rating": [5.0, 3.0, 4.0], "time": [20, 10, 10], "at": [0, 9, 3]})
    got = behaviour.order_log(rows, np.array([1, 1, 1]), np.array([1, 2, 3]), 3.0)
    assert got["item"].to_pylist() == [3, 2, 1]
    assert got["position"].to_pylist() == [0, 1, 2]
    assert got["label"].to_pylist() == [True, False, True]


def test_a_pair_that_stands_twice_is_found_at_its_second_place() -> None:
    user, item = np.array([1, 2, 1, 1]), np.array([4, 4, 5, 4])
    assert behaviour.repeated_pair(user, item, np.array([30, 10, 20, 5])) == 0
    assert behaviour.repeated_pair(user[:3], item[:3], np.arange(3)) == -1


def test_samples_are_the_positions_after_the_cutoff_without_cold_training_rows() -> None:
    log = pa.table({"user": [1, 1, 1, 2, 2], "position": [0, 1, 2, 0, 1], "item": [1, 2, 3, 3, 3], "label": [True] * 5})
    split = np.array(["train"] * 3 + ["test"] * 2)
    got = behaviour.samples(log, np.array([1, 1, 1, 0, 0]), split, np.array([0, 0, 1, 1, 1], bool))
    assert [(r["user"], r["position"], r["split"]) for r in got.to_pylist()] == [
        (1, 1, "train"),
        (2, 0, "test"),
        (2, 1, "test"),
    ]


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_published_samples_follow_cutoffs_splits_and_cold_items(tmp_path: object, share: float) -> None:
    folder = write_movielens(tmp_path / "raw", raw_ratings())  # type: ignore[operator]
    store = Store(f"{tmp_path}/store")
    settings = (("data.cold_items", share), ("data.cutoff_max", 4), ("data.partitions", 3))
    opened = Inputs(store, make(small_movielens(folder, *settings), store))
    cold = {r["item"] for r in opened.table("cold_items").to_pylist() if r["cold"]}
    assert len(cold) == round(15 * share)
    who = {r["user"]: r for r in opened.table("splits").to_pylist()}
    due = [
        (r["user"], r["position"], who[r["user"]]["part"])
        for r in opened.table("log").to_pylist()
        if r["position"] >= who[r["user"]]["cutoff"] and not (who[r["user"]]["part"] == "train" and r["item"] in cold)
    ]
    got = [(r["user"], r["position"], r["split"]) for r in opened.table("samples").to_pylist()]
    assert got == due
