"""SWING target by target, with no table of all features: the sparse and capped regime.

Memory of one call beside the graph: limit_bytes for the table of a target's pairs, in blocks of its rows where it is
larger; and by the largest target of the call, 4 bytes (8 with edge weights) for each entry of its features' lists and
28 for each candidate.
"""

from typing import TYPE_CHECKING

import numpy as np

from trawl.swing.formula import Formula
from trawl.swing.graph import Bipartite, Floats, Ints, walked
from trawl.swing.scoring import Found, node_weights, pair_weights, sums_of

if TYPE_CHECKING:
    from trawl.swing.kernels.records import Graph

_NO_VALUES = np.empty(0, dtype=np.float32)
_WORD = 64  # bits


class Sparse:
    """small: targets of at most so many features (64, or fewer) go to `masks`, larger ones to `lists`."""

    def __init__(self, graph: Bipartite, formula: Formula, limit_bytes: int, small: int = _WORD) -> None:
        self.graph, self.formula, self.limit_bytes = graph, formula, limit_bytes
        self.small = small if graph.list_values is None else -1
        self.weight, self.nodes = pair_weights(graph, formula), node_weights(graph, formula)

    def self_scores(self, targets: Ints) -> Floats:
        return self._run(targets, np.empty(0), 0).own

    def search(self, targets: Ints, scale: Floats, top_k: int) -> Found:
        return self._run(targets, scale, top_k)

    def _run(self, targets: Ints, scale: Floats, top_k: int) -> Found:
        found = Found.room(len(targets), top_k)
        self.fill(targets, np.arange(len(targets)), scale, found)
        return found

    def fill(self, targets: Ints, slots: Ints, scale: Floats, found: Found) -> None:
        """Work the targets at `slots` and write into `found` there."""
        from trawl.swing.kernels import lists, masks

        some = targets[slots]
        degrees, entries = self.graph.rows_ptr[some + 1] - self.graph.rows_ptr[some], walked(self.graph, some)
        small = degrees <= self.small
        graph, sums = graph_of(self.graph), sums_of(self.formula, self.weight, self.nodes, scale)
        if small.any():
            room = min(int(entries[small].max()), self.graph.n) + 1
            masks.search(graph, sums, room, found.best(some[small], slots[small]))
        if not small.all():
            width, room = int(degrees[~small].max()), int(entries[~small].max())
            cells = max(width, min(width * (width + 1) // 2, self.limit_bytes // 4))
            size = (width, min(room, self.graph.n), room, cells)
            lists.search(graph, sums, size, found.best(some[~small], slots[~small]))


def graph_of(graph: Bipartite) -> "Graph":
    """The graph as the kernels take it."""
    from trawl.swing.kernels.compiling import readonly
    from trawl.swing.kernels.records import Graph

    row_values = _NO_VALUES if graph.row_values is None else graph.row_values
    list_values = _NO_VALUES if graph.list_values is None else graph.list_values
    fields = (graph.rows_ptr, graph.rows, row_values, graph.lists_ptr, graph.lists, list_values)
    return Graph(*(readonly(array) for array in fields))
