"""The joint loss L = L_rec + w_user L_uu + w_item L_ii (T eq. 3; K eq. 4 is the case of equal weights).

A backbone may add a loss of its own, as DIEN its auxiliary one; it comes weighted.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trawl.config import Config
from trawl.model import uses
from trawl.model.contrastive import info_nce
from trawl.model.recommender import Output
from trawl.model.world import Batch, Pairs


@dataclass(frozen=True)
class Parts:
    """Scalars; the contrastive ones before their weights, the backbone's own after it."""

    total: Tensor
    rec: Tensor
    uu: Tensor
    ii: Tensor
    own: Tensor  # of the backbone


class JointLoss:
    """With a mean reduction w scales the loss of an anchor, with a sum that of a step's anchors together."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg.training
        self.w_user, self.w_item = uses.weight(cfg, "user"), uses.weight(cfg, "item")

    def __call__(self, output: Output, batch: Batch, rows: float) -> Parts:
        """`rows`: samples of the global batch per worker, so that the workers' mean is the global batch's."""
        rec = functional.binary_cross_entropy_with_logits(output.logit, batch.label, reduction="sum") / rows
        uu = self._side(output.users, batch.users, output.logit)
        ii = self._side(output.items, batch.items, output.logit)
        total = rec
        if self.w_user:
            total = total + self.w_user * uu
        if self.w_item:
            total = total + self.w_item * ii
        own = torch.zeros_like(rec.detach())
        if output.auxiliary is not None:
            own = output.auxiliary.sum() / rows
            total = total + own
        return Parts(total, rec.detach(), uu.detach(), ii.detach(), own.detach())

    def _side(self, vectors: tuple[Tensor, Tensor] | None, pairs: Pairs | None, like: Tensor) -> Tensor:
        if vectors is None or pairs is None:
            return torch.zeros((), dtype=like.dtype)
        return info_nce(vectors, pairs.anchor, pairs.positive, self.cfg.temperature, self.cfg.reduction)
