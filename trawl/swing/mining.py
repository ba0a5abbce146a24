"""What a mining task does: the self scores or the k best partners of one range of targets.

A normalised score is divided by something of both anchors, so it takes two passes over the ranges: `own`, then `topk`.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from trawl.swing.formula import Formula
from trawl.swing.graph import Floats, Ints
from trawl.swing.kernel import Partners, Swing
from trawl.swing.sharing import Parted, Whole
from trawl.swing.shuffle import Block, blocks, fetch


class Miner:
    """Keeps what the kernel prepares of a whole graph from task to task."""

    def __init__(self, given: Whole | Parted, formula: Formula) -> None:
        self.given, self.formula = given, formula
        self.swing = Swing(given.graph, formula) if isinstance(given, Whole) else None
        self.bounds: Ints = given.bounds if isinstance(given, Whole) else given.pool.get(given.bounds)
        self.fetched: list[int] = []  # bytes of each block, of the task at hand

    def targets(self, task: int) -> range:
        low, high = self.bounds[task : task + 2].tolist()
        return range(low, high)

    def own(self, task: int) -> Floats:
        """(targets,) the self scores of a task's targets; their degrees where scores are divided by these."""
        targets = self.targets(task)
        if self.formula.normalize == "degree":
            return self._degrees(targets).astype(np.float64)
        if self.swing:
            return self.swing.self_scores(targets)
        found = [Swing(block.graph, self.formula).self_scores(block.targets) for block in self._blocks(targets)]
        return np.concatenate([np.empty(0), *found])

    def topk(self, task: int, top_k: int, own: Floats | None = None) -> Partners:
        """Partners of a task's targets. own (n,): the first pass of all anchors; None for normalize = none."""
        targets = self.targets(task)
        if self.swing:
            return self.swing.topk(targets, top_k, own)
        return _joined([self._some(block, top_k, own) for block in self._blocks(targets)])

    def _some(self, block: Block, top_k: int, own: Floats | None) -> Partners:
        formula = self.formula
        if formula.normalize == "degree":  # a block does not know the whole rows of its candidates
            assert own is not None
            formula = replace(formula, normalize="cosine")
        found = Swing(block.graph, formula).topk(block.targets, top_k, None if own is None else own[block.anchors])
        return replace(found, anchor=block.anchors[found.anchor], partner=block.anchors[found.partner])

    def _degrees(self, targets: range) -> Ints:
        if isinstance(self.given, Whole):
            return np.diff(self.given.graph.rows_ptr[targets.start : targets.stop + 1])
        return fetch(self.given, self.given.rows, np.arange(targets.start, targets.stop))[0]

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
