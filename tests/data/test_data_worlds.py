"""The hand-made worlds keep the promises that real tables make: other tests stand on them."""

from pathlib import Path

import pytest
from worlds import behaviour, publish, table, world

from trawl.errors import ArtifactError
from trawl.inputs import Inputs
from trawl.store import Store

RATINGS = [(1, 1, 5.0), (1, 2, 3.0), (1, 3, 4.0), (9, 1, 2.0), (9, 3, 5.0), (8, 2, 4.0)]


def test_behaviour_is_what_the_stages_would_make_of_it(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    opened = Inputs(store, behaviour(store, RATINGS, partitions=3, cold=[3]))
    assert [len(opened.parts(n)) for n in ("users", "log", "samples", "items")] == [3, 3, 3, 3]
    assert opened.array("users", "user").tolist() == list(range(1, 10))
    samples = [(r["user"], r["position"], r["item"], r["split"]) for r in opened.table("samples").to_pylist()]
    assert samples == [(9, 1, 3, "test")]
    assert opened.table("cutoffs").to_pylist()[0] == {"user": 1, "cutoff": 2, "events": 3}


def test_publish_names_by_content_and_keeps_the_contract(tmp_path: Path) -> None:
    store, rows = Store(str(tmp_path)), [{"item": 1, "cold": False}, {"item": 2, "cold": True}]
    marks = [publish(store, "cold_items", [table("cold_items", r)]) for r in (rows, rows[::-1], rows[:1])]
    assert marks[0] == marks[1] != marks[2]
    with pytest.raises(ArtifactError, match="twice the key item = 1"):
        publish(store, "cold_items", [table("cold_items", rows[:1] * 2)])


def test_a_small_world_is_whole(tmp_path: Path) -> None:
    cfg, store, marks = world(tmp_path, ("data.cold_items", 0.1))
    opened = Inputs(store, marks)
    assert opened.count("users") == cfg.data.synthetic.users
    assert opened.count("truth") > 30
    assert set(opened.table("samples")["split"].to_pylist()) == {"train", "valid", "test"}
