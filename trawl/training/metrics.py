"""AUC, gAUC, LogLoss and ECE, exact over all rows given, in float64. Scores are probabilities."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_TINY = 1e-7  # scores are kept this far from 0 and 1
ECE_BINS = 15  # of equal width


def auc(label: Array, score: Array) -> float:
    """Chance that a positive row scores above a negative one, ties counting half; nan without both labels."""
    return float(group_auc(np.zeros(len(label), dtype=np.int64), label, score)[0][0]) if len(label) else float("nan")


def group_auc(group: Array, label: Array, score: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """AUC and rows of each group 0..max; nan where a group lacks one of the labels."""
    label = np.asarray(label, dtype=bool)
    order = np.lexsort((score, group))
    group_s, score_s = np.asarray(group)[order], np.asarray(score)[order]
    fresh = np.ones(len(order), dtype=bool)  # begins a run of equal scores within a group
    fresh[1:] = (group_s[1:] != group_s[:-1]) | (score_s[1:] != score_s[:-1])
    first = np.flatnonzero(fresh)
    last = np.append(first[1:], len(order)) - 1
    rank = (first + last)[np.cumsum(fresh) - 1] / 2.0  # mean place of the run, over all rows
    rows = np.bincount(group_s)
    rank -= (np.cumsum(rows) - rows)[group_s]  # now within the group, from 0
    positive = label[order]
    positives = np.bincount(group_s, weights=positive)
    negatives = rows - positives
    above = np.bincount(group_s, weights=rank * positive) - positives * (positives - 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(above / (positives * negatives)), rows


def gauc(user: Array, label: Array, score: Array) -> float:
    """Mean AUC of the users that have both labels, weighted by their rows; nan when there is none."""
    _, group = np.unique(user, return_inverse=True)
    values, rows = group_auc(group, label, score) if len(group) else (np.zeros(0), np.zeros(0))
    there = np.isfinite(values)
    return float((values[there] @ rows[there]) / rows[there].sum()) if there.any() else float("nan")


def row_losses(label: Array, score: Array) -> npt.NDArray[np.float64]:
    """-log of the probability given to each row's label."""
    p = np.clip(np.asarray(score, dtype=np.float64), _TINY, 1 - _TINY)
    return np.asarray(-np.log(np.where(np.asarray(label, dtype=bool), p, 1 - p)))


def logloss(label: Array, score: Array) -> float:
    return float(row_losses(label, score).mean()) if len(label) else float("nan")


def ece(label: Array, score: Array) -> float:
    """Expected calibration error (Guo et al. 2017, eq. 3): the mean over rows of |share of positives - mean score| of
    the row's bin, in 15 bins of equal width.
    """
    score = np.asarray(score, dtype=np.float64)
    if not len(score):
        return float("nan")
    place = np.clip((score * ECE_BINS).astype(np.int64), 0, ECE_BINS - 1)
    gap = np.asarray(label, dtype=np.float64) - score
    return float(np.abs(np.bincount(place, weights=gap)).sum() / len(score))


def measure(user: Array, label: Array, score: Array) -> dict[str, float]:
    """The four of them and the number of rows; all nan where a score is, which has no place in an order."""
    score = np.asarray(score, dtype=np.float64)
    if not np.isfinite(score).all():
        return dict.fromkeys(("auc", "gauc", "logloss", "ece"), float("nan")) | {"rows": len(label)}
    return {
        "auc": auc(label, score),
        "gauc": gauc(user, label, score),
        "logloss": logloss(label, score),
        "ece": ece(label, score),
        "rows": len(label),
    }


def plain(values: Mapping[str, float]) -> dict[str, Any]:
    """JSON knows no nan: None stands for what the rows do not define."""
    return {k: (v if np.isfinite(v) else None) for k, v in values.items()}
