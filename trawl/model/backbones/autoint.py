"""AutoInt+ (Song et al. 2019): fields attend to fields; a linear layer on the last layer's output, a deep part beside.

An interacting layer (eq. 5-8), in each head: softmax over fields of <W_Q e_m, W_K e_n>, the weighed sum of W_V e_n;
heads side by side, then relu(. + W_Res e_m). Products are not scaled, as printed. With model.hidden = [] it is AutoInt
beside a linear layer.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trawl.model.backbones.base import Encoded, Shape, mlp
from trawl.model.backbones.fields import Fielded
from trawl.sections_model import Model


class AutoInt(Fielded):
    """Logit = <w, interacting layers(fields)> + MLP(x)."""

    def __init__(self, shape: Shape, cfg: Model) -> None:
        super().__init__(shape, cfg)
        width = cfg.heads * cfg.head_width
        layers = [Interacting(width if n else cfg.embedding, cfg.heads, width) for n in range(cfg.attention_layers)]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(self.fields * width, 1, bias=False)  # the deep part has the bias
        self.head = mlp(self.width, cfg.hidden, cfg.dropout)

    def forward(self, batch: Encoded) -> Tensor:
        """(B,) logits."""
        parts = self.parts(batch)
        seen = self.layers(self.split(parts)).flatten(1)
        return (self.last(seen) + self.head(torch.cat(parts, dim=1))).squeeze(-1)  # type: ignore[no-any-return]


class Interacting(nn.Module):
    """(B, F, in) -> (B, F, width): multi-head self-attention over fields with a residual."""

    def __init__(self, size: int, heads: int, width: int) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.weights = nn.Linear(size, 4 * width, bias=False)  # W_Q, W_K, W_V, W_Res

    def forward(self, fields_BFI: Tensor) -> Tensor:
        """(B, F, width)."""
        count, fields, _ = fields_BFI.shape
        query, key, value, own = self.weights(fields_BFI).chunk(4, dim=2)
        query, key, value = (part.view(count, fields, self.heads, -1).transpose(1, 2) for part in (query, key, value))
        seen = functional.scaled_dot_product_attention(query, key, value, scale=1.0)
        return torch.relu(seen.transpose(1, 2).flatten(2) + own)
