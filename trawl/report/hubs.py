"""Numbers of mining: who has no positive, and how much of the positives a few partners are (hubness)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trawl.report.record import Record, Variant, settings, share, whose
from trawl.schemas import TRAIN


@dataclass(frozen=True)
class Hubs:
    """One side's positives. Shares are of the anchors; `degrees`: top-1 in-degree of each partner, largest first."""

    kind: str
    arms: str
    anchors: int
    without: int  # of those that might have a positive: training users, all items
    rows: int
    distinct: int
    largest: float | None
    ten: float | None
    tied: float | None  # anchors whose first two partners score the same
    degrees: npt.NDArray[np.int64]
    settings: Mapping[str, Any]


def hubs(record: Record) -> list[Hubs]:
    """Every version of the positives in the first repetition, users before items."""
    return [_hubs(record, kind, v) for kind in ("user", "item") for v in record.variants(f"{kind}_positives")]


def _hubs(record: Record, kind: str, variant: Variant) -> Hubs:
    degrees = np.zeros(0, dtype=np.int64)
    tied = 0
    last: pa.Table | None = None  # a batch may end between an anchor's first and second row
    for table in record.batches(variant, ["anchor", "rank", "partner", "score"]):
        top = table.filter(pc.equal(table.column("rank"), 0)).column("partner").to_numpy()
        found = np.bincount(top, minlength=len(degrees))
        found[: len(degrees)] += degrees
        degrees = found
        whole = pa.concat_tables([last, table]) if last is not None else table
        tied += _ties(whole)
        last = table.slice(table.num_rows - 1)
    degrees = np.sort(degrees[degrees > 0])[::-1]
    anchors = int(degrees.sum())
    return Hubs(
        kind=kind,
        arms=whose(variant, record),
        anchors=anchors,
        without=max(0, _candidates(record, kind, variant) - anchors),
        rows=variant.manifest.rows,
        distinct=len(degrees),
        largest=share(int(degrees[:1].sum()), anchors),
        ten=share(int(degrees[:10].sum()), anchors),
        tied=share(tied, anchors),
        degrees=degrees,
        settings=settings(variant),
    )


def _ties(table: pa.Table) -> int:
    """Anchors whose rows 0 and 1 stand here with equal scores; rows are sorted by (anchor, rank)."""
    anchor, rank, score = (table.column(c).to_numpy() for c in ("anchor", "rank", "score"))
    pairs = (rank[:-1] == 0) & (rank[1:] == 1) & (anchor[:-1] == anchor[1:])
    return int((pairs & (score[:-1] == score[1:])).sum())


def _candidates(record: Record, kind: str, variant: Variant) -> int:
    if kind == "user":
        splits = record.beside(variant, "splits")
        return record.counts(splits, ["part"]).get((TRAIN,), 0) if splits else 0
    items = record.beside(variant, "items")
    return items.manifest.rows if items else 0
