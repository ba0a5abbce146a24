"""The best so far of one target: ordered by rounded score, ties to the smaller index."""

from typing import Any

from numba import types as t  # type: ignore[import-untyped, unused-ignore]

from trawl.swing.kernels.compiling import kernel
from trawl.swing.kernels.records import BEST, Best

_SPLIT = 8193.0  # 2^13 + 1: Veltkamp's splitting, which leaves 53 - 13 = 40 bits


@kernel(t.float64(t.float64))
def rounded(score: float) -> float:
    """The score to 40 significant bits: sums equal but for the order of their terms become equal."""
    high = score * _SPLIT
    return high - (high - score)


@kernel(t.float64(t.int64, t.float64, t.int64, t.int64, BEST))
def keep(slot: int, score: float, who: Any, common: int, best: Best) -> float:
    """Put a candidate with a score that is rounded and above 0 where it belongs, if it does.

    Returns what the next must reach: the worst score kept, or 0 while there is room.
    """
    size, top_k = best.sizes[slot], best.scores.shape[1]
    scores, partners, shared = best.scores[slot], best.partners[slot], best.shared[slot]
    at = size
    if size == top_k:
        at = size - 1
        if score < scores[at] or (score == scores[at] and who > partners[at]):
            return float(scores[at])
    while at > 0 and (scores[at - 1] < score or (scores[at - 1] == score and partners[at - 1] > who)):
        scores[at], partners[at], shared[at] = scores[at - 1], partners[at - 1], shared[at - 1]
        at -= 1
    scores[at], partners[at], shared[at] = score, who, common
    if size < top_k:
        best.sizes[slot] = size + 1
    return float(scores[top_k - 1]) if size + 1 >= top_k else 0.0
