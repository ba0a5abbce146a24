"""A backbone of somebody's own, and what is none."""

from typing import Any

import torch
from torch import Tensor, nn

from trawl.model.backbones.base import Encoded, Scores, Shape, mlp
from trawl.sections_model import Model


class Plain(nn.Module):
    """Reads user and target alone, by the contract and without trawl's base class."""

    def __init__(self, shape: Shape, cfg: Model) -> None:
        super().__init__()
        self.head = mlp(shape.user + shape.item, cfg.backbone_arguments.get("hidden", [8]), cfg.dropout)

    def forward(self, batch: Encoded) -> Tensor:
        return self.head(torch.cat([batch.user, batch.items[batch.target]], dim=1)).squeeze(-1)  # type: ignore[no-any-return]


class WithLoss(Plain):
    """Has a loss of its own, with negatives."""

    wants_others = True

    def forward(self, batch: Encoded) -> Any:
        logit = super().forward(batch)
        if batch.others is None:
            return logit
        return Scores(logit, 0.01 * batch.items[batch.others].square().mean(dim=(1, 2)))


class OfItems(nn.Module):
    """Reads the target alone, and has a parameter that it does not use."""

    def __init__(self, shape: Shape, cfg: Model) -> None:
        super().__init__()
        self.head = mlp(shape.item, [8], 0.0)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, batch: Encoded) -> Tensor:
        return self.head(batch.items[batch.target]).squeeze(-1)  # type: ignore[no-any-return]


class WithZero(Plain):
    """Has a loss of its own that comes to nothing."""

    def forward(self, batch: Encoded) -> Any:
        logit = super().forward(batch)
        return Scores(logit, logit.new_zeros(len(logit)))


class Sometimes(Plain):
    """Has a loss of its own for samples whose last rating is the lowest, and none for batches without such."""

    def __init__(self, shape: Shape, cfg: Model) -> None:
        super().__init__(shape, cfg)
        self.low = nn.Linear(shape.item, 1)

    def forward(self, batch: Encoded) -> Any:
        logit, chosen = super().forward(batch), batch.levels[:, -1] == 1
        if not chosen.any():
            return logit
        return Scores(logit, 0.1 * self.low(batch.items[batch.target]).square().squeeze(-1) * chosen)


class Watching(Plain):
    """Takes statistics of its batches, and has buffers that are constant or not saved."""

    def __init__(self, shape: Shape, cfg: Model) -> None:
        super().__init__(shape, cfg)
        self.norm = nn.BatchNorm1d(shape.user, affine=False)
        self.register_buffer("constant", torch.full((3,), 0.1))
        self.register_buffer("met", torch.zeros(1), persistent=False)

    def forward(self, batch: Encoded) -> Tensor:
        self.norm(batch.user)
        if self.training:
            self.met = batch.items[batch.target].detach().mean().view(1)
        return super().forward(batch)


class Column(Plain):
    """Forgets to squeeze."""

    def forward(self, batch: Encoded) -> Tensor:
        return super().forward(batch).unsqueeze(1)


class Nothing(Plain):
    """Forgets to return."""

    def forward(self, batch: Encoded) -> Any:
        super().forward(batch)


class Whole(Plain):
    """Gives whole numbers."""

    def forward(self, batch: Encoded) -> Tensor:
        return super().forward(batch).long()


class Untaught(Plain):
    """Loses the gradient."""

    def forward(self, batch: Encoded) -> Tensor:
        return super().forward(batch).detach()


class Faulty(Plain):
    """Has a fault that shows with the first batch."""

    def forward(self, batch: Encoded) -> Tensor:
        return {"a": batch.user}["b"]


class Needy(Plain):
    """Wants an argument that no recipe gives."""

    def __init__(self, shape: Shape, cfg: Model) -> None:
        super().__init__(shape, cfg)
        self.layers = cfg.backbone_arguments["layers"]


class Three(Plain):
    """Wants another argument."""

    def __init__(self, shape: Shape, cfg: Model, more: int) -> None:
        super().__init__(shape, cfg)


class NoModule:
    """Is no torch module."""
