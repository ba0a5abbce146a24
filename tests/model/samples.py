"""Encoded batches for the tests of backbones."""

from typing import Any

import torch

from trawl.config import Config
from trawl.model.backbones import BACKBONES
from trawl.model.backbones.base import Backbone, Encoded, Shape
from trawl.sections_model import Model

# three parts of an item, two of them of other widths than the fields; ratings, dense features and similarities
SHAPE = Shape(user_parts=(4, 3), item_parts=(4, 5, 4), rating=2, levels=2, extra=3, near=True)


def settings(*more: str) -> Model:
    """A small model section."""
    sizes = ("model.embedding=4", "model.hidden=[6]", "model.attention=[5]", "model.recurrent=5", "model.head_width=3")
    return Config().override("model.cin=[5,3]", *sizes, *more).model


def net(name: str, *more: str, shape: Shape = SHAPE, dtype: torch.dtype = torch.float64) -> Any:
    """A backbone with weights that a seed decides, biases and zero-initialised weights too."""
    torch.manual_seed(5)
    found: Backbone = BACKBONES[name](shape, settings(*more)).to(dtype)
    with torch.no_grad():
        for parameter in found.parameters():
            if not parameter.any() or parameter.ndim == 1:
                parameter.normal_(std=0.5)
    return found


def encoded(shape: Shape = SHAPE, dtype: torch.dtype = torch.float64, **changes: Any) -> Encoded:
    """Four samples with histories of 3, 2, 0 and 1 positions, padded in front."""
    generator = torch.Generator().manual_seed(3)

    def numbers(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype)

    fields: dict[str, Any] = {
        "user": numbers(4, shape.user),
        "items": numbers(7, shape.item),
        "target": torch.tensor([1, 4, 2, 1]),
        "history": torch.tensor([[3, 2, 3], [6, 5, 1], [0, 0, 0], [6, 6, 4]]),
        "levels": torch.tensor([[1, 2, 1], [0, 2, 2], [0, 0, 0], [0, 0, 1]]),
        "ratings": numbers(shape.levels + 1, shape.rating) if shape.rating else None,
        "extra": numbers(4, shape.extra),
        "near": numbers(4, 3) if shape.near else None,
    }
    return Encoded(**(fields | changes))
