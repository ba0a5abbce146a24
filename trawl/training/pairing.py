"""The pairs of a step: drawn from the global batch by seed, epoch and step alike on all workers, then shared out."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from trawl import uses
from trawl.model.lexicon import Ints
from trawl.model.world import Batch, Pairs
from trawl.sections_training import Training
from trawl.training.gather import Gather
from trawl.training.partners import Drawn, Partners


class Pairing:
    """Adds to a worker's batch its share of the step's pairs, and the salt of the dropped ids."""

    def __init__(self, partners: Mapping[uses.Side, Partners], cfg: Training, gather: Gather, others: int = 0) -> None:
        """`others`: items to draw for each sample, for a loss of the backbone's own."""
        self.partners, self.cfg, self.gather, self.others = partners, cfg, gather, others

    def __call__(self, batch: Batch, users: Ints, items: Ints, epoch: int, step: int) -> Batch:
        """`users`, `items`: of the global batch."""
        rng = np.random.default_rng([self.cfg.seed, epoch, step, 1])
        drawn = [self._draw("user", users, rng), self._draw("item", items, rng)]
        salt = int(rng.integers(-(2**62), 2**62))
        return replace(batch, users=drawn[0], items=drawn[1], salt=salt, others=self._others(items, rng))

    def _others(self, items: Ints, rng: np.random.Generator) -> Tensor | None:
        """(own rows, H) items drawn among the global batch's, frequent ones oftener: each worker takes its rows."""
        if not self.others:
            return None
        drawn = rng.choice(items, (len(items), self.others))
        own = drawn[self.gather.share(len(items))]
        return torch.from_numpy(own if len(own) else drawn[:1])  # a worker without rows computes the first one

    def _draw(self, side: uses.Side, entities: Ints, rng: np.random.Generator) -> Pairs | None:
        if side not in self.partners:
            return None
        whole = _tensors(self.partners[side].draw(entities, self.cfg.anchors, rng))
        if self.gather.size == 1:
            return whole
        rows = self.gather.share(len(whole.anchor))
        negative = None if whole.negative is None else whole.negative[rows]
        return Pairs(whole.anchor[rows], whole.positive[rows], negative, whole=whole)


def _tensors(drawn: Drawn) -> Pairs:
    arrays = (drawn.anchor, drawn.positive, drawn.negative, drawn.known)
    return Pairs(*(None if array is None else torch.from_numpy(array) for array in arrays))  # type: ignore[arg-type]
