"""Lists of checkpoints that a kill left half written: put away, so that what they listed can be gone on from."""

import io
from pathlib import Path

import pytest
import torch

from trawl.store import Store
from trawl.training.checkpoints import LIST, STATE, newest, put_away_broken_list

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


def test_the_newest_whole_state_is_taken(tmp_path: Path) -> None:
    store, kept = Store(str(tmp_path)), io.BytesIO()
    torch.save({"model": {"x": torch.ones(1000)}}, kept)
    for name, data in (("1", kept.getvalue()), ("2", kept.getvalue()), ("3", kept.getvalue()[:900]), ("4", b"")):
        store.write_bytes(data, *HOME, f"checkpoint_{name}", STATE)
    names = ["checkpoint_5", "checkpoint_4", "checkpoint_3", "checkpoint_2", "checkpoint_1"]
    found = newest(store, HOME, names)
    assert found is not None
    assert found[1].endswith("checkpoint_2/state.pt")
    assert torch.equal(torch.load(found[0], weights_only=True)["model"]["x"], torch.ones(1000))
    assert newest(store, HOME, names[:3]) is None
    assert newest(store, HOME, []) is None
