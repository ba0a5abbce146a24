"""Tokens of prompts and answers: how many by status and engine, and how they are spread."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trawl.report.record import Record, Variant, whose
from trawl.report.texts import source_of

# Half powers of two from 1 to 128k; a text of more tokens stands in the last.
EDGES: npt.NDArray[np.int64] = np.unique(np.round(2.0 ** (np.arange(0, 35) / 2)).astype(np.int64))


@dataclass(frozen=True)
class Total:
    """Rows of one status and engine, and their tokens."""

    status: str
    engine: str
    rows: int
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True)
class Spread:
    """`counts[b]` rows have EDGES[b] to EDGES[b + 1] tokens; rows without any are left out."""

    counts: npt.NDArray[np.int64]
    median: int | None  # the upper edge of its bin
    largest: int


@dataclass(frozen=True)
class Tokens:
    """Of one version of the answers: what the engine read (`into`: its prompts) and wrote (`out`)."""

    kind: str
    source: str
    arms: str
    totals: tuple[Total, ...]
    into: Spread
    out: Spread


def tokens(record: Record) -> list[Tokens]:
    """Every version of the answers in the first repetition that took or gave any token, items before users."""
    found = [_tokens(record, kind, v) for kind in ("item", "user") for v in record.variants(f"{kind}_answers")]
    return [t for t in found if t.into.largest or t.out.largest]


def _tokens(record: Record, kind: str, variant: Variant) -> Tokens:
    counts = {name: np.zeros(len(EDGES), dtype=np.int64) for name in ("tokens_in", "tokens_out")}
    largest = dict.fromkeys(counts, 0)
    sums: dict[tuple[str, str], list[int]] = {}
    for table in record.batches(variant, ["status", "engine", *counts]):
        for name in counts:
            values = table.column(name).to_numpy()
            values = values[values > 0]
            places = np.searchsorted(EDGES, values, side="right") - 1
            counts[name] += np.bincount(places, minlength=len(EDGES))
            largest[name] = max(largest[name], int(values.max(initial=0)))
        grouped = table.group_by(["status", "engine"]).aggregate(
            [([], "count_all"), ("tokens_in", "sum"), ("tokens_out", "sum")]
        )
        for row in grouped.to_pylist():
            into = sums.setdefault((row["status"], row["engine"]), [0, 0, 0])
            for place, name in enumerate(("count_all", "tokens_in_sum", "tokens_out_sum")):
                into[place] += row[name]
    return Tokens(
        kind=kind,
        source=source_of(record, variant),
        arms=whose(variant, record),
        totals=tuple(Total(*key, *value) for key, value in sorted(sums.items(), key=lambda kv: -kv[1][0])),
        into=_spread(counts["tokens_in"], largest["tokens_in"]),
        out=_spread(counts["tokens_out"], largest["tokens_out"]),
    )


def _spread(counts: npt.NDArray[np.int64], largest: int) -> Spread:
    upto = np.cumsum(counts)
    if not upto[-1]:
        return Spread(counts, None, 0)
    place = int(np.searchsorted(upto, (upto[-1] + 1) // 2))
    return Spread(counts, int(EDGES[min(place + 1, len(EDGES) - 1)]), largest)


def used(spreads: Sequence[Spread]) -> tuple[int, int]:
    """First and last bin that any of them uses."""
    whole = np.sum([s.counts for s in spreads], axis=0)
    there = np.flatnonzero(whole)
    return (int(there[0]), int(there[-1])) if len(there) else (0, 0)
