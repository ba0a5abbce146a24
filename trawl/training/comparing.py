"""Comparisons of arms as rows of comparisons.json: of all test rows, of the warm and the cold ones, and of slices.

Slices are those of `slices.slices`: by training interactions of the item, by events of the user, and with or without a
text. Of an arm that reads no text they are told by the other one's texts, so that both are measured on the same rows.

A difference is paired by user, and so only where both arms have the same rows with the same labels: an arm with its own
cut-off, threshold of liking or share of users has other test rows, and its differences are null, with the reason.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trawl.inputs import Inputs
from trawl.schemas import TEST
from trawl.store import Store, digest_bytes, digest_json
from trawl.training import statistics
from trawl.training.statistics import Difference, Replicates

Masks = dict[str, npt.NDArray[np.bool_]]
_Pair = tuple[Replicates, Replicates]  # the arm's, the reference's
_READ = ["user", "label", "score", "split", "cold"]
_ROW = ("user", "position", "item", "label")  # what makes a test row the same in two arms
UNLIKE = "its test rows are not the reference's"


def rows_of(
    found: Mapping[str, Mapping[str, Difference]], reference: str, part: str, repetitions: int
) -> list[dict[str, Any]]:
    """`found`: arm -> metric -> its difference from the reference, on the rows named `part`."""
    rows = []
    for metric in statistics.METRICS:
        adjusted = statistics.holm({arm: differences[metric].p for arm, differences in found.items()})
        for arm, differences in found.items():
            d = differences[metric]
            values = {"difference": d.mean, "low": d.low, "high": d.high, "p": d.p, "p_holm": adjusted[arm]}
            rows.append(
                {
                    "arm": arm,
                    "reference": reference,
                    "slice": part,
                    "metric": metric,
                    # Too few rows define no metric, and JSON knows no nan.
                    **{name: value if math.isfinite(value) else None for name, value in values.items()},
                    "repetitions": repetitions,
                    "reason": d.reason or None,
                }
            )
    return rows


def over_the_table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with `p_table`: Holm's correction over all of them, where `p_holm` is over the arms of one column."""
    known = {str(place): row["p"] for place, row in enumerate(rows) if row["p"] is not None}
    adjusted = statistics.holm(known)
    return [row | {"p_table": adjusted.get(str(place))} for place, row in enumerate(rows)]


def compared(
    store: Store, reference: str, marks: Mapping[str, Sequence[str]], part: str, resamples: int
) -> list[dict[str, Any]]:
    """Rows for all test rows, or those of warm or cold items. `marks`: predictions of each arm, by repetition."""

    base, rows = _drawn(store, marks[reference], part, resamples)
    found = {}
    for arm in (name for name in marks if name != reference):
        own, whose = _drawn(store, marks[arm], part, resamples)
        found[arm] = statistics.difference(own, base) if whose == rows else statistics.none(UNLIKE)
    return rows_of(found, reference, part, len(marks[reference]))


def _drawn(store: Store, marks: Sequence[str], part: str, resamples: int) -> tuple[Replicates, list[str]]:
    """Of one arm: its resamples over the repetitions, and which rows each one has."""
    found, rows = [], []
    for repetition, mark in enumerate(marks):
        table = of_test(store, mark, part, _ROW)
        found.append(statistics.drawn(table, resamples, [0, repetition]))
        rows.append(rows_digest(table))
    return statistics.mean_of(found), rows


def rows_digest(table: pa.Table) -> str:
    """Of the test rows in their order, whatever their scores."""
    return digest_json([digest_bytes(np.ascontiguousarray(table[name].to_numpy()).data) for name in _ROW])


def compared_slices(
    store: Store, reference: str, marks: Mapping[str, Sequence[str]], resamples: int
) -> list[dict[str, Any]]:
    """Rows for every slice, named as `items/q1`, `users/q5` or `text/without`; averaged over the repetitions that have
    it. Two arms' test rows of one repetition are held at a time."""
    pairs: dict[str, dict[str, list[_Pair | None]]] = {}
    for repetition, mark in enumerate(marks[reference]):
        base = _Sliced(store, mark, resamples, [0, repetition])
        for arm in (name for name in marks if name != reference):
            own = _Sliced(store, marks[arm][repetition], resamples, [0, repetition])
            for name, two in _paired(own, base):
                pairs.setdefault(name, {}).setdefault(arm, []).append(two)
    rows = []
    for name in sorted(pairs, key=_place):
        found = {arm: _difference(several) for arm, several in pairs[name].items()}
        rows += rows_of(found, reference, name, max(len(several) for several in pairs[name].values()))
    return rows


class _Sliced:
    """The test rows of a predictions table, and what was drawn of its slices."""

    def __init__(self, store: Store, mark: str, resamples: int, seed: list[int]) -> None:
        from trawl.training.slices import COLUMNS, slices  # which loads torch: the driver is spared it

        self.table = of_test(store, mark, "all", (*_ROW, *COLUMNS))
        self.rows = rows_digest(self.table)
        self.masks: Masks = {f"{kind}/{s.name}": s.rows for kind, found in slices(self.table) for s in found}
        self.resamples, self.seed = resamples, seed
        self._known: dict[tuple[str, str], Replicates] = {}

    def replicates(self, name: str, rows: npt.NDArray[np.bool_]) -> Replicates:
        key = (name, digest_bytes(rows.tobytes()))
        if key not in self._known:
            self._known[key] = statistics.drawn(self.table.filter(pa.array(rows)), self.resamples, self.seed)
        return self._known[key]


def _paired(own: _Sliced, base: _Sliced) -> Iterable[tuple[str, _Pair | None]]:
    """(slice, its resamples of both; None where their rows are unlike); texts are the arm's, else the reference's."""
    same = own.rows == base.rows
    for name in dict.fromkeys((*own.masks, *base.masks)):
        ours, theirs = own.masks.get(name), base.masks.get(name)
        if name.startswith("text/"):
            ours = theirs = theirs if ours is None else ours
        if ours is None or theirs is None:
            continue
        like = same and np.array_equal(ours, theirs)
        yield name, (own.replicates(name, ours), base.replicates(name, theirs)) if like else None


def _difference(several: Sequence[_Pair | None]) -> dict[str, Difference]:
    """Over the repetitions; `several` has None for one whose rows are unlike."""
    pairs = [two for two in several if two is not None]
    if len(pairs) < len(several):
        return statistics.none(UNLIKE)
    ours, theirs = zip(*pairs, strict=True)
    return statistics.difference(statistics.mean_of(ours), statistics.mean_of(theirs))


def _place(name: str) -> tuple[int, str]:
    return [name.startswith(kind) for kind in ("items", "users", "text")].index(True), name


def of_test(store: Store, predictions: str, part: str, more: Sequence[str] = ()) -> pa.Table:
    """The test rows of a predictions table: all, warm or cold; with columns beside those of _READ."""
    keep = pc.field("split") == TEST
    if part != "all":
        keep &= pc.field("cold") if part == "cold" else ~pc.field("cold")
    columns = list(dict.fromkeys((*_READ, *more)))
    return pa.concat_tables(
        t.filter(keep) for t in Inputs(store, {"predictions": predictions}).each("predictions", columns)
    )
