"""DCNv2 (Wang et al. 2021): cross layers x_{l+1} = x_0 * (W_l x_l + b_l) + x_l beside a deep part (parallel, eq. 1).

With model.cross_rank = r > 0 each W_l is a mixture of low-rank matrices (eq. 4):
x_{l+1} = sum_i G_i(x_l) x_0 * (U_i tanh(C_i tanh(V_i^T x_l)) + b_l) + x_l with a softmax gate G.
"""

import torch
from torch import Tensor, nn

from trawl.model.backbones.base import Encoded, Shape, mlp
from trawl.model.backbones.fields import Pooled
from trawl.sections_model import Model


class DcnV2(Pooled):
    """Logit = <v, x_L> + MLP(x_0)."""

    def __init__(self, shape: Shape, cfg: Model) -> None:
        super().__init__(shape, cfg)
        layers: list[nn.Module] = []
        for _ in range(cfg.cross_layers):
            if cfg.cross_rank:
                layers.append(Mixture(self.width, cfg.cross_rank, cfg.cross_experts))
            else:
                layers.append(nn.Linear(self.width, self.width))
        self.cross = nn.ModuleList(layers)
        self.last = nn.Linear(self.width, 1, bias=False)  # the deep part has the bias
        self.head = mlp(self.width, cfg.hidden, cfg.dropout)

    def forward(self, batch: Encoded) -> Tensor:
        """(B,) logits."""
        whole = self.whole(batch)
        x_BD = whole
        for layer in self.cross:
            x_BD = torch.addcmul(x_BD, whole, layer(x_BD))
        return (self.last(x_BD) + self.head(whole)).squeeze(-1)  # type: ignore[no-any-return]


class Mixture(nn.Module):
    """sum_i G_i(x) U_i tanh(C_i tanh(V_i^T x)) + b; the experts' U and V stand side by side in one matrix each."""

    def __init__(self, width: int, rank: int, experts: int) -> None:
        super().__init__()
        self.rank, self.experts = rank, experts
        self.inwards = nn.Linear(width, experts * rank, bias=False)  # V
        self.within = nn.Parameter(torch.randn(experts, rank, rank) * rank**-0.5)  # C, transposed
        self.outwards = nn.Linear(experts * rank, width)  # U and b: the gate's shares sum to 1
        self.gate = nn.Linear(width, experts, bias=False)

    def forward(self, x_BD: Tensor) -> Tensor:
        """(B, D)."""
        share_BE1 = torch.softmax(self.gate(x_BD), dim=1).unsqueeze(-1)
        hidden_BER = torch.tanh(self.inwards(x_BD)).view(-1, self.experts, self.rank)
        hidden_BER = torch.tanh(torch.bmm(hidden_BER.transpose(0, 1), self.within)).transpose(0, 1)
        return self.outwards((hidden_BER * share_BE1).flatten(1))  # type: ignore[no-any-return]
