"""SWING anchor by anchor, for feature sides too large for a whole table of weights.

For an anchor with features F (d of them) the pair counts come from its candidates' rows alone: every anchor that has
both i and j of F is a candidate, so C_FF = X_Fᵀ X_F. Tables and products are cut into blocks under a bound of memory.
"""

import numpy as np
import scipy.sparse as sp

from trawl.swing.graph import Floats, Ints


class Local:
    """Keeps the matrix and its transpose; working memory <= limit_bytes or one row of an anchor's table."""

    def __init__(self, matrix: sp.csr_array, alpha: float, diagonal: bool, limit_bytes: int) -> None:
        self.x, self.xt = matrix, matrix.T.tocsr()
        self.alpha, self.diagonal, self.limit = alpha, diagonal, limit_bytes

    def self_scores(self) -> Floats:
        """(n,) s(u, u)."""
        return np.array([self._scores(u, only_self=True)[1][0] for u in range(self.x.shape[0])], dtype=np.float64)

    def search(self, anchors: Ints, scale: Floats, top_k: int) -> list[tuple[Ints, Floats, Ints]]:
        """Per anchor (candidates, scaled scores, shared): all that share a feature with it."""
        out = []
        for u in anchors:
            candidates, scores, shared = self._scores(int(u))
            others = candidates != u
            candidates, scores, shared = candidates[others], scores[others], shared[others]
            out.append((candidates, scores * scale[candidates] * scale[u], shared))
        return out

    def _scores(self, anchor: int, only_self: bool = False) -> tuple[Ints, Floats, Ints]:
        """Unscaled scores of the anchor against all who share a feature, itself included, or against itself alone."""
        features = self.x.indices[self.x.indptr[anchor] : self.x.indptr[anchor + 1]]
        columns = self.xt[features]  # (d, n)
        holders = np.unique(columns.indices)
        local = columns[:, holders].T.tocsr()  # (candidates, d)
        wanted = local[np.searchsorted(holders, [anchor])] if only_self and len(holders) else local
        scores = np.zeros(wanted.shape[0])
        d = len(features)
        step = max(1, self.limit // (24 * max(1, d)))
        for start in range(0, d, step):
            table = self._weights(local, start, min(start + step, d))
            for low in range(0, wanted.shape[0], step):
                rows = wanted[low : low + step]
                mixed = rows[:, start : start + step] @ table  # (rows, d) dense
                scores[low : low + step] += np.asarray(rows.multiply(mixed).sum(axis=1)).ravel()
        if only_self:
            return np.array([anchor]), scores if len(scores) else np.zeros(1), np.array([d])
        return holders.astype(np.int64), scores, np.diff(local.indptr).astype(np.int64)

    def _weights(self, local: sp.csr_array, start: int, stop: int) -> Floats:
        """(stop - start, d) rows of the anchor's table of weights."""
        table: Floats = 1.0 / (self.alpha + (local[:, start:stop].T.tocsr() @ local).toarray())
        if not self.diagonal:
            table[np.arange(stop - start), np.arange(start, stop)] = 0.0
        return table
