"""FiBiNet (Huang et al. 2019): SENET weighs the fields, bilinear products of all pairs, a deep part on them.

SENET (eq. 2-4): z_i = mean of field i, A = relu(W_2 relu(W_1 z)), v_i = A_i e_i. Bilinear (eq. 5-7): p_ij = e_i W * e_j
for i < j, with one W for all pairs, one for each i, or one for each pair; the same with weights of its own on the v_i.
The matrices of one i stand side by side, so a field meets all its partners in one matrix product.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trawl.model.backbones.base import Encoded, Shape, mlp
from trawl.model.backbones.fields import Fielded
from trawl.sections_model import Model


class FiBiNet(Fielded):
    """Logit = <w, x> + MLP([bilinear(e), bilinear(v)])."""

    def __init__(self, shape: Shape, cfg: Model) -> None:
        super().__init__(shape, cfg)
        squeezed, k = max(1, self.fields // cfg.senet_ratio), cfg.embedding
        self.squeeze = nn.Linear(self.fields, squeezed, bias=False)
        self.excite = nn.Linear(squeezed, self.fields, bias=False)
        self.plain, self.weighed = (Bilinear(self.fields, k, cfg.bilinear) for _ in range(2))
        self.first = nn.Linear(self.width, 1, bias=False)  # the deep part has the bias
        self.head = mlp(self.fields * (self.fields - 1) * k, cfg.hidden, cfg.dropout)

    def forward(self, batch: Encoded) -> Tensor:
        """(B,) logits."""
        parts = self.parts(batch)
        fields_BFK = self.split(parts)
        share_BF = torch.relu(self.excite(torch.relu(self.squeeze(fields_BFK.mean(dim=2)))))
        pairs = [*self.plain(fields_BFK), *self.weighed(fields_BFK * share_BF.unsqueeze(2))]
        return (self.first(torch.cat(parts, dim=1)) + self.head(torch.cat(pairs, dim=1))).squeeze(-1)  # type: ignore[no-any-return]


class Bilinear(nn.Module):
    """p_ij = e_i W * e_j for all i < j, in the order (0, 1), (0, 2), ..., (1, 2), ..."""

    def __init__(self, fields: int, k: int, kind: str) -> None:
        """`kind`: all, each or interaction."""
        super().__init__()
        self.fields, self.k, self.kind = fields, k, kind
        matrices = {"all": 1, "each": fields - 1, "interaction": fields * (fields - 1) // 2}[kind]
        self.weight = nn.Parameter(torch.randn(k, matrices * k) * k**-0.5)  # matrix after matrix, by columns

    def forward(self, fields_BFK: Tensor) -> list[Tensor]:
        """For each i < F - 1 the products with all its partners, (B, (F - 1 - i) k)."""
        products: Callable[[Tensor], list[Tensor]] = self._own if self.kind == "interaction" else self._shared
        return products(fields_BFK)

    def _own(self, fields_BFK: Tensor) -> list[Tensor]:
        pieces = torch.split(self.weight, [(self.fields - 1 - i) * self.k for i in range(self.fields - 1)], dim=1)
        return [
            (fields_BFK[:, i] @ piece) * fields_BFK[:, i + 1 :].flatten(1)  # partners are neighbours in memory
            for i, piece in enumerate(pieces)
        ]

    def _shared(self, fields_BFK: Tensor) -> list[Tensor]:
        if self.kind == "all":
            left_FBK = (fields_BFK[:, :-1] @ self.weight).unbind(1)
        else:
            matrices = self.weight.view(self.k, self.fields - 1, self.k).transpose(0, 1)
            left_FBK = torch.bmm(fields_BFK[:, :-1].transpose(0, 1), matrices).unbind(0)
        return [(left.unsqueeze(1) * fields_BFK[:, i + 1 :]).flatten(1) for i, left in enumerate(left_FBK)]
