"""Numbers of mining: who has no positive, and how much of the positives a few partners are (hubness).

In-degrees are counted from the table of positives; degrees, caps and their error are what the stage left in the
manifest. A positive is an anchor's first partner.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trawl.report.record import Record, Variant, settings, share, whose
from trawl.schemas import TRAIN

_BATCH = 256  # where the recipe names none


@dataclass(frozen=True)
class Spread:
    """Anchors by degree: `lowest` (b,) the smallest degree of each bin, ascending; `share` (b,) of them up to it."""

    lowest: npt.NDArray[np.int64]
    share: npt.NDArray[np.float64]

    @property
    def median(self) -> int:
        return int(self.lowest[np.searchsorted(self.share, 0.5 - 1e-12)])


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
    interactions: str = ""  # which ones the graph is made of: liked or all
    batch: int = _BATCH  # anchors of a batch
    collisions: float | None = None  # others of a random batch that are expected to share an anchor's positive
    population: Spread | None = None  # of all anchors that have a feature
    positives: Spread | None = None  # of the positives, each as often as it serves
    caps: str = ""
    cap_error: str = ""
    warnings: tuple[str, ...] = field(default=())


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
    notes = variant.manifest.notes
    batch = min(int(record.setting(variant, f"training.{key}") or _BATCH) for key in ("anchors", "batch_size"))
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
        interactions=str(notes.get("interactions") or record.setting(variant, "swing.interactions") or ""),
        batch=batch,
        collisions=_collisions(degrees, batch),
        population=_spread(notes, "population"),
        positives=_spread(notes, "positives"),
        caps=str(notes.get("caps", {}).get("words", "")),
        cap_error=str(notes.get("cap_words", "")),
        warnings=tuple(map(str, notes.get("warnings", ()))),
    )


def _collisions(degrees: npt.NDArray[np.int64], batch: int) -> float | None:
    """Computed: of the batch - 1 others, the share of ordered pairs of anchors that have the same positive."""
    served = int(degrees.sum())
    pairs = share(float((degrees * (degrees - 1.0)).sum()), served * (served - 1.0))
    return None if pairs is None else pairs * (min(batch, served) - 1)


def _spread(notes: Mapping[str, Any], name: str) -> Spread | None:
    found = notes.get("degrees", {}).get(name, {})
    counts = np.array(found.get("counts", []), dtype=np.int64)
    if not counts.sum():
        return None
    return Spread(np.array(found["lowest"], dtype=np.int64), np.cumsum(counts) / counts.sum())


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
