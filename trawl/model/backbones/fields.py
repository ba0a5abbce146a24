"""A sample as fields, for the backbones that do not read the history as a sequence.

Fields are the parts of a user's and of an item's representation (ID, adapted knowledge, profile fields), the target and
the history apart, then the history's ratings, then the dense features. The history enters as FuxiCTR and KAR pool it:
the mean over its positions, of the items' parts and of the ratings' embeddings each on its own; an empty one is zero.
That forgets which item had which rating, so where there are ratings a second mean over the items weighs each position
with a learned number per rating level, -1 (worst) to 1 (best) at first: on MovieLens-1M it is worth .001 of AUC.

Backbones that multiply fields want one width k for all of them. A part of another width (a raw vector, an adapter with
its own width) is projected to k for that alone; target and history share the projection, as they share the embedding.
A dense feature x_i enters as x_i v_i (DeepFM's eq. 2), so all of them are one field x V. Similarities to single
positions of the history are not read: their sums, maximum and mean are among the dense features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trawl.model import fused
from trawl.model.backbones.base import Backbone, Encoded, Shape
from trawl.model.gather import gather, weighted_sums
from trawl.sections_model import Model


class Pooled(Backbone):
    """A backbone that reads one vector per sample: all parts side by side, the history pooled."""

    def __init__(self, shape: Shape, cfg: Model) -> None:
        super().__init__(shape, cfg)
        weighs = shape.rating > 0 and shape.levels > 1
        first = torch.linspace(-1, 1, shape.levels).unsqueeze(1)
        self.level = nn.Parameter(functional.pad(first, (0, 0, 1, 0))) if weighs else None  # row 0 pads
        self.pools = 2 if weighs else 1  # means over the history's items
        self.width = shape.user + (1 + self.pools) * shape.item + shape.rating + shape.extra  # of all parts

    def parts(self, batch: Encoded) -> list[Tensor]:
        """(B, ·) each: user, target, the means of the history's items, the mean of its ratings, dense features."""
        weights = self._weights(batch)
        means = weighted_sums(batch.items, batch.history, weights).unbind(1)
        parts = [batch.user, gather(batch.items, batch.target), *means]
        if batch.ratings is not None:  # the weights summed per level, times the levels' embeddings
            sums = weights.new_zeros(len(weights), len(batch.ratings))
            parts.append(sums.scatter_add(1, batch.levels, weights[:, 0]) @ batch.ratings)
        return [*parts, batch.extra] if self.shape.extra else parts

    def whole(self, batch: Encoded) -> Tensor:
        """(B, width) the parts side by side."""
        if not fused.fits(batch.items):
            return torch.cat(self.parts(batch), dim=1)
        rows = (batch.target, batch.history, batch.levels)
        return fused.pooled(batch.items, rows, self._weights(batch), batch.ratings, (batch.user, batch.extra))

    def _weights(self, batch: Encoded) -> Tensor:
        """(B, pools, H) of the mean over the history, and of the one weighed by rating."""
        if self.level is not None and fused.fits(batch.items):
            return fused.averages(batch.levels, self.level)
        there_BH = (batch.levels > 0).to(batch.items.dtype)
        mean_BH = there_BH / there_BH.sum(dim=1, keepdim=True).clamp(min=1)
        weights = [mean_BH]
        if self.level is not None:
            weights.append(mean_BH * gather(self.level, batch.levels).squeeze(-1))
        return torch.stack(weights, dim=1)


class Fielded(Pooled):
    """A backbone that reads fields of one width, model.embedding."""

    def __init__(self, shape: Shape, cfg: Model) -> None:
        super().__init__(shape, cfg)
        self.user = Fields(shape.user_parts, cfg.embedding)
        self.item = Fields(shape.item_parts, cfg.embedding)
        self.rating = Fields((shape.rating,) if shape.rating else (), cfg.embedding)
        self.dense = nn.Linear(shape.extra, cfg.embedding, bias=False) if shape.extra else None
        self.fields = len(shape.user_parts) + (1 + self.pools) * len(shape.item_parts)
        self.fields += (shape.rating > 0) + (shape.extra > 0)
        self.unprojected = all(part.plain for part in (self.user, self.item, self.rating))

    def split(self, parts: list[Tensor]) -> Tensor:
        """(B, fields, k) of what `parts` gave."""
        user, *rest = parts
        items, rest = rest[: 1 + self.pools], rest[1 + self.pools :]
        fields = [self.user(user), *(self.item(item) for item in items)]
        if self.shape.rating:
            fields.append(self.rating(rest[0]))
        if self.dense is not None:
            fields.append(self.dense(rest[-1]))
        return torch.cat(fields, dim=1).view(len(user), self.fields, self.user.width)


class Fields(nn.Module):
    """Splits a representation into its parts and brings each to one width."""

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
