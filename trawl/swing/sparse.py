"""SWING target by target, with no table of all features: the sparse and capped regime.

Memory of one call beside the graph: limit_bytes for the table of a target's pairs, in blocks of its rows where it is
larger; and by the largest target of the call, 4 bytes (8 with edge weights) for each entry of its features' lists and
28 for each candidate.
"""

import numpy as np

from trawl.swing.formula import Formula
from trawl.swing.graph import Bipartite, Floats, Ints, walked
from trawl.swing.scoring import Found, node_weights, pair_weights

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
        self.fill(targets, np.arange(len(targets)), scale, top_k, found)
        return found

    def fill(self, targets: Ints, slots: Ints, scale: Floats, top_k: int, found: Found) -> None:
        """Work the targets at `slots` and write into `found` there."""
        some = targets[slots]
        degrees, entries = self.graph.rows_ptr[some + 1] - self.graph.rows_ptr[some], walked(self.graph, some)
        small = degrees <= self.small
        for kernel, chosen in ((self._masks, small), (self._lists, ~small)):
            if chosen.any():
                kernel(some[chosen], slots[chosen], degrees[chosen], entries[chosen], scale, top_k, found)

    def _masks(
        self, targets: Ints, slots: Ints, degrees: Ints, entries: Ints, scale: Floats, top_k: int, found: Found
    ) -> None:
        from trawl.swing.kernels import masks

        graph = self.graph
        masks.search(
            *(targets, slots, graph.rows_ptr, graph.rows, graph.lists_ptr, graph.lists),
            min(int(entries.max()), graph.n) + 1,
            *(self.weight, self.nodes, float(self.formula.diagonal), self.formula.inverted, scale, found.own),
            *(found.scores, found.partners, found.shared, found.sizes),
        )

    def _lists(
        self, targets: Ints, slots: Ints, degrees: Ints, entries: Ints, scale: Floats, top_k: int, found: Found
    ) -> None:
        from trawl.swing.kernels import lists

        graph = self.graph
        row_values = _NO_VALUES if graph.row_values is None else graph.row_values
        list_values = _NO_VALUES if graph.list_values is None else graph.list_values
        width, room = int(degrees.max()), int(entries.max())
        lists.search(
            *(targets, slots, graph.rows_ptr, graph.rows, row_values, graph.lists_ptr, graph.lists, list_values),
            *(width, room, min(room, graph.n)),
            max(width, min(width * (width + 1) // 2, self.limit_bytes // 4)),
            *(self.weight, self.nodes, float(self.formula.diagonal), self.formula.inverted, scale, found.own),
            *(found.scores, found.partners, found.shared, found.sizes),
        )
