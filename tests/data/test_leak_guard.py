"""Changing every validation and test target changes no table that prompts, positives and training see."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from worlds import leak_versions, make

from trawl.inputs import Inputs
from trawl.schemas import TRAIN
from trawl.store import Store


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Inputs, Inputs]:
    folder = tmp_path_factory.mktemp("leak")
    store = Store(str(folder / "store"))
    before, after = leak_versions(folder, store, ("data.cold_items", 0.1), ("data.cutoff_max", 4))
    return Inputs(store, make(before, store)), Inputs(store, make(after, store))


@pytest.mark.parametrize("name", ["users", "items", "cutoffs", "splits", "cold_items"])
def test_whole_tables_are_equal(both: tuple[Inputs, Inputs], name: str) -> None:
    assert both[0].table(name).equals(both[1].table(name))


def test_training_samples_are_equal(both: tuple[Inputs, Inputs]) -> None:
    first, second = (i.table("samples").filter(pc.field("split") == TRAIN) for i in both)
    assert first.num_rows > 0
    assert first.equals(second)


def test_the_log_that_training_and_prompts_see_is_equal(both: tuple[Inputs, Inputs]) -> None:
    first, second = (_visible(i) for i in both)
    assert first.num_rows > 0
    assert first.equals(second)


def test_the_targets_did_change(both: tuple[Inputs, Inputs]) -> None:
    """The guard is worth something only when the two worlds differ in every held-out sample."""
    first, second = (i.table("samples").filter(pc.field("split") != TRAIN).sort_by("user") for i in both)
    assert first.num_rows == second.num_rows > 10
    assert not pc.any(pc.equal(first["item"], second["item"])).as_py()
    assert not pc.any(pc.equal(first["label"], second["label"])).as_py()


def _visible(inputs: Inputs) -> pa.Table:
    """Rows of training users, and rows before the cut-off of all others."""
    log = inputs.table("log").join(inputs.table("splits"), "user")
    seen = log.filter((pc.field("part") == TRAIN) | (pc.field("position") < pc.field("cutoff")))
    return seen.sort_by([("user", "ascending"), ("position", "ascending")])
