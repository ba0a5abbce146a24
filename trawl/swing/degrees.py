"""How many entries each of a group of anchors has, as a histogram that is small whatever the group's size.

Degrees under 64 are counted exactly, larger ones by bins of at most 1/32 of their size, so that two thousand numbers
hold any graph. Histograms of parts add up to that of the whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trawl.swing.graph import Ints

_FINE = 32  # bins per doubling
_EXACT = 2 * _FINE


@dataclass(frozen=True)
class Degrees:
    """`lowest` (b,): ascending, the smallest degree of each bin in use; `counts` (b,): anchors in it, all above 0."""

    lowest: Ints
    counts: Ints

    @classmethod
    def of(cls, degrees: npt.NDArray[Any]) -> "Degrees":
        """Of whole numbers >= 0, one for each anchor."""
        lowest, counts = np.unique(_lowest(np.asarray(degrees, dtype=np.int64)), return_counts=True)
        return cls(lowest, counts.astype(np.int64))

    @classmethod
    def merged(cls, parts: Sequence["Degrees"]) -> "Degrees":
        lowest = np.concatenate([np.empty(0, np.int64), *(p.lowest for p in parts)])
        distinct, place = np.unique(lowest, return_inverse=True)
        counts = np.zeros(len(distinct), dtype=np.int64)
        np.add.at(counts, place, np.concatenate([np.empty(0, np.int64), *(p.counts for p in parts)]))
        return cls(distinct, counts)

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @property
    def median(self) -> float:
        """Of the bins' smallest degrees: at most 1/32 below the true one; 0 for none."""
        return self.quantile(0.5)

    def quantile(self, share: float) -> float:
        """The degree that this share of the anchors does not exceed; 0 for none."""
        if not len(self.counts):
            return 0.0
        return float(self.lowest[np.searchsorted(np.cumsum(self.counts), share * self.total)])

    def as_dict(self) -> dict[str, list[int]]:
        return {"lowest": self.lowest.tolist(), "counts": self.counts.tolist()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Sequence[int]]) -> "Degrees":
        return cls(*(np.array(plain[name], dtype=np.int64) for name in ("lowest", "counts")))


def _lowest(degrees: Ints) -> Ints:
    """The smallest degree of the bin that each falls in."""
    shift = np.maximum(np.frexp(degrees.astype(np.float64))[1] - _FINE.bit_length(), 0)
    return np.asarray((degrees >> shift) << shift, dtype=np.int64)
