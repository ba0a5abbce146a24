"""Intervals and p of differences: paired bootstrap over users within splits, Holm's correction over a table.

A resample draws as many users as the split has, with replacement, so user u counts w_u ~ multinomial times. All arms
of a repetition get the same w (they are drawn from seed, repetition and the users), so any two of them pair up; with
several repetitions (splits) each resample averages over them. Of very many users, groups are drawn.

An interval is of the resamples' percentiles. p is of their standard error, by the normal distribution (Efron and
Tibshirani, An Introduction to the Bootstrap, 1993): a share of n resamples is never below 2 / (n + 1), which Holm's
factor lifts above .05 in any table of some dozens of rows, whatever the effect.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trawl.training import metrics

Array = npt.NDArray[Any]
METRICS = ("auc", "gauc", "logloss")
_MOST_USERS = 4096  # users up to which a users x users matrix is counted
_MOST_UNITS = 1 << 14  # users up to which each is drawn on its own; more would be as many numbers of each resample
_BLOCK = 64  # rows of a block
_ELEMENTS = 1 << 22  # of a piece of the resamples or of the rows at work
_ROUNDING = 1e-12  # sums of the same numbers in another order differ by less


@dataclass(frozen=True)
class Replicates:
    """One arm: its metrics, and those of each resample, both averaged over the repetitions."""

    point: dict[str, float]
    draws: npt.NDArray[np.float64]  # (resamples, 3) in the order of METRICS


@dataclass(frozen=True)
class Difference:
    mean: float
    low: float  # 95 % interval
    high: float
    p: float  # two-sided; nan where the resamples tell no standard error
    reason: str = ""  # why there is none


def replicates(predictions: Iterable[pa.Table], resamples: int = 1000, seed: int = 0) -> Replicates:
    """`predictions`: the test rows of one arm, a table (user, label, score) for each repetition."""
    return mean_of([drawn(table, resamples, [seed, repetition]) for repetition, table in enumerate(predictions)])


def drawn(table: pa.Table, resamples: int, seed: list[int]) -> Replicates:
    """Of one repetition. Without rows, or with one label alone, what they do not define is nan."""
    user, label, score = (table[name].to_numpy() for name in ("user", "label", "score"))
    measured = metrics.measure(user, label, score)
    point = {name: measured[name] for name in METRICS}
    if not len(user):
        return Replicates(point, np.full((resamples, len(METRICS)), np.nan))
    return Replicates(point, _resample(user, label.astype(bool), score, resamples, seed))


def mean_of(repetitions: Sequence[Replicates]) -> Replicates:
    """One arm's repetitions as one."""
    points = np.mean([[r.point[name] for name in METRICS] for r in repetitions], axis=0)
    draws = np.mean([r.draws for r in repetitions], axis=0)
    return Replicates(dict(zip(METRICS, points.tolist(), strict=True)), draws)


def difference(ours: Replicates, theirs: Replicates) -> dict[str, Difference]:
    """Ours minus theirs in each metric."""
    out = {}
    for column, name in enumerate(METRICS):
        draws = ours.draws[:, column] - theirs.draws[:, column]
        draws = draws[np.isfinite(draws)]
        mean = ours.point[name] - theirs.point[name]
        if not len(draws):
            out[name] = Difference(mean, float("nan"), float("nan"), float("nan"))
            continue
        low, high = np.quantile(draws, [0.025, 0.975])
        out[name] = Difference(mean, float(low), float(high), _normal_p(mean, draws))
    return out


def none(reason: str) -> dict[str, Difference]:
    """What stands for the differences of arms that cannot be paired."""
    nan = float("nan")
    return {name: Difference(nan, nan, nan, nan, reason) for name in METRICS}


def _normal_p(mean: float, draws: Array) -> float:
    """Both tails of the normal distribution beyond mean / standard error. Where nothing varies, as of a single user, a
    difference has none; no difference is 1."""
    error = float(np.std(draws, ddof=1)) if len(draws) > 1 else 0.0
    if error <= _ROUNDING:
        return 1.0 if abs(mean) <= _ROUNDING else float("nan")
    return math.erfc(abs(mean) / error / math.sqrt(2))


