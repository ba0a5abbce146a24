"""Whether positives are any good: how many anchors have one, and how few partners serve them all."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

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

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def warning(self) -> str:
        """One line when the positives collapse onto a few partners; else empty."""
        served = self.anchors - self.without
        if served < 50 or self.ten < max(_COLLAPSED, 3 * 10 / served):
            return ""
        return (
            f"positives collapse: {self.distinct} partners serve {served} anchors, the ten commonest {self.ten:.0%}; "
            f"about {self.collisions:.0f} of a batch of {self.batch} share an anchor's positive; "
            "set swing.normalize = cosine, or look for anchors that interact with everything"
        )


def hubness(partners: npt.NDArray[Any], anchors: int, batch: int = _BATCH) -> Hubness:
    """`partners`: the best partner of each anchor that has one; `anchors`: how many there are in all."""
    counts = np.sort(np.unique(partners, return_counts=True)[1])[::-1].astype(np.float64)
    served = len(partners)
    # Of the batch - 1 others, the share that has the same positive, averaged over anchors.
    pairs = float((counts * (counts - 1)).sum()) / (served * (served - 1)) if served > 1 else 0.0
    return Hubness(
        anchors=anchors,
        without=anchors - served,
        distinct=len(counts),
        largest=float(counts[0] / served) if served else 0.0,
        ten=float(counts[:10].sum() / served) if served else 0.0,
        collisions=pairs * (min(batch, served) - 1) if served else 0.0,
        batch=batch,
    )
