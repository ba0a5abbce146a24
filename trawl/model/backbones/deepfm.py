"""DeepFM (Guo et al. 2017): first-order term + factorisation machine over fields (eq. 2) + deep part, one logit.

The first order is a learned direction in each embedding instead of a second table of width 1: an id that was never
seen then reads row 0 here too.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trawl.model import fused
from trawl.model.backbones.base import Encoded, Shape, mlp
from trawl.model.backbones.fields import Fielded
from trawl.sections_model import Model


class DeepFm(Fielded):
    """Logit = <w, x> + sum over pairs of fields of <v_i, v_j> + MLP(x)."""

    def __init__(self, shape: Shape, cfg: Model) -> None:
        super().__init__(shape, cfg)
        self.first = nn.Linear(self.width, 1, bias=False)  # the deep part has the bias
        self.head = mlp(self.width, cfg.hidden, cfg.dropout)

    def forward(self, batch: Encoded) -> Tensor:
        """(B,) logits."""
        if self.unprojected and fused.fits(batch.items):
            whole = self.whole(batch)
            dense = None if self.dense is None else self.dense(batch.extra)
            fields = self.fields - (dense is not None)
            wide, whole = fused.machine(whole, self.first.weight.squeeze(0), dense, self.user.width, fields)
            return self.head(whole).squeeze(-1) + wide  # type: ignore[no-any-return]
        parts = self.parts(batch)
        whole = torch.cat(parts, dim=1)
        return (self.first(whole) + self.head(whole)).squeeze(-1) + second_order(self.split(parts))  # type: ignore[no-any-return]


def second_order(fields_BFK: Tensor) -> Tensor:
    """(B,) sum over pairs of fields of their inner product: (|sum|^2 - sum of |.|^2) / 2 (Rendle 2010, lemma 3.1)."""
    pairs: Tensor = _SecondOrder.apply(fields_BFK)  # type: ignore[no-untyped-call]
    return pairs


class _SecondOrder(torch.autograd.Function):
    """The gradient of a field is the sum of the others: one pass over the fields instead of five."""

    @staticmethod
    def forward(ctx: Any, fields: Tensor) -> Tensor:
        total = fields.sum(dim=1)
        ctx.save_for_backward(fields, total)
        pairs: Tensor = (total.square().sum(dim=1) - fields.square().sum(dim=(1, 2))) / 2
        return pairs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        fields, total = ctx.saved_tensors
        others: Tensor = total.unsqueeze(1) - fields
        return others.mul_(gradient.view(-1, 1, 1))
