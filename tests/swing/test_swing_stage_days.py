"""The recipe's window_days and half_life_days: the stages against `mine` with the same days."""

import numpy as np
import pyarrow as pa
import pytest
import worlds
from test_swing_stage import PARTS, STAGES, positives, ratings

from trawl.config import Config
from trawl.pool import InProcess
from trawl.schemas import TRAIN
from trawl.swing import Days, mine
from trawl.swing.adjacency import build

DAY = 86400


@pytest.fixture(autouse=True)
def _a_rating_a_day(monkeypatch):
    real = worlds._log

    def log(rated, like_above):
        rows = real(rated, like_above)
        return {user: [row | {"time": DAY * row["position"]} for row in mine] for user, mine in rows.items()}

    monkeypatch.setattr(worlds, "_log", log)


def expected(rated, side, days, **formula):
    """Of the training users' liked rows; a user's n-th rating is of day n."""
    seen, rows = {}, []
    for u, i, stars in rated:
        seen[u] = seen.get(u, -1) + 1
        if PARTS[u] == TRAIN and stars > 3:
            rows.append((u, i, DAY * seen[u]))
    u, i, t = zip(*rows, strict=True)
    found = mine(pa.table({"u": u, "i": i, "t": t}), "u", "i", side, top_k=4, time_column="t", days=days, **formula)
    return [r | {"anchor": int(r["anchor"]), "partner": int(r["partner"])} for r in found.to_pylist()]


def ids(rows):
    return [(r["anchor"], r["rank"], r["partner"], r["shared"]) for r in rows]


def scores(rows):
    return [r["score"] for r in rows]


# Some pairs stand twice, and users who are not trained on go on for longer.
AGAIN = [r for r in ratings() if r[0] % 3 == 0] + [r for r in ratings(1) if PARTS[r[0]] != TRAIN] * 2


@pytest.mark.parametrize("shuffle", ["never", "always"])
@pytest.mark.parametrize("normalize", ["none", "cosine"])
@pytest.mark.parametrize(("window", "half_life"), [(14, 0.0), (0, 2.5), (15, 3.0)])
def test_tables_hold_what_is_found_in_the_days_that_count(tmp_path, window, half_life, normalize, shuffle):
    rated = ratings() + AGAIN
    made = positives(
        tmp_path,
        rated,
        f"swing.window_days={window}",
        f"swing.half_life_days={half_life}",
        f"swing.normalize={normalize}",
        f"resources.swing_shuffle={shuffle}",
    )
    days = Days(window_days=window, half_life_days=half_life)
    for side in ("user", "item"):
        found, wanted = made[f"{side}_positives"], expected(rated, side, days, normalize=normalize)
        assert ids(found) == ids(wanted) and len(found) > 40
        assert scores(found) == pytest.approx(scores(wanted), rel=1e-12, abs=0)


def test_no_day_of_other_users_moves_the_window(tmp_path):
    longer = [r for r in ratings(2) if PARTS[r[0]] != TRAIN] * 3
    settings = ("swing.window_days=4", "swing.half_life_days=2")
    assert positives(tmp_path / "a", ratings(), *settings) == positives(tmp_path / "b", ratings() + longer, *settings)


def test_nobody_has_a_day(tmp_path):
    made = positives(tmp_path, [(u, i, 1.0) for u, i, _ in ratings()], "swing.half_life_days=2")
    assert made == {"item_positives": [], "user_positives": []}


def test_the_keys_are_hashed_only_when_they_are_set():
    for stage in STAGES:
        assert "swing.window_days" not in stage.keys(Config()) and "swing.half_life_days" not in stage.keys(Config())
        assert "swing.window_days" in stage.keys(Config().override("swing.window_days=3"))


def test_edges_keep_their_newest_weight_in_any_partition():
    users, items, levels = np.array([0, 0, 0, 1, 2]), np.array([1, 1, 0, 1, 1]), np.array([0, 2, 1, 1, 0])
    weights = np.array([0.25, 0.5, 1.0], np.float32)
    for count in (1, 2, 3):
        both = build(
            InProcess(),
            _read,
            [(users[c], items[c], levels[c]) for c in ([0, 3], [1, 2, 4])],
            (3, 2),
            count=count,
            weights=weights,
        )
        found = {}
        for segment in both.by_user:
            rows = np.repeat(segment.rows, np.diff(segment.ptr))
            found |= dict(
                zip(zip(rows.tolist(), segment.columns.tolist(), strict=True), segment.values.tolist(), strict=True)
            )
        assert found == {(0, 0): 0.5, (0, 1): 1.0, (1, 1): 0.5, (2, 1): 0.25} and both.edges == 4


def _read(users, items, levels):
    yield users, items, levels
