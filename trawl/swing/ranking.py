"""The order of partners: by rounded score, ties to the smaller index."""

import numpy as np

from trawl.swing.graph import Floats, Ints

_BITS = 40
SLACK = 1e-9  # relative; far above the rounding of any sum here, so that a bound never drops a true partner


def rounded(scores: Floats) -> Floats:
    """Scores to 40 significant bits: sums equal but for the order of their terms become equal."""
    mantissa, exponent = np.frexp(scores)
    return np.asarray(np.ldexp(np.rint(np.ldexp(mantissa, _BITS)), exponent - _BITS))


def best(candidates: Ints, scores: Floats, shared: Ints, top_k: int) -> tuple[Ints, Floats, Ints]:
    """The top_k of one anchor's candidates (any order) with score > 0: partner, rounded score, shared."""
    scores = rounded(scores)
    order = np.lexsort((candidates, -scores))
    order = order[scores[order] > 0][:top_k]
    return candidates[order], scores[order], shared[order]


def kth(scores: Floats, top_k: int) -> float:
    """The k-th largest score less the slack: what a candidate must reach; 0 while there are fewer than k."""
    if len(scores) < top_k:
        return 0.0
    return float(np.partition(scores, len(scores) - top_k)[len(scores) - top_k]) * (1 - SLACK)
