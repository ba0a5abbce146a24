"""DCN (Wang et al. 2017): cross layers x_{l+1} = x_0 <x_l, w_l> + b_l + x_l beside a deep part, one logit from both.

Every x_l is s_l x_0 + c_l, with one number s_l for each sample and one vector c_l = b_0 + ... + b_{l-1} for all. So
the cross network is one matrix product x_0 [w_0 ... w_{L-1}, v], v being the last layer's weights, and a few numbers a
sample: the same function, without a (B, width) tensor for each layer.
"""

import torch
from torch import Tensor, nn

from trawl.model.backbones.base import Encoded, Shape, mlp
from trawl.model.backbones.fields import Pooled
from trawl.sections_model import Model


class Dcn(Pooled):
    """Logit = <v, x_L> + MLP(x_0)."""

    def __init__(self, shape: Shape, cfg: Model) -> None:
        super().__init__(shape, cfg)
        self.cross = CrossVectors(self.width, cfg.cross_layers)
        self.head = mlp(self.width, cfg.hidden, cfg.dropout)

    def forward(self, batch: Encoded) -> Tensor:
        """(B,) logits."""
        whole = self.whole(batch)
        return self.cross(whole) + self.head(whole).squeeze(-1)  # type: ignore[no-any-return]


class CrossVectors(nn.Module):
    """<v, x_L> of the cross layers with one weight vector each (eq. 3)."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        bound = width**-0.5
        self.weight = nn.Parameter(torch.empty(layers + 1, width).uniform_(-bound, bound))  # the last row is v
        self.bias = nn.Parameter(torch.zeros(layers, width))

    def forward(self, x_BD: Tensor) -> Tensor:
        """(B,)."""
        along = (x_BD @ self.weight.T).unbind(1)  # <x_0, w_l>
        shift = torch.cumsum(self.bias, dim=0)  # c_1 ... c_L
        constant = (shift * self.weight[1:]).sum(dim=1).unbind(0)  # <c_l, w_l> for l >= 1, of v the last
        scale = 1 + along[0]
        for product, number in zip(along[1:-1], constant[:-1], strict=True):
            scale = scale + scale * product + number
        return scale * along[-1] + constant[-1]
