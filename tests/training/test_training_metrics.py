"""AUC, gAUC and LogLoss against brute force, ties included."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trawl.training import metrics

ROWS = st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.sampled_from([0.1, 0.2, 0.2, 0.5, 0.9])), max_size=30)


def brute_auc(rows: list[tuple[int, bool, float]]) -> float:
    positive = [s for _, y, s in rows if y]
    negative = [s for _, y, s in rows if not y]
    if not positive or not negative:
        return float("nan")
    won = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    return won / (len(positive) * len(negative))


def brute_gauc(rows: list[tuple[int, bool, float]]) -> float:
    total, weight = 0.0, 0
    for user in {u for u, _, _ in rows}:
        mine = [r for r in rows if r[0] == user]
        value = brute_auc(mine)
        if not math.isnan(value):
            total, weight = total + value * len(mine), weight + len(mine)
    return total / weight if weight else float("nan")


@settings(deadline=None)
@given(ROWS)
def test_metrics_are_those_of_all_pairs(rows: list[tuple[int, bool, float]]) -> None:
    user, label, score = (np.array([r[i] for r in rows]) for i in range(3))
    found = metrics.measure(user.astype(np.int64), label.astype(bool), score.astype(np.float64))
    assert found["auc"] == pytest.approx(brute_auc(rows), nan_ok=True)
    assert found["gauc"] == pytest.approx(brute_gauc(rows), nan_ok=True)
    if rows:
        expected = -sum(math.log(s if y else 1 - s) for _, y, s in rows) / len(rows)
        assert found["logloss"] == pytest.approx(expected)
    assert found["rows"] == len(rows)


def test_certain_and_wrong_costs_a_finite_loss() -> None:
    assert metrics.logloss(np.array([True]), np.array([0.0])) == pytest.approx(-math.log(1e-7), rel=1e-6)


def test_users_with_one_label_do_not_count_in_gauc() -> None:
    user, label = np.array([1, 1, 2, 2]), np.array([1, 0, 1, 1])
    assert metrics.gauc(user, label, np.array([0.1, 0.9, 0.5, 0.5])) == 0.0


def test_a_score_that_is_no_number_leaves_no_metric() -> None:
    found = metrics.measure(np.array([1, 1, 2]), np.array([True, False, True]), np.array([0.5, np.nan, 0.4]))
    assert metrics.plain(found) == {"auc": None, "gauc": None, "logloss": None, "ece": None, "rows": 3}
