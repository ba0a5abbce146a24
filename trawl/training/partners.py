"""Partners of one side by the SWING table: who is drawn as a positive, and who is none and may be a negative.

A anchors, M negatives of each, K the longest list of partners among those at hand.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trawl.model.lexicon import Array, Ints
from trawl.training.facts import Facts

Bools = npt.NDArray[np.bool_]
_ROUNDS = 4  # of drawing anew those negatives that are partners; what is left then is none


@dataclass(frozen=True)
class Drawn:
    """Rows of the contrastive loss, by index."""

    anchor: Ints  # (A,)
    positive: Ints  # (A,)
    negative: Ints | None = None  # (A, M), 0 is none
    known: Bools | None = None  # (A, A) positive j is another known partner of anchor i


class Partners:
    """Positives are drawn among the top of the table; pairs without text on either end are left out."""

    def __init__(
        self,
        table: tuple[Array, Array, Array],
        count: int,
        top: int,
        text: Array,
        *,
        score: Array | None = None,
        facts: Facts | None = None,
        low: int = 0,
        pool: Array | None = None,
    ) -> None:
        """`table`: anchor, rank, partner; `text`: (count + 1,) bool.

        `score` of the table's rows: positives are drawn in proportion to it. `facts`: one more positive by a shared
        value. `low`: negatives of each anchor, drawn among `pool` ((count + 1,) bool, by default all with text).
        """
        anchor, rank, partner = table
        keep = text[anchor] & text[partner] & (rank < top if not low else True)
        anchor, rank, partner = anchor[keep], rank[keep], partner[keep]
        order = _order(anchor, rank)
        self.partner = np.asarray(partner[order], dtype=np.int32)
        self.score = None if score is None else np.asarray(score[keep][order], dtype=np.float32)
        self.size = np.bincount(anchor, minlength=count + 1).astype(np.int64)  # of each list
        self.top = np.bincount(anchor[rank < top], minlength=count + 1).astype(np.int64)  # that positives come from
        self.start = np.cumsum(self.size) - self.size
        self.facts, self.low, self.most = facts, low, top
        self.pool = np.flatnonzero(text if pool is None else text & pool) if low else np.zeros(0, dtype=np.int64)
        self.pool = self.pool[self.pool > 0]

    def draw(self, entities: Ints, most: int, rng: np.random.Generator) -> Drawn:
        """At most `most` of the distinct entities that have a positive, with one positive each, or two with facts."""
        anchors = np.unique(entities)
        able = self.top[anchors] > 0
        if self.facts is not None:
            able |= self.facts.able[anchors]
        anchors = anchors[able]
        if len(anchors) > most:
            anchors = np.sort(rng.choice(anchors, most, replace=False))
        rows = anchors[self.top[anchors] > 0]
        positives = self._positives(rows, rng)
        if self.facts is not None:
            others = anchors[self.facts.able[anchors]]
            rows = np.concatenate([rows, others])
            positives = np.concatenate([positives, self.facts.draw(others, rng)])
        negatives = self._negatives(rows, positives, rng) if self.low else None
        return Drawn(rows, positives, negatives, self._known(rows, positives) if negatives is None else None)

    def _positives(self, anchors: Ints, rng: np.random.Generator) -> Ints:
        if not len(anchors):
            return anchors
        if self.score is None:
            place = rng.integers(0, self.top[anchors])
        else:
            scores = np.where(*self._lists(anchors, self.top, self.score.clip(min=0)), 0.0).cumsum(axis=1)
            drawn = rng.random(len(anchors)) * scores[:, -1]
            place = np.minimum((scores <= drawn[:, None]).sum(axis=1), self.top[anchors] - 1)
        return np.asarray(self.partner[self.start[anchors] + place], dtype=np.int64)

    def _known(self, anchors: Ints, positives: Ints) -> Bools | None:
        """Nothing is known beyond the pairs themselves where each anchor has one partner."""
        if self.most == 1 and self.facts is None:
            return None
        out = self._among(anchors, positives)
        return out if self.facts is None else out | self.facts.shared(anchors, positives)

    def _among(self, anchors: Ints, others_B: Ints) -> Bools:
        """(A, B) bool: the other is among the anchor's partners."""
        there, partners = self._lists(anchors, self.size, self.partner)
        found, codes = np.unique(others_B, return_inverse=True)
        table = np.zeros((len(anchors), len(found) + 1), dtype=bool)  # the last column: of those not in question
        if len(found):
            at = np.minimum(np.searchsorted(found, partners), len(found) - 1)
            at = np.where(there & (found[at] == partners), at, len(found))
            table[np.arange(len(anchors))[:, None], at] = True
        return table[:, codes]

    def _lists(self, anchors: Ints, size: Ints, values: Array) -> tuple[Bools, Array]:
        """(A, K) whether there is such an entry, and the entry, of the first `size` of each anchor's list."""
        place = np.arange(size[anchors].max(initial=1))
        there = place < size[anchors][:, None]
        at = np.where(there, self.start[anchors][:, None] + place, 0)
        return there, values[at] if len(values) else np.zeros(at.shape, dtype=values.dtype)

    def _negatives(self, anchors: Ints, positives: Ints, rng: np.random.Generator) -> Ints:
        """(A, M) entities that are no partners of the anchor, nor it of them, nor share a fact with it."""
        out = np.zeros((len(anchors), self.low), dtype=np.int64)
        if not len(self.pool) or not len(anchors):
            return out
        bad = np.ones(out.shape, dtype=bool)
        for _ in range(_ROUNDS):
            out = np.where(bad, self.pool[rng.integers(0, len(self.pool), size=out.shape)], out)
            bad = self._near(anchors, positives, out)
            if not bad.any():
                break
        return np.where(bad, 0, out)

    def _near(self, anchors: Ints, positives: Ints, others_AM: Ints) -> Bools:
        distinct, codes = np.unique(others_AM, return_inverse=True)
        near = self._among(anchors, distinct) | self._among(distinct, anchors).T
        if self.facts is not None:
            near |= self.facts.shared(anchors, distinct)
        itself = (others_AM == anchors[:, None]) | (others_AM == positives[:, None])
        return np.asarray(itself | np.take_along_axis(near, codes.reshape(others_AM.shape), axis=1))


def _order(anchor: Array, rank: Array) -> Array | slice:
    """By anchor and rank; published tables mostly stand so already."""
    step = np.diff(anchor)
    if ((step > 0) | ((step == 0) & (np.diff(rank) > 0))).all():
        return slice(None)
    return np.asarray(np.lexsort((rank, anchor)))
