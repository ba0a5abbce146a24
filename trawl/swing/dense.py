"""SWING with the whole table of weights in memory, and most candidates dropped by an upper bound.

Shapes: n anchors, p features, B blocks of features, c anchors of a chunk, d features of an anchor.

The bound. A feature pair inside an overlap of two *different* anchors has at least two common anchors, so pairs with
fewer never count and their (largest) weights are left out of it. Features are renumbered by popularity and cut into B
blocks of equal edges; with g = 1 / sqrt(popularity + 10) and, over the features of anchor u alone,
M_ab = max over p in a, q in b of W_pq / (g_p g_q),

    s(u, v) <= sum over blocks a, b of M_ab h_a h_b,   h_a = sum of g over the overlap's features in a,

which costs one sparse product for all blocks. On MovieLens-1M it leaves about 3 % (cosine) and 1 % (none) of the
pairs to be scored. They are scored the best bounds first, in batches, until a bound is under the k-th best score.
"""

import numpy as np
import scipy.sparse as sp

from trawl.swing.graph import Floats, Ints, degrees
from trawl.swing.ranking import SLACK, kth

_BLOCKS = 16
_FIRST, _BATCH = 32, 128  # candidates scored at once: the first batch finds a threshold, later ones are larger
_CHUNK_BYTES = 96 << 20


class Dense:
    """Keeps W (8 p² bytes) and the matrix twice. `matrix` must be canonical."""

    def __init__(self, matrix: sp.csr_array, alpha: float, diagonal: bool) -> None:
        order = np.argsort(degrees(matrix.T.tocsr()), kind="stable")
        self.x = matrix[:, order].tocsr() if matrix.shape[1] else matrix
        self.x.sort_indices()
        self.xt = self.x.T.tocsr()
        common = _common(self.xt)
        self.weights = 1.0 / (alpha + common)
        if not diagonal:
            np.fill_diagonal(self.weights, 0.0)
        self.alone = 1.0 / (alpha + 1.5)  # pairs of a larger weight have one common anchor
        self._split()

    def _split(self) -> None:
        """The blocks: `split`, the matrix with a row for each (anchor, block) and values g."""
        (n, p), popularity = self.x.shape, degrees(self.xt)
        edges = np.cumsum(popularity)
        cuts = np.searchsorted(edges, edges[-1] * np.arange(_BLOCKS + 1) / _BLOCKS) if p else np.zeros(_BLOCKS + 1)
        cuts[0], cuts[-1] = 0, p
        self.g = g = 1.0 / np.sqrt(popularity + 10.0)
        # Columns are sorted, so a row's blocks are neighbours: the same edges under a finer row pointer.
        block = np.searchsorted(cuts, np.arange(p), side="right") - 1
        row = np.repeat(np.arange(n), degrees(self.x)) * _BLOCKS + block[self.x.indices]
        pointer = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n * _BLOCKS))])
        self.split = sp.csr_array((g[self.x.indices], self.x.indices, pointer), shape=(n * _BLOCKS, p))

    def self_scores(self) -> Floats:
        """(n,) s(u, u)."""
        return np.array([self._table(u).sum() for u in range(self.x.shape[0])], dtype=np.float64)

    def search(self, anchors: Ints, scale: Floats, top_k: int) -> list[tuple[Ints, Floats, Ints]]:
        """Per anchor (candidates, scaled scores, shared), the true top_k among them."""
        chunk = max(1, _CHUNK_BYTES // (8 * _BLOCKS * max(1, self.x.shape[0])))
        out = []
        for start in range(0, len(anchors), chunk):
            some = anchors[start : start + chunk]
            rows = (some[:, None] * _BLOCKS + np.arange(_BLOCKS)).ravel()
            h = (self.split[rows] @ self.xt).toarray().reshape(len(some), _BLOCKS, -1)
            out += [self._search(int(u), h_bn, scale, top_k) for u, h_bn in zip(some, h, strict=True)]
        return out

    def _bound(self, anchor: int, table: Floats, h_bn: Floats) -> Floats:
        """(n,) upper bounds of an anchor's unscaled scores; 0 for itself."""
        rows = self.split.indptr[anchor * _BLOCKS : (anchor + 1) * _BLOCKS + 1]
        used = np.flatnonzero(np.diff(rows))
        if not len(used):
            return np.zeros(self.x.shape[0])
        starts = rows[used] - rows[0]
        inverse = 1.0 / self.g[self._features(anchor)]
        ratio = np.where(table < self.alone, table, 0.0) * inverse * inverse[:, None]
        most = np.maximum.reduceat(np.maximum.reduceat(ratio, starts, axis=0), starts, axis=1)
        h = h_bn[used]
        bound: Floats = np.einsum("bn,bn->n", most @ h, h)
        bound[anchor] = 0.0
        return bound

    def _search(self, anchor: int, h_bn: Floats, scale: Floats, top_k: int) -> tuple[Ints, Floats, Ints]:
        features, table = self._features(anchor), self._table(anchor)
        bound = self._bound(anchor, table, h_bn) * scale * scale[anchor]
        size = min(max(_FIRST, 2 * top_k), len(bound))
        first = np.argpartition(bound, len(bound) - size)[len(bound) - size :]
        first = first[bound[first] > 0]
        scores, shared = self._score(first, features, table)
        scores *= scale[first] * scale[anchor]
        need = kth(scores, top_k)
        open_ = (bound >= need) & (bound > 0)
        open_[first] = False
        left = np.flatnonzero(open_)
        left = left[np.argsort(-bound[left], kind="stable")]
        candidates, at, size = first, 0, _BATCH
        while at < len(left) and bound[left[at]] * (1 + SLACK) >= need:
            batch = left[at : at + size]
            more, common = self._score(batch, features, table)
            more *= scale[batch] * scale[anchor]
            candidates, scores = np.concatenate([candidates, batch]), np.concatenate([scores, more])
            shared = np.concatenate([shared, common])
            need, at, size = kth(scores, top_k), at + size, 2 * size
        return candidates, scores, shared

    def _score(self, candidates: Ints, features: Ints, table: Floats) -> tuple[Floats, Ints]:
        """Exact unscaled scores and shared counts of some candidates: rowsum((X_F W_FF) ∘ X_F)."""
        block = self.x[candidates][:, features].toarray()
        return np.einsum("cd,cd->c", block @ table, block), block.sum(axis=1).astype(np.int64)

    def _features(self, anchor: int) -> Ints:
        return np.asarray(self.x.indices[self.x.indptr[anchor] : self.x.indptr[anchor + 1]])

    def _table(self, anchor: int) -> Floats:
        """(d, d) weights between the features of an anchor."""
        features = self._features(anchor)
        return self.weights[features[:, None], features]


def _common(xt: sp.csr_array) -> Floats:
    """(p, p) anchors that two features have in common; by rows, so that the sparse product stays small."""
    p = xt.shape[0]
    out = np.empty((p, p))
    x = xt.T.tocsr()
    for start in range(0, p, 256):
        out[start : start + 256] = (xt[start : start + 256] @ x).toarray()
    return out
