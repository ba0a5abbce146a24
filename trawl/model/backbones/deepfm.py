"""DeepFM (Guo et al. 2017): first-order term + factorisation machine over fields (eq. 2) + deep part, one logit.

Fields are the parts of a user's and of an item's representation (ID, adapted knowledge, profile fields), the target and
the history apart, then the history's ratings, then the dense features. The history enters as FuxiCTR and KAR pool it:
the mean over its positions, of the items' parts and of the ratings' embeddings each on its own; an empty one is zero.
That forgets which item had which rating, so where there are ratings a second mean over the items weighs each position
with a learned number per rating level, -1 (worst) to 1 (best) at first: on MovieLens-1M it is worth .001 of AUC.

The FM wants one width k for all fields. A part of another width (a raw vector, an adapter with its own width) is
projected to k for the FM alone; target and history share the projection, as they share the embedding. A dense feature
x_i enters as x_i v_i (eq. 2), so all of them are one field x V. Similarities to single positions of the history are
not read: their sums, maximum and mean are among the dense features.

The first order is a learned direction in each embedding instead of a second table of width 1: an id that was never
seen then reads row 0 here too.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trawl.model.backbones.base import Backbone, Encoded, Shape, mlp
from trawl.sections_model import Model


class DeepFm(Backbone):
    def __init__(self, shape: Shape, cfg: Model) -> None:
        super().__init__(shape, cfg)
        self.user = Fields(shape.user_parts, cfg.embedding)
        self.item = Fields(shape.item_parts, cfg.embedding)
        self.rating = Fields((shape.rating,) if shape.rating else (), cfg.embedding)
        self.dense = nn.Linear(shape.extra, cfg.embedding, bias=False) if shape.extra else None
        weighs = shape.rating > 0 and shape.levels > 1
        first = torch.linspace(-1, 1, shape.levels).unsqueeze(1)
        self.level = nn.Parameter(functional.pad(first, (0, 0, 1, 0))) if weighs else None  # row 0 pads
        width = shape.user + (3 if weighs else 2) * shape.item + shape.rating + shape.extra
        self.fields = len(shape.user_parts) + (3 if weighs else 2) * len(shape.item_parts)
        self.fields += (shape.rating > 0) + (shape.extra > 0)
        self.first = nn.Linear(width, 1, bias=False)  # the deep part has the bias
        self.head = mlp(width, cfg.hidden, cfg.dropout)

    def forward(self, batch: Encoded) -> Tensor:
        """(B,) logits."""
        target_BD = functional.embedding(batch.target, batch.items)
        there_BH = (batch.levels > 0).to(target_BD.dtype)
        mean_BH = there_BH / there_BH.sum(dim=1, keepdim=True).clamp(min=1)
        pooled = self._pooled(batch, mean_BH)
        parts = [batch.user, target_BD, *pooled]
        fields = [self.user(batch.user), self.item(target_BD), *(self.item(p) for p in pooled)]
        if batch.ratings is not None:  # the weights summed per level, times the levels' embeddings
            sums = mean_BH.new_zeros(len(mean_BH), len(batch.ratings))
            parts.append(sums.scatter_add(1, batch.levels, mean_BH) @ batch.ratings)
            fields.append(self.rating(parts[-1]))
        if self.dense is not None:
            parts.append(batch.extra)
            fields.append(self.dense(batch.extra))
        whole = torch.cat(parts, dim=1)
        fields_BFK = torch.cat(fields, dim=1).view(len(whole), self.fields, self.user.width)
        return (self.first(whole) + self.head(whole)).squeeze(-1) + second_order(fields_BFK)  # type: ignore[no-any-return]

    def _pooled(self, batch: Encoded, mean_BH: Tensor) -> tuple[Tensor, ...]:
        """(B, item) the mean of the history's items, and the one weighed by rating."""
        weights = [mean_BH]
        if self.level is not None:
            weights.append(mean_BH * functional.embedding(batch.levels, self.level).squeeze(-1))
        history_BHD = functional.embedding(batch.history, batch.items)
        return torch.bmm(torch.stack(weights, dim=1), history_BHD).unbind(1)


class Fields(nn.Module):
    """Splits a representation into its parts and brings each to the width of the FM."""

    def __init__(self, parts: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.parts, self.width = parts, width
        layers = [nn.Identity() if part == width else nn.Linear(part, width, bias=False) for part in parts]
        self.layers = nn.ModuleList(layers)
        self.plain = all(part == width for part in parts)

    def forward(self, x_BD: Tensor) -> Tensor:
        """(B, fields * width)."""
        if self.plain:
            return x_BD
        pieces = torch.split(x_BD, list(self.parts), dim=1)
        return torch.cat([layer(piece) for layer, piece in zip(self.layers, pieces, strict=True)], dim=1)


def second_order(fields_BFK: Tensor) -> Tensor:
    """(B,) sum over pairs of fields of their inner product: (|sum|^2 - sum of |.|^2) / 2 (Rendle 2010, lemma 3.1)."""
    total_BK = fields_BFK.sum(dim=1)
    return (total_BK.square().sum(dim=1) - fields_BFK.square().sum(dim=(1, 2))) / 2
