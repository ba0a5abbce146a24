"""The best so far of one target: ordered by rounded score, ties to the smaller index."""

from numba import types as t  # type: ignore[import-untyped, unused-ignore]

from trawl.swing.kernels.compiling import Array, kernel

_SPLIT = 8193.0  # 2^13 + 1: Veltkamp's splitting, which leaves 53 - 13 = 40 bits


@kernel(t.float64(t.float64))
def rounded(score: float) -> float:
    """The score to 40 significant bits: sums equal but for the order of their terms become equal."""
    high = score * _SPLIT
    return high - (high - score)


@kernel(t.int64(t.int64, t.float64, t.int64, t.int64, t.float64[::1], t.int32[::1], t.int32[::1]))
def keep(size: int, score: float, who: int, common: int, scores: Array, partners: Array, shared: Array) -> int:
    """Put a candidate where it belongs among the `size` best of at most len(scores); the new size. Score is rounded."""
    if score <= 0.0:
        return size
    top_k = len(scores)
    at = size
    if size == top_k:
        at = size - 1
        if score < scores[at] or (score == scores[at] and who > partners[at]):
            return size
    while at > 0 and (scores[at - 1] < score or (scores[at - 1] == score and partners[at - 1] > who)):
        scores[at], partners[at], shared[at] = scores[at - 1], partners[at - 1], shared[at - 1]
        at -= 1
    scores[at], partners[at], shared[at] = score, who, common
    return min(size + 1, top_k)
