"""Results on slices of the test rows: by how often training met the item, events of the user, has a text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

METRICS = ("auc", "gauc", "logloss", "ece")
KINDS = {
    "items": "training interactions of the item",
    "users": "interactions of the user",
    "text": "text of the item",
}
Figures = Mapping[str, float | None]


@dataclass(frozen=True)
class Column:
    """A slice over all repetitions: bins are the same share of the rows in each, their counts may differ."""

    name: str
    words: str  # its counts, as 12-340, or with, without
    rows: float  # mean over cells


@dataclass(frozen=True)
class Sliced:
    kind: str
    words: str  # what the slices are by
    columns: tuple[Column, ...]
    arms: Mapping[str, Mapping[str, Figures]]  # arm -> slice -> means over the repetitions; without those it lacks

    def value(self, arm: str, slice_name: str, metric: str) -> float | None:
        """None where the arm's rows do not define it."""
        return self.arms[arm].get(slice_name, {}).get(metric)


def sliced(results: Sequence[Mapping[str, Any]], arms: Sequence[str]) -> list[Sliced]:
    """One for each kind that some finished cell tells apart; `arms` in their order, those without a result left out."""
    out = []
    for kind, words in KINDS.items():
        rows = [(r["arm"], s) for r in results for s in (r["test"].get("slices") or {}).get(kind, [])]
        if not rows:
            continue
        names = sorted({s["name"] for _, s in rows}, key=_place)
        found = {arm: _means([s for whose, s in rows if whose == arm]) for arm in arms}
        columns = tuple(_column(name, [s for _, s in rows if s["name"] == name]) for name in names)
        out.append(Sliced(kind, words, columns, {arm: means for arm, means in found.items() if means}))
    return out


def of_slice(comparison: Mapping[str, Any]) -> bool:
    """Whether a row of comparisons.json is of a slice, as items/q1, and not of all, the warm or the cold rows."""
    return "/" in comparison["slice"]


def differences(comparisons: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """(arm, slice) -> the comparison of AUC with the reference."""
    return {(c["arm"], c["slice"]): c for c in comparisons if of_slice(c) and c["metric"] == "auc"}


def unpaired(comparisons: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """A line on each arm of which some rows of comparisons.json say why there is no difference from the reference."""
    parts: dict[tuple[str, str, str], list[str]] = {}
    for c in comparisons:
        if reason := c.get("reason"):  # which older runs do not say
            parts.setdefault((c["arm"], c["reference"], reason), []).append(c["slice"].partition("/")[0])
    return {
        arm: f"{arm}: no difference from {reference} (rows: {', '.join(dict.fromkeys(names))}): {reason}"
        for (arm, reference, reason), names in parts.items()
    }


def _place(name: str) -> tuple[int, str]:
    """Bins by their number, with before without."""
    return (int(name.lstrip("q")), "") if name.lstrip("q").isdigit() else (0, name)


def _column(name: str, rows: Sequence[Mapping[str, Any]]) -> Column:
    words = name
    if rows[0].get("from") is not None:
        low, high = min(r["from"] for r in rows), max(r["to"] for r in rows)
        words = f"{low:,}" if low == high else f"{low:,}-{high:,}"
    return Column(name, words, float(np.mean([r["rows"] for r in rows])))


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    out: dict[str, dict[str, float | None]] = {}
    for name in {r["name"] for r in rows}:
        mine = [r for r in rows if r["name"] == name]
        known = {metric: [r[metric] for r in mine if r.get(metric) is not None] for metric in METRICS}
        out[name] = {metric: float(np.mean(values)) if values else None for metric, values in known.items()}
    return out
