"""What the ways to score have in common: their inputs by formula, and the arrays that they fill."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from trawl.swing.formula import Formula
from trawl.swing.graph import Bipartite, Floats, Indexes, Ints

if TYPE_CHECKING:
    from trawl.swing.kernels.records import Best, Sums


@dataclass(frozen=True)
class Found:
    """The best partners of m targets: (m, top_k) of which sizes (m,) count, and (m,) self scores where asked for."""

    scores: Floats
    partners: Indexes
    shared: Indexes
    sizes: Ints
    own: Floats

    @classmethod
    def room(cls, targets: int, top_k: int) -> "Found":
        shape = (targets, top_k)
        indexes = (np.zeros(shape, np.int32), np.zeros(shape, np.int32))
        return cls(np.zeros(shape), *indexes, np.zeros(targets, np.int64), np.zeros(targets))

    def best(self, targets: Ints, slots: Ints) -> "Best":
        """As the kernels take it: these targets, to be written at these rows."""
        from trawl.swing.kernels.compiling import readonly
        from trawl.swing.kernels.records import Best

        answer = (self.scores, self.partners, self.shared, self.sizes, self.own)
        return Best(readonly(targets), readonly(slots), *answer)


class Scorer(Protocol):
    """A way to compute SWING. It may be called by several threads at once."""

    def self_scores(self, targets: Ints) -> Floats:
        """(m,) s(u, u), not normalised."""

    def search(self, targets: Ints, scale: Floats, top_k: int) -> Found:
        """The best partners; a score is multiplied with scale (n,) of both anchors."""


def pair_weights(graph: Bipartite, formula: Formula) -> Floats:
    """(longest list + 2,) the weight of a pair of features with so many anchors in common; at least the target is."""
    common = np.arange(int(graph.lengths.max(initial=0)) + 2, dtype=np.float64)
    common[0] = 1.0  # never read; 1 / alpha may not exist
    return formula.alpha + common if formula.inverted else np.asarray(1.0 / (formula.alpha + common))


def node_weights(graph: Bipartite, formula: Formula) -> Floats:
    """(p,) by how many anchors each feature has; one without anchors counts as one with 1."""
    count = np.maximum(graph.lengths if graph.popularity is None else graph.popularity, 1).astype(np.float64)
    if formula.node_weight == "sqrt":
        return np.asarray(count**-0.5)
    if formula.node_weight == "power":
        return np.asarray((formula.node_a + count) ** -formula.node_b)
    return np.ones(graph.p)


def sums_of(formula: Formula, weight: Floats, nodes: Floats, scale: Floats) -> "Sums":
    """The formula's numbers as the kernels take them."""
    from trawl.swing.kernels.compiling import readonly
    from trawl.swing.kernels.records import Sums

    return Sums(readonly(weight), readonly(nodes), readonly(scale), float(formula.diagonal), formula.inverted)
