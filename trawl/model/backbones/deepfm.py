"""DeepFM (Guo et al. 2017): first-order term + factorisation machine over fields (eq. 2) + deep part, one logit.

The first order is a learned direction in each embedding instead of a second table of width 1: an id that was never
seen then reads row 0 here too.
"""

import torch
from torch import Tensor, nn

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
        parts = self.parts(batch)
        whole = torch.cat(parts, dim=1)
        return (self.first(whole) + self.head(whole)).squeeze(-1) + second_order(self.split(parts))  # type: ignore[no-any-return]


def second_order(fields_BFK: Tensor) -> Tensor:
    """(B,) sum over pairs of fields of their inner product: (|sum|^2 - sum of |.|^2) / 2 (Rendle 2010, lemma 3.1)."""
    total_BK = fields_BFK.sum(dim=1)
    return (total_BK.square().sum(dim=1) - fields_BFK.square().sum(dim=(1, 2))) / 2
