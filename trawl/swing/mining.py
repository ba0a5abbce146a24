"""What a mining task does: the self scores or the k best partners of one range of targets.

A normalised score is divided by something of both anchors, so it takes two passes over the ranges: `own`, then `topk`.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from trawl.swing.caps import scaled_up
from trawl.swing.formula import Formula
from trawl.swing.graph import Floats, Ints
from trawl.swing.kernel import Partners, Swing
from trawl.swing.sharing import Parted, Whole
from trawl.swing.shuffle import Block, blocks, with_rows


class Miner:
    """Keeps what the kernel prepares of a whole graph from task to task."""

    def __init__(self, given: Whole | Parted, formula: Formula) -> None:
        self.given = given
        self.degrees: Ints = given.degrees if isinstance(given, Whole) else given.pool.get(given.degrees)
        self.by_degree = formula.normalize == "degree"
        # A graph may hold neither whole rows nor all of its anchors; what scores are divided by is given to it.
        self.formula = replace(formula, normalize="cosine") if self.by_degree else formula
        self.swing = Swing(given.graph, self.formula) if isinstance(given, Whole) else None
        self.bounds: Ints = given.bounds if isinstance(given, Whole) else given.pool.get(given.bounds)
        self.fetched: list[int] = []  # bytes of each block, of the task at hand

    def targets(self, task: int) -> range:
        low, high = self.bounds[task : task + 2].tolist()
        return range(low, high)

    def own(self, task: int) -> Floats:
        """(targets,) the self scores of a task's targets; their degrees squared where scores are divided by these."""
        targets = self.targets(task)
        if self.by_degree:
            return self.degrees[targets.start : targets.stop].astype(np.float64) ** 2
        if self.swing:
            numbers = np.arange(targets.start, targets.stop)
            return self._own(self.swing, numbers, numbers)
        found = [
            self._own(Swing(block.graph, self.formula), block.targets, block.anchors[block.targets])
            for block in self._blocks(targets)
        ]
        return np.concatenate([np.empty(0), *found])

    def _own(self, swing: Swing, places: Ints, numbers: Ints) -> Floats:
        """Self scores of some anchors of a graph, of whole rows also where the graph has samples of them."""
        own = swing.self_scores(places)
        kept, full = swing.graph.degrees[places], self.degrees[numbers]
        cut = np.flatnonzero(kept < full)
        if len(cut):
            alone = Swing(swing.graph, replace(self.formula, diagonal=False)).self_scores(places[cut])
            own[cut] = scaled_up(own[cut], alone, kept[cut], full[cut])
        return own

    def topk(self, task: int, top_k: int, own: Floats | None = None) -> Partners:
        """Partners of a task's targets. own (n,): what the first pass gave; None for normalize = none."""
        targets = self.targets(task)
        if self.swing:
            return self.swing.topk(targets, top_k, own)
        return _joined([self._some(block, top_k, own) for block in self._blocks(targets)])

    def _some(self, block: Block, top_k: int, own: Floats | None) -> Partners:
        own, swing = None if own is None else own[block.anchors], Swing(block.graph, self.formula)
        assert isinstance(self.given, Parted)
        if self.given.full_rows is None or block.graph.leaders == 0:
            found = swing.topk(block.targets, top_k, own)
        else:
            leaders = swing.leaders(block.targets, top_k, own)
            block = with_rows(self.given, block, np.unique(leaders[leaders >= 0]).astype(np.int64))
            self.fetched[-1] = block.fetched
            found = Swing(block.graph, self.formula).topk_of(block.targets, leaders, top_k, own)
        return replace(found, anchor=block.anchors[found.anchor], partner=block.anchors[found.partner])

    def _blocks(self, targets: range) -> Iterator[Block]:
        assert isinstance(self.given, Parted)
        self.fetched = []
        for block in blocks(self.given, targets.start, targets.stop):
            self.fetched.append(block.fetched)
            yield block


def _joined(found: list[Partners]) -> Partners:
    empty = Partners(
        anchor=np.empty(0, np.int64),
        rank=np.empty(0, np.int32),
        partner=np.empty(0, np.int64),
        score=np.empty(0, np.float64),
        shared=np.empty(0, np.int64),
    )
    return Partners(**{name: np.concatenate([getattr(some, name) for some in (empty, *found)]) for name in vars(empty)})
