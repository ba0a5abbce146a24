"""SWING with the counts of all pairs of features in memory, and most candidates dropped by a bound: the dense regime.

On MovieLens-1M 1.2 % (users) and 2.6 % (items) of the pairs of anchors are scored, by cosine 3.8 and 4.6 %.

Memory beside the graph: 4 p² bytes for the counts (at most limit_bytes; half of it is never touched) and 4 bytes for
each edge. By call: 72 bytes for each anchor (at most limit_bytes) and 4 d² for the weights of the largest target (at
most limit_bytes / 2: larger targets are worked by `sparse`).
"""

from math import isqrt

import numpy as np

from trawl.swing.formula import Formula
from trawl.swing.graph import Bipartite, Floats, Indexes, Ints, walked
from trawl.swing.scoring import Found, node_weights, sums_of
from trawl.swing.sparse import Sparse

_UNUSED = np.empty(0)
_SAMPLE = 1024
# Entries that a target walks, by anchors (r). Measured, in ns for each anchor: a bound costs about 30 and scoring what
# it leaves as much again; counting and scoring all candidates' pairs costs 5 r + 3 r².
_DENSE = 4.0
_SPREAD = 1e6  # of node weights, and alpha: what the bounds' float32 takes without care


def pays(graph: Bipartite, formula: Formula, limit_bytes: int) -> bool:
    """Whether the dense way is open to this graph and formula, and the cheaper one for its mean target."""
    if graph.row_values is not None or formula.inverted or formula.alpha > _SPREAD or not len(graph.rows):
        return False
    if max(4 * graph.p**2, 72 * graph.n) > limit_bytes:
        return False
    nodes = node_weights(graph, formula)
    if nodes.max() > _SPREAD * nodes.min() or nodes.max() > _SPREAD or nodes.min() < 1 / _SPREAD:
        return False
    some = np.unique(np.linspace(0, graph.n - 1, _SAMPLE).astype(np.int64))
    return float(walked(graph, some).mean()) >= _DENSE * graph.n


class Dense:
    def __init__(self, graph: Bipartite, formula: Formula, limit_bytes: int) -> None:
        from trawl.swing.kernels import common as counting
        from trawl.swing.kernels import dense
        from trawl.swing.kernels.compiling import readonly

        self.graph, self.formula, self.sparse = graph, formula, Sparse(graph, formula, limit_bytes)
        self.largest = isqrt(limit_bytes // 8)  # features of a target: 4 d² <= limit_bytes / 2
        lengths = graph.lengths
        order = np.argsort(lengths, kind="stable")
        edges, starts = np.cumsum(lengths[order]), np.cumsum(lengths[order]) - lengths[order]
        seen_ptr = np.concatenate([[0], np.cumsum(np.bincount(graph.lists, minlength=graph.n))])
        seen, common = np.empty_like(graph.lists), np.zeros((graph.p, graph.p), dtype=np.int32)
        counting.turn(graph.lists_ptr, graph.lists, order, seen_ptr[:-1].copy(), seen)
        counting.count_common(graph.lists_ptr, graph.lists, order, seen_ptr, seen, seen_ptr[:-1].copy(), common)
        self.nodes = self.sparse.nodes[order]
        rows = _renumbered(graph, order) if graph.capped else seen
        block = np.minimum(starts * dense.BLOCKS // max(1, edges[-1]), dense.BLOCKS - 1)
        g = (1.0 / np.sqrt(lengths[order] + 10.0)).astype(np.float32)
        self.tables = dense.Tables(
            *(readonly(graph.rows_ptr), readonly(rows), readonly(seen_ptr), readonly(seen)),
            *(readonly(graph.lists_ptr), readonly(graph.lists), readonly(order), readonly(block)),
            *(readonly(g), readonly(common), float(formula.alpha), graph.capped),
        )

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
            sums = sums_of(self.formula, _UNUSED, self.nodes, scale)
            dense.search(self.tables, sums, int(degrees[slots].max()), found.best(targets[slots], slots))
        if len(slots) < len(targets):
            self.sparse.fill(targets, np.flatnonzero(degrees > self.largest), scale, found)
        return found


def _renumbered(graph: Bipartite, order: Ints) -> Indexes:
    """The rows by new numbers, each ascending."""
    new = np.empty(graph.p, dtype=np.int32)
    new[order] = np.arange(graph.p)
    rows = new[graph.rows]
    return np.asarray(rows[np.lexsort((rows, np.repeat(np.arange(graph.n), graph.degrees)))])
