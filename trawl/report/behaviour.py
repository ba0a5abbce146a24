"""Numbers of what was read: users, items, events, samples."""

from dataclasses import dataclass

import numpy as np

from trawl.report.record import Record, share
from trawl.schemas import TEST, TRAIN, VALID


@dataclass(frozen=True)
class Split:
    """One of train, valid, test."""

    name: str
    users: int
    samples: int
    liked: float | None  # share of the samples


@dataclass(frozen=True)
class Behaviour:
    """What the data room published; None where a table is not there."""

    source: str
    users: int | None
    items: int | None
    events: int | None
    per_user: dict[str, float] | None  # median, mean and most events of a user
    cold_items: int | None
    splits: tuple[Split, ...]


def behaviour(record: Record) -> Behaviour | None:
    """None when nothing was read in this run."""
    users, items, log = (record.first(name) for name in ("users", "items", "log"))
    if not (users or items or log):
        return None
    cold = record.first("cold_items")
    return Behaviour(
        source=str(record.recipe["data"]["source"]),
        users=users.manifest.rows if users else None,
        items=items.manifest.rows if items else None,
        events=log.manifest.rows if log else None,
        per_user=_per_user(record),
        cold_items=record.counts(cold, ["cold"]).get((True,), 0) if cold else None,
        splits=_splits(record),
    )


def _per_user(record: Record) -> dict[str, float] | None:
    cutoffs = record.first("cutoffs")
    if not cutoffs or not cutoffs.manifest.rows:
        return None
    counts = record.bincount(cutoffs, "events")  # how many users have so many events
    upto = np.cumsum(counts)
    return {
        "median": float(np.searchsorted(upto, (upto[-1] + 1) // 2)),
        "mean": float(counts @ np.arange(len(counts)) / upto[-1]),
        "most": float(len(counts) - 1),
    }


def _splits(record: Record) -> tuple[Split, ...]:
    samples, splits = record.first("samples"), record.first("splits")
    if not samples or not splits:
        return ()
    users = record.counts(splits, ["part"])
    rows = record.counts(samples, ["split", "label"])
    out = []
    for name in (TRAIN, VALID, TEST):
        liked, other = rows.get((name, True), 0), rows.get((name, False), 0)
        out.append(Split(name, users.get((name,), 0), liked + other, share(liked, liked + other)))
    return tuple(out)
