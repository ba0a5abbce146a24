"""What every backbone is given, and the layers they share."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from trawl.sections_model import Model


@dataclass(frozen=True)
class Shape:
    """Widths that a backbone is built for."""

    user_parts: tuple[int, ...]  # that a user's representation is the concatenation of
    item_parts: tuple[int, ...]
    rating: int  # 0: the history carries no ratings
    levels: int  # of the ratings, without the padding's 0
    extra: int  # of the dense features
    near: bool  # similarities to the history are given

    @property
    def user(self) -> int:
        return sum(self.user_parts)

    @property
    def item(self) -> int:
        return sum(self.item_parts)


@dataclass(frozen=True)
class Encoded:
    """A batch after the embedding layer. Items stand in a table of N distinct ones that the rest points into."""

    user: Tensor  # (B, user width)
    items: Tensor  # (N, item width)
    target: Tensor  # (B,) place in items
    history: Tensor  # (B, H) place in items
    levels: Tensor  # (B, H) rating level, 0 pads
    ratings: Tensor | None  # (levels + 1, rating width) embedding of each level, row 0 of the padding
    extra: Tensor  # (B, extra width) dense features
    near: Tensor | None  # (B, H) cosine of target and history item
    others: Tensor | None = None  # (B, H) place in items of an item drawn at random for each position, in training


@dataclass(frozen=True)
class Scores:
    """What a backbone with a loss of its own returns."""

    logit: Tensor  # (B,)
    auxiliary: Tensor | None = None  # (B,) each sample's loss, weighted: training adds its mean to the joint loss


class Backbone(nn.Module):
    """Base of all backbones."""

    wants_others = False  # training is to draw Encoded.others, negatives of a loss of the backbone's own

    def __init__(self, shape: Shape, cfg: Model) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, batch: Encoded) -> Tensor | Scores:
        """Logits (B,), or Scores."""
        raise NotImplementedError


def mlp(width: int, hidden: Sequence[int], dropout: float) -> nn.Sequential:
    """Hidden layers with ReLU, then one linear output."""
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Linear(width, size), nn.ReLU(inplace=True)]
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        width = size
    return nn.Sequential(*layers, nn.Linear(width, 1))
