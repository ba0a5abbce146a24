"""SWING over lists that are samples, with what is known beside them: how long they were, and whole rows.

By the lists alone a pair of popular features, of whose common anchors nearly none was sampled, would get the largest
weight, and candidates would be ranked by how much of them happens to be sampled. On MovieLens-1M with 500 users per
item that leaves 41 % of the users their best partner by cosine; scaled counts and whole rows leave it to 93 %
(tests/bench/swing_caps.py). See `kernels.sampled` for the scaled counts.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from trawl.swing.formula import Formula
from trawl.swing.graph import Bipartite, Floats, Indexes, Ints, walked
from trawl.swing.scoring import Found, node_weights

LEADERS = 100  # candidates of a target that are scored on whole rows
_NO_VALUES = np.empty(0, dtype=np.float32)
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
        return self._run(targets, scale, top_k, max(LEADERS, 2 * top_k))

    def leaders(self, targets: Ints, scale: Floats, top_k: int) -> Indexes:
        """(m, g) the candidates that `search` would score on whole rows, -1 behind the last."""
        found = self._run(targets, scale, max(LEADERS, 2 * top_k), 0)
        there = np.arange(found.partners.shape[1]) < found.sizes[:, None]
        return np.asarray(np.where(there, found.partners, np.int32(-1)), dtype=np.int32)

    def of_leaders(self, targets: Ints, scale: Floats, top_k: int, given: Indexes) -> Found:
        """What `search` gives, of leaders that are known."""
        return self._run(targets, scale, top_k, given.shape[1], given)

    def _run(self, targets: Ints, scale: Floats, top_k: int, leaders: int, given: Indexes = _NONE_GIVEN) -> Found:
        from trawl.swing.kernels import sampled

        graph, formula, found = self.graph, self.formula, Found.room(len(targets), top_k)
        degrees = graph.rows_ptr[targets + 1] - graph.rows_ptr[targets]
        width, room = int(degrees.max(initial=1)), int(walked(graph, targets).max(initial=1))
        full_ptr, full_rows, full_values = _full(graph)
        cells = max(width, min(width * (width + 1) // 2, self.limit_bytes // 12))
        arrays: tuple[Any, ...] = (
            *(targets, graph.rows_ptr, graph.rows, _values(graph.row_values)),
            *(graph.lists_ptr, graph.lists, _values(graph.list_values), full_ptr, full_rows, full_values),
            *(width, room, min(room, graph.n) + 1, cells, self.rates, self.whole, self.nodes),
            *(formula.alpha, float(formula.diagonal), formula.inverted, scale, leaders, given),
            *(found.own, found.scores, found.partners, found.shared, found.sizes),
        )
        sampled.search(*arrays)
        return found


def sampled_lists(graph: Bipartite) -> bool:
    """Whether the lists are samples of which the rest is known."""
    return graph.full_rows is not None and graph.popularity is not None


def _full(graph: Bipartite) -> tuple[Ints, Indexes, npt.NDArray[np.float32]]:
    assert graph.full_ptr is not None and graph.full_rows is not None
    return graph.full_ptr, graph.full_rows, _values(graph.full_values)


def _values(values: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float32]:
    return _NO_VALUES if values is None else values
