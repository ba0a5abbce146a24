"""DIN (Zhou et al. 2018): attention of the target over the history, sum pooling without softmax, then an MLP.

The attention unit reads [k, q, k - q, k * q] of history item k and target q, and here the rating of k and its
similarity to q. Its first layer is linear, so W[k, q, k - q, k * q] = A k + B q + C (k * q): A k is computed once for
each distinct item and then gathered, B q once for each sample, and only C (k * q) for each of the B x H pairs.
"""

import torch
from torch import Tensor, nn

from trawl.model import fused
from trawl.model.backbones.base import Backbone, Encoded, Shape, mlp
from trawl.model.gather import few_rows, gather
from trawl.sections_model import Model


class Din(Backbone):
    def __init__(self, shape: Shape, cfg: Model) -> None:
        super().__init__(shape, cfg)
        first, *rest = cfg.attention
        self.key = nn.Linear(shape.item, first)
        self.query = nn.Linear(shape.item, first, bias=False)
        self.product = nn.Linear(shape.item, first, bias=False)
        self.rating = nn.Linear(shape.rating, first, bias=False) if shape.rating else None
        self.near = nn.Parameter(torch.zeros(first)) if shape.near else None
        self.attention = mlp(first, rest, 0.0)
        width = shape.user + 2 * shape.item + shape.rating + shape.extra
        self.head = mlp(width, cfg.hidden, cfg.dropout)

    def forward(self, batch: Encoded) -> Tensor:
        if fused.fits(batch.items):
            return self.head(self._whole(batch)).squeeze(-1)  # type: ignore[no-any-return]
        target_BD, history_BHD = gather(batch.items, batch.target), gather(batch.items, batch.history)
        weights_BH = self._weights(batch, target_BD, history_BHD) * (batch.levels > 0)
        pooled_BD = torch.bmm(weights_BH.unsqueeze(1), history_BHD).squeeze(1)
        parts = [batch.user, target_BD, pooled_BD, batch.extra]
        if batch.ratings is not None:  # the weights summed per level, times the levels' embeddings
            sums = weights_BH.new_zeros(len(weights_BH), len(batch.ratings))
            parts.append(sums.scatter_add(1, batch.levels, weights_BH) @ batch.ratings)
        return self.head(torch.cat(parts, dim=1)).squeeze(-1)  # type: ignore[no-any-return]

    def _whole(self, batch: Encoded) -> Tensor:
        """The same as one pass over the attention units and one over the sums."""
        where = (batch.target, batch.history, batch.levels)
        ratings = self.rating(batch.ratings) if self.rating is not None and batch.ratings is not None else None
        near = (batch.near, self.near) if self.near is not None and batch.near is not None else None
        queries = self.query(gather(batch.items, batch.target))
        units = fused.units(batch.items, self.product.weight, self.key(batch.items), queries, ratings, near, where)
        weights_BPH = (self.attention(units).squeeze(-1) * (batch.levels > 0)).unsqueeze(1)
        sides = (batch.user, batch.extra)
        return fused.pooled(batch.items, where, weights_BPH, batch.ratings, sides, ratings_last=True)

    def _weights(self, batch: Encoded, target_BD: Tensor, history_BHD: Tensor) -> Tensor:
        """(B, H) attention weights, of any sign and size."""
        unit = self.product(history_BHD * target_BD.unsqueeze(1))
        unit += gather(self.key(batch.items), batch.history)  # in place: these are the widest tensors
        unit += self.query(target_BD).unsqueeze(1)
        if self.rating is not None and batch.ratings is not None:
            unit += few_rows(self.rating(batch.ratings), batch.levels)
        if self.near is not None and batch.near is not None:
            unit += batch.near.unsqueeze(-1) * self.near
        return self.attention(torch.relu_(unit)).squeeze(-1)  # type: ignore[no-any-return]
