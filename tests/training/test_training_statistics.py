"""The paired bootstrap finds a planted difference, and none where there is none; Holm's correction."""

import time

import numpy as np
import pyarrow as pa
import pytest

from trawl.training import metrics, statistics
from trawl.training.statistics import compare, difference, holm, replicates


def arm(seed: int, signal: float, users: int = 60, rows: int = 25, noise_seed: int = 0) -> pa.Table:
    """Scores that follow the label by `signal`; the users' levels differ."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), rows)
    label = rng.random(len(user)) < 0.3 + 0.4 * rng.random(users)[user]
    shared = rng.normal(size=len(user))
    own = np.random.default_rng(1000 + noise_seed).normal(size=len(user)) * 0.2
    score = 1 / (1 + np.exp(-(signal * (label - 0.5) + shared + own)))
    return pa.table({"user": user, "label": label, "score": score})


def test_a_planted_difference_is_found() -> None:
    found = compare([arm(0, 1.2), arm(1, 1.2)], [arm(0, 0.8, noise_seed=1), arm(1, 0.8, noise_seed=1)], resamples=300)
    for name in ("auc", "gauc"):
        assert 0 < found[name].low < found[name].mean < found[name].high
        assert found[name].p < 0.02
    assert found["logloss"].high < 0


def test_no_difference_is_found_where_there_is_none() -> None:
    inside = 0
    for seed in range(20):
        found = compare([arm(seed, 1.0)], [arm(seed, 1.0, noise_seed=seed + 1)], resamples=200)
        inside += found["auc"].low <= 0 <= found["auc"].high
    assert inside >= 17  # 95 % intervals


def test_the_same_predictions_differ_by_nothing() -> None:
    found = compare([arm(0, 1.0)], [arm(0, 1.0)], resamples=50)
    assert (found["auc"].mean, found["auc"].low, found["auc"].high, found["auc"].p) == (0, 0, 0, 1.0)


def made(point: float, draws: list[float]) -> statistics.Replicates:
    """Of an arm with one value in all metrics."""
    values = np.array(draws, dtype=np.float64)
    return statistics.Replicates(dict.fromkeys(statistics.METRICS, point), np.stack([values] * 3, axis=1))


NOTHING = made(0.0, [0.0, 0.0, 0.0])


def test_p_is_the_normal_tail_beyond_the_standard_error() -> None:
    """1.96 standard errors (1 here) from 0, on either side; the interval stays that of the percentiles."""
    for sign in (1, -1):
        found = difference(made(sign * 1.959964, [sign * 2.0, sign * 3.0, sign * 4.0]), NOTHING)["auc"]
        assert found.p == pytest.approx(0.05, abs=1e-6)
        assert sorted((abs(found.low), abs(found.high))) == pytest.approx([2.05, 3.95])


def test_p_where_the_resamples_do_not_vary() -> None:
    """As of a single user, or of a single resample; sums in another order are no difference."""
    assert difference(made(1e-17, [0.0, 1e-17, 0.0]), NOTHING)["auc"].p == 1.0
    assert np.isnan(difference(made(0.1, [0.1, 0.1, 0.1]), NOTHING)["auc"].p)
    one = difference(made(0.1, [0.1]), made(0.0, [0.0]))["auc"]
    assert (one.low, one.high, np.isnan(one.p)) == (0.1, 0.1, True)


def test_resamples_that_define_no_metric_are_left_out() -> None:
    nan = float("nan")
    whole, holed = made(1.0, [0.0, 1.0, 2.0]), made(1.0, [nan, 0.0, 1.0, nan, 2.0])
    assert difference(holed, made(0.0, [0.0] * 5))["auc"] == difference(whole, NOTHING)["auc"]
    assert np.isnan(difference(made(nan, [0.0, 1.0, 2.0]), NOTHING)["auc"].p)
    assert np.isnan(difference(made(1.0, [nan] * 3), NOTHING)["auc"].p)


def test_a_huge_effect_is_found_among_many_rows() -> None:
    rng = np.random.default_rng(0)
    found = {"huge": difference(*[replicates([arm(0, signal)], 1000) for signal in (2.0, 0.5)])["auc"].p}
    zero = made(0.0, [0.0] * 1000)
    for number in range(199):
        draws = rng.normal(rng.normal(), 1.0, 1000)
        found[f"none-{number}"] = difference(made(float(draws.mean()), draws.tolist()), zero)["auc"].p
    adjusted = holm(found)
    assert adjusted.pop("huge") < 1e-6
    assert min(adjusted.values()) > 0.05


@pytest.mark.parametrize("most", [0, 4096], ids=["by-rows", "by-users"])
@pytest.mark.parametrize("digits", [1, 9], ids=["ties", "no-ties"])
def test_a_resample_is_the_metric_of_the_drawn_rows(most: int, digits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights as repeated rows."""
    monkeypatch.setattr(statistics, "_MOST_USERS", most)
    rng = np.random.default_rng(0)
    group, label = rng.integers(0, 5, 300), rng.random(300) < 0.5
    score = np.round(rng.random(300), digits)
    weights = rng.integers(0, 4, size=(7, 5)).astype(float)
    for found, weight in zip(statistics._weighted_auc(group, label, score, weights), weights, strict=True):
        times = weight[group].astype(int)
        assert found == pytest.approx(metrics.auc(np.repeat(label, times), np.repeat(score, times)))


def test_the_order_of_rows_does_not_matter() -> None:
    table = arm(3, 1.0)
    mixed = table.take(pa.array(np.random.default_rng(0).permutation(table.num_rows)))
    one, other = replicates([table], 50), replicates([mixed], 50)
    assert np.allclose(one.draws, other.draws)
    assert difference(one, other)["auc"].mean == pytest.approx(0)


def test_every_repetition_draws_its_own_users() -> None:
    table = arm(0, 1.0)
    one, two = (replicates([table] * n, 200) for n in (1, 2))
    assert one.point == two.point
    assert (two.draws.std(axis=0) < 0.85 * one.draws.std(axis=0)).all()  # of independent draws .71


def test_a_thousand_resamples_of_a_real_test_split_take_seconds() -> None:
    table = arm(0, 1.0, users=600, rows=150)
    started = time.process_time()
    replicates([table], 1000)
    assert time.process_time() - started < 10


def test_holm_multiplies_the_smallest_by_the_number_of_tests() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}


def test_holm_takes_no_count_of_what_is_not_defined() -> None:
    found = holm({"a": 0.03, "b": float("nan"), "c": 0.01})
    assert (found["a"], found["c"]) == pytest.approx((0.03, 0.02))
    assert np.isnan(found["b"])
    assert holm({"a": 0.03}) == {"a": 0.03}
    assert holm({}) == {}


def test_groups_of_very_many_users_are_drawn_and_tell_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = arm(0, 1.2, users=400, rows=8), arm(0, 0.8, users=400, rows=8, noise_seed=1)
    each = compare([ours], [theirs], 400)
    monkeypatch.setattr(statistics, "_MOST_UNITS", 100)
    some = compare([ours], [theirs], 400)
    for name, one in each.items():
        other = some[name]
        assert one.mean == other.mean
        assert other.high - other.low == pytest.approx(one.high - one.low, rel=0.25)
        assert (other.low, other.high) != (one.low, one.high)


@pytest.mark.parametrize("rows", [64, 130])
def test_pieces_of_the_rows_add_up(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table = arm(0, 1.0, users=20, rows=40)
    whole = replicates([table], 20).draws
    monkeypatch.setattr(statistics, "_ELEMENTS", 20 * (rows // 64))
    assert np.array_equal(replicates([table], 20).draws, whole)
