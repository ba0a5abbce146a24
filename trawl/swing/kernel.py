"""SWING with the k best partners of each anchor; see `formula` for what is computed."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from trawl.errors import ConfigError
from trawl.swing.formula import Formula
from trawl.swing.graph import Bipartite, Floats, Ints
from trawl.swing.ranking import best

LIMIT_BYTES = 512 << 20


@dataclass(frozen=True)
class Partners:
    """Rows (anchor, rank) in that order; numbers of anchors, from 0. All arrays have one length."""

    anchor: Ints
    rank: npt.NDArray[np.int32]
    partner: Ints
    score: Floats
    shared: Ints  # features that anchor and partner have in common


class Swing:
    """SWING over one graph, prepared once and asked for ranges of anchors as often as wanted."""

    def __init__(self, graph: Bipartite, formula: Formula | None = None, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self.graph, self.formula, self.limit_bytes = graph, formula or Formula(), limit_bytes
        if self.formula.inverted and graph.row_values is not None:
            raise ConfigError("swing.inverted = true: not with edge weights")
        values = np.ones(len(graph.lists)) if graph.list_values is None else graph.list_values.astype(np.float64)
        self._lists = sp.csr_array((values, graph.lists, graph.lists_ptr), shape=(graph.p, graph.n))
        self._node = _node_weights(graph, self.formula)
        self._own: Floats | None = None

    def self_scores(self, anchors: Ints | range) -> Floats:
        """(len(anchors),) s(u, u), not normalised."""
        return np.array([self._scores(int(u), True)[1].sum() for u in anchors], dtype=np.float64)

    def topk(self, anchors: Ints | range, top_k: int, own: Floats | None = None) -> Partners:
        """The top_k partners of each of `anchors`: others with shared >= 1 and score > 0, the best first.

        own (n,): the self scores of all anchors, needed by cosine and computed when not given.
        """
        if top_k < 1:
            raise ConfigError(f"swing.top_k = {top_k}: must be at least 1")
        wanted = np.asarray(anchors, dtype=np.int64)
        scale = self._scales(own)
        ranked = []
        for u in wanted:
            candidates, scores, shared = self._scores(int(u))
            others = candidates != u
            candidates, scores, shared = candidates[others], scores[others], shared[others]
            ranked.append(best(candidates, scores * scale[candidates] * scale[u], shared, top_k))
        sizes = np.array([len(partner) for partner, _, _ in ranked], dtype=np.int64)
        return Partners(
            anchor=np.repeat(wanted, sizes),
            rank=(np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)).astype(np.int32),
            partner=np.concatenate([np.empty(0, np.int64), *(r[0] for r in ranked)]),
            score=np.concatenate([np.empty(0, np.float64), *(r[1] for r in ranked)]),
            shared=np.concatenate([np.empty(0, np.int64), *(r[2] for r in ranked)]),
        )

    def _scales(self, own: Floats | None) -> Floats:
        if self.formula.normalize == "none":
            return np.ones(self.graph.n)
        if self.formula.normalize == "degree":
            own = self.graph.degrees.astype(np.float64)
        elif own is None:
            if self._own is None:
                self._own = self.self_scores(range(self.graph.n))
            own = self._own
        # An anchor without any pair has score 0 with everyone.
        return np.asarray(np.divide(1.0, np.sqrt(own), out=np.zeros(self.graph.n), where=own > 0))

    def _scores(self, anchor: int, only_self: bool = False) -> tuple[Ints, Floats, Ints]:
        graph, formula = self.graph, self.formula
        edges = slice(*graph.rows_ptr[anchor : anchor + 2])
        features = graph.rows[edges]
        d = len(features)
        mine = np.ones(d) if graph.row_values is None else graph.row_values[edges].astype(np.float64)
        columns = self._lists[features]
        holders = np.union1d(columns.indices, [anchor])
        local = columns[:, holders].toarray().T
        pattern = np.zeros((len(holders), d))
        pattern[np.searchsorted(holders, columns.indices), np.repeat(np.arange(d), np.diff(columns.indptr))] = 1.0
        at = np.searchsorted(holders, anchor)
        pattern[at], local[at] = 1.0, mine
        table = formula.alpha + pattern.T @ pattern
        table = table if formula.inverted else 1.0 / table
        table *= np.outer(mine * self._node[features], mine * self._node[features])
        if not formula.diagonal:
            np.fill_diagonal(table, 0.0)
        if only_self:
            local, pattern, holders = local[[at]], pattern[[at]], holders[[at]]
        scores = ((local @ table) * local).sum(axis=1)
        if formula.inverted:
            scores = np.divide(1.0, scores, out=np.zeros(len(scores)), where=scores > 0)
        return holders.astype(np.int64), scores, pattern.sum(axis=1).astype(np.int64)


def _node_weights(graph: Bipartite, formula: Formula) -> Floats:
    """(p,) by how many anchors each feature has; one without anchors counts as one with 1."""
    length = np.maximum(graph.lengths if graph.popularity is None else graph.popularity, 1).astype(np.float64)
    if formula.node_weight == "sqrt":
        return np.asarray(length**-0.5)
    if formula.node_weight == "power":
        return np.asarray((formula.node_a + length) ** -formula.node_b)
    return np.ones(graph.p)
