"""Scores as they are ranked."""

import numpy as np

from trawl.swing.graph import Floats

_SPLIT = 8193.0  # 2^13 + 1: Veltkamp's splitting, which leaves 53 - 13 = 40 bits; as in kernels.keeping


def rounded(scores: Floats) -> Floats:
    """Scores to 40 significant bits: sums equal but for the order of their terms become equal."""
    high = np.asarray(scores, dtype=np.float64) * _SPLIT
    return np.asarray(high - (high - scores))
