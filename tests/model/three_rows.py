"""A batch of three samples, the second of them without a history."""

from typing import Any

import torch

from trawl.model.world import Batch, Seen


def batch(**changes: Any) -> Batch:
    fields: dict[str, Any] = {
        "user": torch.tensor([1, 2, 3]),
        "item": torch.tensor([1, 2, 5]),
        "history": torch.tensor([[0, 3, 4], [0, 0, 0], [6, 7, 2]]),
        "levels": torch.tensor([[0, 1, 5], [0, 0, 0], [2, 2, 3]]),
        "rate": torch.tensor([0, 5, 13]),
        "label": torch.tensor([0.0, 1.0, 1.0]),
        "seen": Seen(torch.tensor([3, 4, 6]), torch.tensor([0, 1, 1, 2, 2, 3]), torch.tensor([0, 1, 2])),
    }
    return Batch(**(fields | changes))
