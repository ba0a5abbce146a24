"""data.user_share: a part of the users, chosen by their raw ids, with their whole logs and everybody's items."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from worlds import make, raw_ratings, small_movielens, write_movielens

from trawl.config import Config
from trawl.data import index, sources
from trawl.errors import ConfigError
from trawl.inputs import Inputs
from trawl.store import Store

IDS = pa.array([str(i) for i in range(20_000)])


@pytest.mark.parametrize("share", [0.01, 0.25, 0.9])
def test_about_the_share_is_kept_evenly_over_the_buckets(share: float) -> None:
    kept = index.kept(IDS, share)
    assert kept.mean() == pytest.approx(share, abs=0.02)
    counts = np.bincount(index.bucket_of(IDS, 4)[kept], minlength=4)
    assert counts.max() - counts.min() < 8 * np.sqrt(counts.mean())


def test_who_is_in_a_share_is_in_every_larger_one() -> None:
    small, large = (index.kept(IDS, share) for share in (0.1, 0.3))
    assert not (small & ~large).any()
    shuffled = IDS.take(pa.array(np.arange(len(IDS))[::-1]))
    assert (index.kept(shuffled, 0.1)[::-1] == small).all(), "it depends on the id alone"


def test_the_log_holds_the_kept_users_in_full_and_the_items_are_everybodys(tmp_path: Path) -> None:
    ratings = raw_ratings(users=40)
    folder = write_movielens(tmp_path / "raw", ratings, users=40)
    store, names = Store(str(tmp_path / "store")), ("users", "items", "log", "cold_items", "samples")
    whole, some = (make(small_movielens(folder, ("data.user_share", s)), store, *names) for s in (1.0, 0.4))
    assert {name for name in names if whole[name] == some[name]} == {"items", "cold_items"}
    users = {row["user_id"]: row["user"] for row in Inputs(store, some).table("users").to_pylist()}
    everyone = [str(user) for user in range(1, 41)]
    assert users.keys() == {u for u, kept in zip(everyone, index.kept(pa.array(everyone), 0.4), strict=True) if kept}
    assert 0 < len(users) < 40 and sorted(users.values()) == list(range(1, len(users) + 1))
    log = Inputs(store, some).table("log")
    assert log.num_rows == sum(user in users for user, *_ in ratings)


def test_a_share_of_1_is_no_key_and_below_1_counts_are_not_checked() -> None:
    cfg = Config()
    for kind in ("users", "items", "log", "entities", "truth"):
        assert "data.user_share" not in sources.keys(kind, cfg)
        some = "data.user_share" in sources.keys(kind, cfg.override("data.user_share=0.5"))
        assert some == (kind in ("users", "log"))
    films = cfg.override(("data.path", "x"), "data.source=movielens")
    assert sources.counted(films) and not sources.counted(films.override("data.user_share=0.5"))
    for share in ("0.0", "1.5"):
        with pytest.raises(ConfigError, match=r"data\.user_share"):
            cfg.override(f"data.user_share={share}")
