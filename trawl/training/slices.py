"""Parts of the test rows that are measured on their own: by how often training met the item, by how many events the
user has, and with or without a text of the item.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trawl.model.lexicon import Array, Ints
from trawl.training.corpus import Tables

BINS = 5  # of the rows whose count is above 0, as equal as ties allow; rows with 0 are a slice of their own
COLUMNS = ("item_count", "user_count", "has_text")  # of the predictions
_BLOCK = 1 << 22  # log rows counted at a time


@dataclass(frozen=True)
class Slice:
    """Rows of a table. `name` says which of its kind, alike for every split: 0, then q1, q2, ...; or with, without."""

    name: str
    rows: npt.NDArray[np.bool_]
    low: int | None = None  # smallest and largest count in it
    high: int | None = None

    def words(self) -> dict[str, Any]:
        counts = {} if self.low is None else {"from": self.low, "to": self.high}
        return {"name": self.name} | counts


def item_counts(tables: Tables, kept: Array) -> Ints:
    """(n items + 1,) interactions of training users with each item, as training sees them: `kept` log rows."""
    out = np.zeros(tables.items + 1, dtype=np.int64)
    for start in range(0, len(tables.log_user), _BLOCK):
        part = slice(start, start + _BLOCK)
        seen = tables.train[tables.log_user[part]] & kept[part]
        out += np.bincount(tables.log_item[part][seen], minlength=len(out))
    return out


def by_count(counts: Array, bins: int = BINS) -> list[Slice]:
    """Rows with 0, then quantiles of the others; a count is never in two of them. The largest count is by itself where
    a quantile falls on it, so that one which most rows have does not take in the others.
    """
    counts = np.asarray(counts)
    above = counts[counts > 0]
    out = [Slice("0", counts == 0, 0, 0)] if len(above) < len(counts) else []
    if not len(above):
        return out
    edges = np.quantile(above, np.linspace(0, 1, bins + 1)[1:-1], method="lower")
    less = above[above < above.max()]
    edges = np.unique(np.minimum(edges, less.max())) if len(less) else edges[:0]
    place = np.where(counts > 0, np.searchsorted(edges, counts, side="left"), -1)
    for number, found in enumerate(np.unique(place[place >= 0]), 1):
        rows = place == found
        out.append(Slice(f"q{number}", rows, int(counts[rows].min()), int(counts[rows].max())))
    return out


def slices(table: pa.Table) -> Iterator[tuple[str, list[Slice]]]:
    """(items, users or text; its slices) by those of COLUMNS that a predictions table has.

    A single slice of all rows tells nothing and is left out.
    """
    there = [name for name in COLUMNS if name in table.column_names]
    for kind, column in (("items", "item_count"), ("users", "user_count")):
        found = by_count(table[column].to_numpy()) if column in there else []
        if len(found) > 1:
            yield kind, found
    if "has_text" in there and table["has_text"].null_count < len(table):
        known = table["has_text"].fill_null(False).to_numpy()
        if known.any() and not known.all():
            yield "text", [Slice("with", known), Slice("without", ~known)]
