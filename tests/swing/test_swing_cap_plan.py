"""Which caps a side gets: by its cost, by what the recipe says, and never where exact is affordable."""

import numpy as np
import pytest

from trawl.config import Config
from trawl.errors import ConfigError
from trawl.swing.cap_plan import planned, settings_of, steps
from trawl.swing.degrees import Degrees

FLAT = Degrees.of(np.full(1000, 20))  # 1,000 anchors of 20 features
LONG = Degrees.of(np.array([9984, 9984]))  # the smallest degree of its bin
SHORT = Degrees.of(np.full(2000, 10))


def test_steps_are_those_of_a_count_by_hand():
    assert steps(FLAT, SHORT) == 2000 * 10 * 10 + 1000 * 20 * 20
    assert steps(FLAT, LONG, lists=50) == 2 * 9984 * 50 + 1000 * 20 * 20
    assert steps(FLAT, LONG, rows=5) == 0.25 * 2 * 9984**2 + 1000 * 25
    nothing = Degrees.of(np.empty(0, dtype=np.int64))
    assert steps(nothing, nothing) == 0


def test_movielens_is_exact_by_default():
    # 6,040 users and 3,706 items of 1,000,209 ratings: 8.2e8 and 3.9e8 steps of lists, as much again of tables.
    users = Degrees.of(np.random.default_rng(0).lognormal(4.5, 1.1, 6040).astype(np.int64))
    items = Degrees.of(np.random.default_rng(0).lognormal(4.8, 1.5, 3706).astype(np.int64))
    for side, degrees, lengths in (("user", users, items), ("item", items, users)):
        plan = planned(side, settings_of(), degrees, lengths)
        assert plan.exact and not plan.caps.any and plan.words.startswith("exact")


def test_above_the_bound_the_first_step_of_the_ladder_that_fits_is_taken():
    def caps(bound):
        found = planned("user", settings_of(exact_steps=bound), FLAT, LONG)
        assert found.steps <= bound or (found.caps.rows, found.caps.lists) == (1000, 200)
        return found.caps.rows, found.caps.lists

    assert caps(1e9) == (0, 0)
    assert caps(1.1e8) == (5000, 5000)
    assert caps(3e7) == (2000, 1000)
    assert caps(1e7) == (1000, 200)  # none fits
    plan = planned("user", settings_of(exact_steps=3e7), FLAT, LONG)
    assert not plan.exact
    assert "users per item: 1,000 (2 items have more)" in plan.words and "user target" not in plan.words


def test_each_key_caps_its_direction_and_what_is_named_is_kept():
    wanted = settings_of(users_per_item=30, items_per_user="exact", target_features=7, cap_seed=4)
    user, item = (planned(side, wanted, FLAT, LONG) for side in ("user", "item"))
    assert (user.caps.lists, user.caps.rows, user.caps.seed) == (30, 7, 4)
    assert (item.caps.lists, item.caps.rows) == (0, 7)
    assert (user.cut_lists, user.cut_rows) == (2, 1000)
    forced = settings_of(users_per_item="exact", items_per_user="exact", target_features="exact", exact_steps=1)
    assert planned("user", forced, FLAT, LONG).exact
    wide = planned("user", settings_of(users_per_item=10_000), FLAT, LONG)
    assert wide.exact and wide.caps.lists == 10_000  # nothing is longer


@pytest.mark.parametrize("value", ["0", "-3", "true", "1.5", "some", "[]"])
def test_other_caps_are_refused(value):
    with pytest.raises(ConfigError, match=r"swing\.users_per_item.*auto, exact, or a number"):
        Config().override(f"swing.users_per_item={value}")


def test_histograms_add_up_and_stay_small():
    rng = np.random.default_rng(1)
    degrees = rng.zipf(1.4, 100_000) % 1_000_000
    whole = Degrees.of(degrees)
    parts = Degrees.merged([Degrees.of(some) for some in np.array_split(degrees, 7)])
    assert (parts.lowest.tolist(), parts.counts.tolist()) == (whole.lowest.tolist(), whole.counts.tolist())
    assert whole.total == 100_000 and len(whole.lowest) < 700
    assert Degrees.from_dict(whole.as_dict()).counts.tolist() == whole.counts.tolist()
    small = Degrees.of(np.array([0, 3, 3, 63, 64, 65, 66]))
    assert small.lowest.tolist() == [0, 3, 63, 64, 66] and small.counts.tolist() == [1, 2, 1, 2, 1]
    for share in (0.1, 0.5, 0.9):
        true = np.quantile(degrees, share, method="inverted_cdf")
        assert true * 31 / 32 <= whole.quantile(share) <= true
    assert Degrees.merged([]).median == 0
