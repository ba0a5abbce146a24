"""Whether positives are any good: how many anchors have one, and how few partners serve them all.

A positive is an anchor's best partner (rank 0). `counted` says which interactions the graph is made of (liked or
all): figures of the two cannot be compared, so it stands beside them wherever they are shown.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trawl.swing.graph import Ints

_COLLAPSED = 0.2  # share of the anchors served by the ten commonest partners
_BATCH = 256


@dataclass(frozen=True)
class Hubness:
    """Of the best partners (rank 0). Shares are of the anchors that have a positive."""

    anchors: int
    without: int  # anchors without a positive
    distinct: int  # different partners
    largest: float  # share of the anchors that the commonest partner serves
    ten: float  # share that the ten commonest serve
    collisions: float  # other anchors of a random batch of `batch` that are expected to share an anchor's positive
    batch: int = _BATCH
    most: int = 0  # largest in-degree: anchors that the commonest partner serves
    counted: str = "all"  # the interactions that the graph is made of: liked or all
    normalize: str = "none"
    median_degree: float = 0.0  # of all anchors that have any: features (a user's items, an item's users)
    median_positive: float = 0.0  # the same of the positives, each as often as it serves

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def warning(self) -> str:
        """One line with the remedy when the positives collapse onto a few partners; else empty."""
        served = self.anchors - self.without
        said = (
            f"{self.distinct} partners serve them all; about {self.collisions:.0f} of a batch of {self.batch} share an "
            "anchor's positive"
        )
        return collapse(served, self.ten * served, self.counted, self.normalize, said)


def collapse(served: int, ten: float, counted: str, normalize: str, said: str = "") -> str:
    """The warning, if any. ten: how many of the `served` anchors the ten commonest partners serve; said: more of it."""
    if served < 50 or ten < max(_COLLAPSED * served, 30):
        return ""
    other = "all" if counted == "liked" else "liked"
    remedy = (
        "set swing.normalize = cosine"
        if normalize == "none"
        else f"swing.normalize is {normalize} already, so try swing.interactions = {other}"
    )
    return (
        f"positives collapse (interactions: {counted}): the ten commonest partners serve {ten / served:.0%} of "
        f"{served:,} anchors{'; ' if said else ''}{said}; {remedy}, or look for anchors that interact with everything"
    )


def hubness(
    partners: npt.NDArray[Any],
    anchors: int,
    batch: int = _BATCH,
    *,
    degrees: Ints | None = None,
    counted: str = "all",
    normalize: str = "none",
) -> Hubness:
    """`partners`: the best partner of each anchor that has one; `anchors`: how many there are in all.

    degrees (n,): features of each anchor, by the numbers that `partners` holds; without it the medians are 0.
    """
    counts = np.sort(np.unique(partners, return_counts=True)[1])[::-1].astype(np.float64)
    served = len(partners)
    medians = {}
    if degrees is not None and served:
        medians = {"median_degree": _median(degrees[degrees > 0]), "median_positive": _median(degrees[partners])}
    return Hubness(
        anchors=anchors,
        without=anchors - served,
        distinct=len(counts),
        largest=float(counts[0] / served) if served else 0.0,
        ten=float(counts[:10].sum() / served) if served else 0.0,
        collisions=collisions(counts, batch),
        batch=batch,
        most=int(counts[0]) if served else 0,
        counted=counted,
        normalize=normalize,
        **medians,
    )


def _median(values: npt.NDArray[Any]) -> float:
    return float(np.median(values)) if len(values) else 0.0


def collisions(counts: npt.NDArray[Any], batch: int) -> float:
    """Of a random batch of different anchors, the others that share an anchor's positive; the mean over anchors.

    counts: the anchors that each partner serves. Computed: of the batch - 1 others, the share of ordered pairs of
    anchors that have the same positive.
    """
    counts = np.asarray(counts, dtype=np.float64)
    served = float(counts.sum())
    pairs = float((counts * (counts - 1)).sum()) / (served * (served - 1)) if served > 1 else 0.0
    return pairs * (min(batch, served) - 1) if served else 0.0
