"""xDeepFM (Lian et al. 2018): first-order term + compressed interaction network (CIN, eq. 6-8) + deep part.

X^l_h = sum over i, j of W^{l,h}_ij X^{l-1}_i * X^0_j, row-wise in the k dimensions of the embedding; each layer's maps
are summed over k and weigh in with one number each. Two identities save most of the work. The first layer's pairs i, j
and j, i are one product. Of the last layer only the sums over k are read, and those are linear in the Gram matrix
<X^{l-1}_i, X^0_j>, k times smaller than the products. Without activations, which the paper found best.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trawl.model.backbones.base import Encoded, Shape, mlp
from trawl.model.backbones.fields import Fielded
from trawl.sections_model import Model


class XDeepFm(Fielded):
    """Logit = <w, x> + <v, CIN(fields)> + MLP(x)."""

    def __init__(self, shape: Shape, cfg: Model) -> None:
        super().__init__(shape, cfg)
        self.first = nn.Linear(self.width, 1, bias=False)  # the deep part has the bias
        self.cin = Cin(self.fields, cfg.cin)
        self.last = nn.Linear(sum(cfg.cin), 1, bias=False)
        self.head = mlp(self.width, cfg.hidden, cfg.dropout)

    def forward(self, batch: Encoded) -> Tensor:
        """(B,) logits."""
        parts = self.parts(batch)
        whole = torch.cat(parts, dim=1)
        return (self.first(whole) + self.head(whole) + self.last(self.cin(self.split(parts)))).squeeze(-1)  # type: ignore[no-any-return]


class Cin(nn.Module):
    """(B, F, k) fields -> (B, sum of maps): the layers' maps, summed over k."""

    def __init__(self, fields: int, maps: Sequence[int]) -> None:
        super().__init__()
        widths = zip((fields, *maps), maps, strict=False)
        weights = [torch.empty(out, width, fields).uniform_(-1, 1) * (width * fields) ** -0.5 for width, out in widths]
        self.weights = nn.ParameterList([nn.Parameter(w) for w in weights])  # (H_l, H_{l-1}, F)

    def forward(self, fields_BFK: Tensor) -> Tensor:
        """(B, sum of maps)."""
        base_BKF = fields_BFK.transpose(1, 2).contiguous()
        maps_BKH, sums = base_BKF, []
        *inner, last = self.weights
        for number, weight in enumerate(inner):
            maps_BKH = _pairs(base_BKF, weight) if number == 0 else _products(maps_BKH, base_BKF, weight)
            sums.append(maps_BKH.sum(dim=1))
        gram_BHF = torch.bmm(maps_BKH.transpose(1, 2), base_BKF)
        return torch.cat([*sums, gram_BHF.flatten(1) @ last.flatten(1).T], dim=1)


def _pairs(x_BKF: Tensor, weight_HFF: Tensor) -> Tensor:
    """(B, k, H) of the first layer, each unordered pair of fields once."""
    fields = x_BKF.shape[2]
    products = torch.cat([x_BKF[..., i : i + 1] * x_BKF[..., i:] for i in range(fields)], dim=2)
    rows, columns = torch.triu_indices(fields, fields, device=x_BKF.device).unbind(0)
    both = weight_HFF[:, rows, columns] + weight_HFF[:, columns, rows] * (rows != columns)
    return products @ both.T


def _products(maps_BKH: Tensor, base_BKF: Tensor, weight: Tensor) -> Tensor:
    """(B, k, H') of an inner layer."""
    products = maps_BKH.unsqueeze(3) * base_BKF.unsqueeze(2)
    return products.flatten(2) @ weight.flatten(1).T
