"""Mining in this process: ranges of anchors of about equal cost, on as many threads as wanted."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import numpy as np

from trawl.errors import ConfigError
from trawl.swing.caps import scaled_up
from trawl.swing.formula import Formula
from trawl.swing.graph import Floats, Ints, cost_ranges
from trawl.swing.kernel import Partners, Swing
from trawl.swing.sides import SideGraph
from trawl.swing.touched import Flags, reached

_ANCHORS = 4096  # of a range, about
_AHEAD = 2  # ranges for each thread that may be done before they are asked for
_T = TypeVar("_T")


class Ranges:
    """The kernel over one graph, asked for all anchors or for `chosen` (n,) ones, range by range in their order."""

    def __init__(
        self, side: SideGraph, formula: Formula, top_k: int, workers: int = 1, chosen: Flags | None = None
    ) -> None:
        if top_k < 1:
            raise ConfigError(f"swing.top_k = {top_k}: must be at least 1")
        if workers < 1:
            raise ConfigError(f"workers = {workers}: must be at least 1")
        self.top_k, self.workers = top_k, workers
        self.count, self.side, self.formula = side.graph.n, side, formula
        self.chosen = np.ones(self.count, dtype=np.bool_) if chosen is None else chosen
        self.bounds: Ints = cost_ranges(side.graph, max(1, self.count // _ANCHORS, 4 * (workers > 1) * workers))
        capped_degree = formula.normalize == "degree" and side.capped
        # A score is divided by degrees in full, which capped rows do not tell.
        self.swing = Swing(side.graph, replace(formula, normalize="cosine") if capped_degree else formula)
        self.own: Floats | None = None
        if capped_degree:
            self.own = side.degrees.astype(np.float64) ** 2
        elif formula.normalize == "cosine":
            self.own = self._self_scores(self.chosen if chosen is None else reached(side.graph, self.chosen))

    def __iter__(self) -> Iterator[tuple[range, Partners]]:
        """(range, the partners of its chosen anchors)."""

        def mined(low: int, high: int) -> Partners:
            return self.swing.topk(_of(self.chosen, low, high), self.top_k, self.own)

        pairs = zip(self.bounds[:-1].tolist(), self.bounds[1:].tolist(), strict=True)
        for (low, high), found in _ahead(mined, pairs, self.workers):
            yield range(low, high), found

    def _self_scores(self, wanted: Flags) -> Floats:
        own = np.zeros(self.count)

        def scored(low: int, high: int) -> None:
            anchors = _of(wanted, low, high)
            own[anchors] = self._own_scores(anchors)

        for _ in _ahead(scored, zip(self.bounds[:-1].tolist(), self.bounds[1:].tolist(), strict=True), self.workers):
            pass
        return own

    def _own_scores(self, anchors: Ints) -> Floats:
        """Self scores, of whole rows also where the graph has samples of them."""
        own = self.swing.self_scores(anchors)
        kept, full = self.side.graph.degrees[anchors], self.side.degrees[anchors]
        cut = np.flatnonzero(kept < full)
        if len(cut):
            alone = Swing(self.side.graph, replace(self.formula, diagonal=False)).self_scores(anchors[cut])
            own[cut] = scaled_up(own[cut], alone, kept[cut], full[cut])
        return own


def _of(flags: Flags, low: int, high: int) -> Ints:
    return np.asarray(low + np.flatnonzero(flags[low:high]), dtype=np.int64)


def _ahead(
    work: Callable[[int, int], _T], given: Iterable[tuple[int, int]], workers: int
) -> Iterator[tuple[tuple[int, int], _T]]:
    """(arguments, result) in their order, a bounded number of calls ahead."""
    if workers == 1:
        for low, high in given:
            yield (low, high), work(low, high)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[tuple[int, int], Future[_T]]] = deque()
        for low, high in given:
            waiting.append(((low, high), pool.submit(work, low, high)))
            if len(waiting) > _AHEAD * workers:
                arguments, done = waiting.popleft()
                yield arguments, done.result()
        for arguments, done in waiting:
            yield arguments, done.result()
