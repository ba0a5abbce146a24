"""Lists of checkpoints that a kill left half written: put away, so that what they listed can be gone on from."""

from pathlib import Path

import pytest

from trawl.store import Store
from trawl.training.checkpoints import LIST, put_away_broken_list

HOME = ("model", "x", "_work", "train")


@pytest.mark.parametrize("text", ["", '{"ray_version": "2.6', "[]", "null"])
def test_a_broken_list_is_put_away_and_the_newest_comes_first(tmp_path: Path, text: str) -> None:
    store = Store(str(tmp_path))
    for name in ("checkpoint_2026-01-02", "checkpoint_2026-01-01", "other"):
        store.write_text("x", *HOME, name, "state.pt")
    store.write_text(text, *HOME, LIST)
    assert put_away_broken_list(store, HOME) == ["checkpoint_2026-01-02", "checkpoint_2026-01-01"]
    assert not store.exists(*HOME, LIST)
    assert len(put_away_broken_list(store, HOME)) == 2, "until Ray writes a list of its own"


def test_a_whole_list_is_left_to_ray(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert put_away_broken_list(store, HOME) == []
    store.write_text("{}", *HOME, LIST)
    assert put_away_broken_list(store, HOME) == []
    assert store.exists(*HOME, LIST)
