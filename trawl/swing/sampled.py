"""SWING over lists that are samples, with what is known beside them: how long they were, and whole rows.

By the lists alone a pair of popular features, of whose common anchors nearly none was sampled, would get the largest
weight, and candidates would be ranked by how much of them happens to be sampled. On MovieLens-1M with 500 users per
item that leaves 41 % of the users their best partner by cosine; scaled counts and whole rows leave it to 93 %
(tests/bench/swing_caps.py), for about twice the time. See `kernels.sampled` for the scaled counts.
"""

from typing import TYPE_CHECKING

import numpy as np

from trawl.swing.formula import Formula
from trawl.swing.graph import Bipartite, Floats, Indexes, Ints, walked
from trawl.swing.scoring import Found, node_weights, sums_of
from trawl.swing.sparse import graph_of

if TYPE_CHECKING:
    from trawl.swing.kernels.sampled import Whole

_NO_VALUES = np.empty(0, dtype=np.float32)
_NO_WEIGHTS = np.empty(0)
_NONE_GIVEN = np.empty((0, 0), dtype=np.int32)


class Sampled:
    """`graph` has `popularity` and `full_rows`. Memory: as `Sparse`, and 12 bytes a cell of a table for its 4."""

    def __init__(self, graph: Bipartite, formula: Formula, limit_bytes: int) -> None:
        assert graph.popularity is not None
        self.graph, self.formula, self.limit_bytes = graph, formula, limit_bytes
        self.nodes = node_weights(graph, formula)
        self.whole = np.maximum(graph.popularity, 1).astype(np.float64)
        self.rates = np.where(graph.lengths < graph.popularity, graph.lengths / self.whole, 1.0)

    def self_scores(self, targets: Ints) -> Floats:
        return self._run(targets, np.empty(0), 0, 0).own

    def search(self, targets: Ints, scale: Floats, top_k: int) -> Found:
        return self._run(targets, scale, top_k, self._leaders(top_k))

    def leaders(self, targets: Ints, scale: Floats, top_k: int) -> Indexes:
        """(m, g) the candidates that `search` would score on whole rows, -1 behind the last."""
        found = self._run(targets, scale, self._leaders(top_k), 0)
        there = np.arange(found.partners.shape[1]) < found.sizes[:, None]
        return np.asarray(np.where(there, found.partners, np.int32(-1)), dtype=np.int32)

    def of_leaders(self, targets: Ints, scale: Floats, top_k: int, given: Indexes) -> Found:
        """What `search` gives, of leaders that are known."""
        return self._run(targets, scale, top_k, given.shape[1], given)

    def _leaders(self, top_k: int) -> int:
        return max(self.graph.leaders, 2 * top_k)

    def _run(self, targets: Ints, scale: Floats, top_k: int, leaders: int, given: Indexes = _NONE_GIVEN) -> Found:
        from trawl.swing.kernels import sampled

        graph, found = self.graph, Found.room(len(targets), top_k)
        degrees = graph.rows_ptr[targets + 1] - graph.rows_ptr[targets]
        width, room = int(degrees.max(initial=1)), int(walked(graph, targets).max(initial=1))
        cells = max(width, min(width * (width + 1) // 2, self.limit_bytes // 12))
        sums = sums_of(self.formula, _NO_WEIGHTS, self.nodes, scale)
        size = (width, min(room, graph.n), room, cells)
        slots = np.arange(len(targets))
        sampled.search(graph_of(graph), sums, self._whole(leaders, given), size, found.best(targets, slots))
        return found

    def _whole(self, leaders: int, given: Indexes) -> "Whole":
        from trawl.swing.kernels.compiling import readonly
        from trawl.swing.kernels.sampled import Whole

        graph = self.graph
        assert graph.full_ptr is not None and graph.full_rows is not None
        values = _NO_VALUES if graph.full_values is None else graph.full_values
        rows = (readonly(graph.full_ptr), readonly(graph.full_rows), readonly(values))
        return Whole(*rows, readonly(self.rates), readonly(self.whole), self.formula.alpha, leaders, readonly(given))


def sampled_lists(graph: Bipartite) -> bool:
    """Whether the lists are samples of which the rest is known."""
    return graph.full_rows is not None and graph.popularity is not None and graph.leaders > 0