def compare(
    ours: Sequence[pa.Table], theirs: Sequence[pa.Table], resamples: int = 1000, seed: int = 0
) -> dict[str, Difference]:
    """`difference` of two arms' predictions. For many pairs of arms, take each arm's `replicates` once."""
    return difference(replicates(ours, resamples, seed), replicates(theirs, resamples, seed))


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p of each of several p values; the order of names is kept. One that is nan stays it, and is no
    test that the others are corrected for."""
    order = sorted((name for name in values if np.isfinite(values[name])), key=lambda name: values[name])
    adjusted, largest = dict.fromkeys(values, float("nan")), 0.0
    for place, name in enumerate(order):
        largest = max(largest, min(1.0, values[name] * (len(order) - place)))
        adjusted[name] = largest
    return {name: adjusted[name] for name in values}


def _resample(user: Array, label: Array, score: Array, resamples: int, seed: list[int]) -> npt.NDArray[np.float64]:
    """(resamples, 3)."""
    distinct, code = np.unique(user, return_inverse=True)
    rng = np.random.default_rng(seed)
    unit = _units(len(distinct), rng)
    units, group = int(unit.max()) + 1, unit[code]
    weights = rng.multinomial(units, np.full(units, 1 / units), size=resamples).astype(np.float64)
    rows = np.bincount(group).astype(np.float64)
    losses = np.bincount(group, weights=metrics.row_losses(label, score))
    own, many = metrics.group_auc(code, label, score)
    there = np.isfinite(own)
    counted, won = (np.bincount(unit, weights=v) for v in (many * there, many * np.where(there, own, 0.0)))
    with np.errstate(invalid="ignore", divide="ignore"):
        gauc = (weights @ won) / (weights @ counted)
        logloss = (weights @ losses) / (weights @ rows)
    return np.stack([_weighted_auc(group, label, score, weights), gauc, logloss], axis=1)


def _units(users: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """(users,) what is drawn of each user: itself, or one of _MOST_UNITS groups of users, all of about one size."""
    return np.arange(users) if users <= _MOST_UNITS else rng.permutation(users) % _MOST_UNITS


def _weighted_auc(group: Array, label: Array, score: Array, weights: Array) -> npt.NDArray[np.float64]:
    """(resamples,) AUC where the rows of user u count weights[:, u] times."""
    users = weights.shape[1]
    positives = weights @ np.bincount(group[label], minlength=users)
    negatives = weights @ np.bincount(group[~label], minlength=users)
    won = _pairs_by_users if users <= _MOST_USERS else _pairs_by_rows
    first, last = np.lexsort((label, score)), np.lexsort((~label, score))  # ties: positives come last, or first
    pairs = won(group[first], label[first], weights)
    if (label[first] != label[last]).any():
        pairs = (pairs + won(group[last], label[last], weights)) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(pairs / (positives * negatives))


def _pairs_by_users(owner: Array, positive: Array, weights: Array) -> npt.NDArray[np.float64]:
    """(resamples,) weighted pairs of a positive row and a negative one before it.

    How often rows of user u win over rows of user v is counted once, in a users x users matrix A; a resample then
    costs w A w. Rows are cut into blocks: pairs across blocks are a matrix product, those within one are enumerated.
    """
    users = weights.shape[1]
    counts, before = np.zeros((users, users)), np.zeros(users)
    size = max(1, _ELEMENTS // users) * _BLOCK
    for start in range(0, len(owner), size):
        part = slice(start, start + size)
        counts += _wins(owner[part], positive[part], users, before)
        before += np.bincount(owner[part][~positive[part]], minlength=users)
    return np.asarray(((weights @ counts) * weights).sum(axis=1))


def _wins(owner: Array, positive: Array, users: int, before: Array) -> npt.NDArray[np.float64]:
    """(users, users) how often a positive row of one stands behind a negative row of the other, among some rows.

    `before`: (users,) negative rows that stand before all of them.
    """
    blocks = -(-len(owner) // _BLOCK)
    block = np.arange(len(owner)) // _BLOCK
    wins = np.bincount((block * users + owner)[positive], minlength=blocks * users).reshape(blocks, users)
    losses = np.bincount((block * users + owner)[~positive], minlength=blocks * users).reshape(blocks, users)
    counts = wins.T.astype(np.float64) @ (before + np.cumsum(losses, axis=0) - losses)
    padded = np.full(blocks * _BLOCK, -1)
    padded[: len(owner)] = np.where(positive, owner, owner + users)  # below `users`: positives
    rows = padded.reshape(blocks, _BLOCK)
    won = ((rows >= 0) & (rows < users))[:, :, None] & (rows >= users)[:, None, :]
    number, upper, lower = np.nonzero(won & np.tri(_BLOCK, k=-1, dtype=bool))
    within = rows[number, upper] * users + rows[number, lower] - users
    return np.asarray(counts + np.bincount(within, minlength=users * users).reshape(users, users))


def _pairs_by_rows(owner: Array, positive: Array, weights: Array) -> npt.NDArray[np.float64]:
    """The same for many users: a cumulative sum over the rows for each resample, some resamples at a time."""
    out = []
    by_user = weights.T.copy()  # (users, resamples): rows are gathered whole
    size = max(1, _ELEMENTS // max(1, len(owner)))
    for start in range(0, weights.shape[0], size):
        rows = by_user[:, start : start + size][owner]  # (rows, resamples at a time)
        below = np.cumsum(np.where(positive[:, None], 0.0, rows), axis=0)
        out.append(np.einsum("ij,ij->j", rows[positive], below[positive]))
    return np.concatenate(out)
