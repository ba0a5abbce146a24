"""What all kernels take: the graph, the formula's numbers, the targets, and where the answer goes."""

from typing import NamedTuple

from numba import types as t  # type: ignore[import-untyped, unused-ignore]

from trawl.swing.kernels.compiling import Array, array, record


class Graph(NamedTuple):
    """As `graph.Bipartite`; without edge weights both values are empty."""

    rows_ptr: Array
    rows: Array
    row_values: Array
    lists_ptr: Array
    lists: Array
    list_values: Array


class Sums(NamedTuple):
    """weight[c]: of a pair of features with c in common; nodes (p,); scale (n,): multiplied into an anchor's scores."""

    weight: Array
    nodes: Array
    scale: Array
    diagonal: float  # 1: i = j is summed as well; 0: it is not
    inverted: bool


class Best(NamedTuple):
    """Targets and their rows (slots) in (m, top_k) scores, partners, shared, and (m,) sizes and self scores (own).

    Without columns, self scores alone are computed.
    """

    targets: Array
    slots: Array
    scores: Array
    partners: Array
    shared: Array
    sizes: Array
    own: Array


GRAPH = record(
    Graph, array(t.int64), array(t.int32), array(t.float32), array(t.int64), array(t.int32), array(t.float32)
)
SUMS = record(Sums, array(t.float64), array(t.float64), array(t.float64), t.float64, t.boolean)
BEST = record(
    Best, array(t.int64), array(t.int64), t.float64[:, ::1], t.int32[:, ::1], t.int32[:, ::1], t.int64[::1],
    t.float64[::1],
)  # fmt: skip
