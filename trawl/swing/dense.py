"""SWING with the counts of all pairs of features in memory, and most candidates dropped by a bound: the dense regime.

On MovieLens-1M about 1 % (normalize = none) and 3 % (cosine) of the pairs of anchors are scored.

Memory beside the graph: 4 p² bytes for the counts (at most limit_bytes, half of it never touched) and 4 bytes for each
edge; and by call 64 bytes for each anchor and 4 d² for the largest target's weights (at most limit_bytes / 2: larger
targets are worked by `sparse`).
"""

from math import isqrt

import numpy as np

from trawl.swing.formula import Formula
from trawl.swing.graph import Bipartite, Floats, Indexes, Ints, walked
from trawl.swing.scoring import Found, node_weights
from trawl.swing.sparse import Sparse

_SAMPLE = 1024
_DENSE = 0.5  # entries that a target walks, by anchors: from here on a bound for every anchor costs less than counting
_SPREAD = 1e6  # of node weights, and alpha: what the bounds' float32 takes without care


def pays(graph: Bipartite, formula: Formula, limit_bytes: int) -> bool:
    """Whether the dense way is open to this graph and formula, and the cheaper one for its mean target."""
    if graph.row_values is not None or formula.inverted or formula.alpha > _SPREAD or not len(graph.rows):
        return False
    if 4 * graph.p**2 > limit_bytes:
        return False
    nodes = node_weights(graph, formula)
    if nodes.max() > _SPREAD * nodes.min() or nodes.max() > _SPREAD or nodes.min() < 1 / _SPREAD:
        return False
    some = np.unique(np.linspace(0, graph.n - 1, _SAMPLE).astype(np.int64))
    return float(walked(graph, some).mean()) >= _DENSE * graph.n


class Dense:
    def __init__(self, graph: Bipartite, formula: Formula, limit_bytes: int) -> None:
        from trawl.swing.kernels import dense

        self.graph, self.formula, self.sparse = graph, formula, Sparse(graph, formula, limit_bytes)
        self.largest = isqrt(limit_bytes // 8)  # features of a target: 4 d² <= limit_bytes / 2
        lengths = graph.lengths
        self.order = np.argsort(lengths, kind="stable")
        edges = np.cumsum(lengths[self.order])
        self.block = np.minimum((edges - lengths[self.order]) * dense.BLOCKS // max(1, edges[-1]), dense.BLOCKS - 1)
        self.g = (1.0 / np.sqrt(lengths[self.order] + 10.0)).astype(np.float32)
        self.nodes = self.sparse.nodes[self.order]
        self.seen_ptr = np.concatenate([[0], np.cumsum(np.bincount(graph.lists, minlength=graph.n))])
        self.seen = np.empty_like(graph.lists)  # the features in whose lists an anchor stands
        dense.turn(graph.lists_ptr, graph.lists, self.order, self.seen_ptr[:-1].copy(), self.seen)
        self.common = np.zeros((graph.p, graph.p), dtype=np.int32)
        dense.count_common(
            graph.lists_ptr, graph.lists, self.order, self.seen_ptr, self.seen, self.seen_ptr[:-1].copy(), self.common
        )
        self.rows = self._renumbered() if graph.capped else self.seen

    def _renumbered(self) -> Indexes:
        """The rows by new numbers, each ascending."""
        new = np.empty(self.graph.p, dtype=np.int32)
        new[self.order] = np.arange(self.graph.p)
        rows = new[self.graph.rows]
        owner = np.repeat(np.arange(self.graph.n), self.graph.degrees)
        return rows[np.lexsort((rows, owner))]

    def self_scores(self, targets: Ints) -> Floats:
        return self._run(targets, np.empty(0), 0).own

    def search(self, targets: Ints, scale: Floats, top_k: int) -> Found:
        return self._run(targets, scale, top_k)

    def _run(self, targets: Ints, scale: Floats, top_k: int) -> Found:
        from trawl.swing.kernels import dense

        graph, found = self.graph, Found.room(len(targets), top_k)
        degrees = graph.rows_ptr[targets + 1] - graph.rows_ptr[targets]
        slots = np.flatnonzero(degrees <= self.largest)
        if len(slots):
            dense.search(
                *(targets[slots], slots, graph.rows_ptr, self.rows, self.seen_ptr, self.seen),
                *(graph.lists_ptr, graph.lists, self.order, self.block, self.common, self.nodes, self.g),
                *(graph.capped, int(degrees[slots].max()), self.formula.alpha, float(self.formula.diagonal), scale),
                *(found.own, found.scores, found.partners, found.shared, found.sizes),
            )
        if len(slots) < len(targets):
            self.sparse.fill(targets, np.flatnonzero(degrees > self.largest), scale, top_k, found)
        return found
