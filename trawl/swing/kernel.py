"""SWING with the k best partners of each anchor; see `formula` for what is computed.

Ways to the same answer, picked by the graph and by each target's degree:

- `kernels.dense`, where the candidates of a target are a good part of all anchors and a table of all pairs of features
  fits: most candidates are dropped unseen by an upper bound.
- `kernels.masks`, sparse graphs, targets of at most 64 features: the target's pairs are counted among its candidates.
- `kernels.lists`, the same for targets of any degree, and for edge weights.
- `kernels.sampled`, lists that are samples of longer ones: another answer, nearer to that of whole lists.

Scores are summed in float64 and rounded to 40 bits (1e-12 relative) before they are ranked: sums that are equal in
exact arithmetic then tie whatever the order of their terms, and ties go to the smaller index. The answer is the same
for any split of the anchors into ranges, any number of threads and of workers.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from trawl.errors import ConfigError
from trawl.swing.dense import Dense, pays
from trawl.swing.formula import Formula
from trawl.swing.graph import Bipartite, Floats, Indexes, Ints, costs, cut
from trawl.swing.sampled import Sampled, sampled_lists
from trawl.swing.scoring import Found, Scorer
from trawl.swing.sparse import Sparse

LIMIT_BYTES = 512 << 20
_STEP = 4096  # targets at once, at most
_ROOM = 64 << 20  # bytes of the partners of these targets
T = TypeVar("T")
N = TypeVar("N", bound=np.generic)


@dataclass(frozen=True)
class Partners:
    """Rows (anchor, rank) in that order; numbers of anchors, from 0. All arrays have one length."""

    anchor: Ints
    rank: npt.NDArray[np.int32]
    partner: Ints
    score: Floats
    shared: Ints  # features that anchor and partner have in common


class Swing:
    """SWING over one graph, prepared once and asked for ranges of anchors as often as wanted.

    limit_bytes bounds the tables over features (see `sparse`, `dense`); threads: of this process that work at a range.
    Raises ConfigError.
    """

    def __init__(
        self, graph: Bipartite, formula: Formula | None = None, *, limit_bytes: int = LIMIT_BYTES, threads: int = 1
    ) -> None:
        self.graph, self.formula, self.threads = graph, formula or Formula(), threads
        if threads < 1:
            raise ConfigError(f"threads = {threads}: must be at least 1")
        if self.formula.inverted and graph.row_values is not None:
            raise ConfigError("swing.inverted = true: not with edge weights")
        self.scorer: Scorer
        if sampled_lists(graph):
            self.scorer = Sampled(graph, self.formula, limit_bytes)
        else:
            way = Dense if pays(graph, self.formula, limit_bytes) else Sparse
            self.scorer = way(graph, self.formula, limit_bytes)
        self._own: Floats | None = None

    def self_scores(self, anchors: Ints | range) -> Floats:
        """(len(anchors),) s(u, u), not normalised."""
        return np.concatenate([np.empty(0), *self._each(self.scorer.self_scores, _numbers(anchors), _STEP)])

    def topk(self, anchors: Ints | range, top_k: int, own: Floats | None = None) -> Partners:
        """The top_k partners of each of `anchors`: others with shared >= 1 and score > 0, the best first.

        own (n,): the self scores of all anchors, needed by cosine and computed when not given.
        """
        if top_k < 1:
            raise ConfigError(f"swing.top_k = {top_k}: must be at least 1")
        wanted, scale = _numbers(anchors), self._scales(own)
        top_k = min(top_k, max(1, self.graph.n - 1))
        step = min(_STEP, max(1, _ROOM // (16 * top_k)))
        return _partners(wanted, self._each(lambda some: self.scorer.search(some, scale, top_k), wanted, step), top_k)

    def leaders(self, anchors: Ints, top_k: int, own: Floats | None = None) -> Indexes:
        """(m, g) of lists that are samples: the candidates whose whole rows `topk` would read, -1 behind the last."""
        assert isinstance(self.scorer, Sampled)
        return self.scorer.leaders(anchors, self._scales(own), min(top_k, max(1, self.graph.n - 1)))

    def topk_of(self, anchors: Ints, leaders: Indexes, top_k: int, own: Floats | None = None) -> Partners:
        """What `topk` gives, of leaders that are known; the graph's full rows may lack all others."""
        assert isinstance(self.scorer, Sampled)
        return _partners(anchors, [self.scorer.of_leaders(anchors, self._scales(own), top_k, leaders)], top_k)

    def _each(self, work: Callable[[Ints], T], wanted: Ints, step: int) -> list[T]:
        """Work pieces of about `step` targets, with threads pieces of about equal cost; what they give, in order."""
        if not len(wanted):
            return []
        if self.threads == 1:
            return [work(wanted[at : at + step]) for at in range(0, len(wanted), step)]
        pieces = max(-(-len(wanted) // step), 8 * self.threads)
        bounds = cut(costs(self.graph, wanted), pieces).tolist()
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(work, [wanted[a:b] for a, b in pairwise(bounds) if b > a]))

    def _scales(self, own: Floats | None) -> Floats:
        if self.formula.normalize == "none":
            return np.ones(self.graph.n)
        if self.formula.normalize == "degree":
            own = self.graph.degrees.astype(np.float64) ** 2
        elif own is None:
            if self._own is None:
                self._own = self.self_scores(range(self.graph.n))
            own = self._own
        # An anchor without any pair has score 0 with everyone.
        own = np.asarray(own, dtype=np.float64)
        return np.asarray(np.divide(1.0, np.sqrt(own), out=np.zeros(self.graph.n), where=own > 0))


def _partners(wanted: Ints, found: list[Found], top_k: int) -> Partners:
    sizes = np.concatenate([np.empty(0, np.int64), *(some.sizes for some in found)])
    first = np.cumsum(sizes) - sizes
    kept = [np.arange(top_k) < some.sizes[:, None] for some in found]
    return Partners(
        anchor=np.repeat(wanted, sizes),
        rank=(np.arange(sizes.sum()) - np.repeat(first, sizes)).astype(np.int32),
        partner=_joined([some.partners[keep] for some, keep in zip(found, kept, strict=True)], np.int64),
        score=_joined([some.scores[keep] for some, keep in zip(found, kept, strict=True)], np.float64),
        shared=_joined([some.shared[keep] for some, keep in zip(found, kept, strict=True)], np.int64),
    )


def _numbers(anchors: Ints | range) -> Ints:
    if isinstance(anchors, range):
        return np.arange(anchors.start, anchors.stop, anchors.step, dtype=np.int64)
    return np.ascontiguousarray(anchors, dtype=np.int64)


def _joined(pieces: list[npt.NDArray[Any]], kind: type[N]) -> npt.NDArray[N]:
    return np.asarray(np.concatenate([np.empty(0, kind), *pieces]).astype(kind))
