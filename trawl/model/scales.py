"""What of the joint loss is learned beside the model: the temperature, and the weights of the contrastive parts.

Both are functions of a free parameter that keep to their bounds smoothly, so that no gradient ends at a bound. They
begin at the recipe's values. Without the options there is no parameter.

Weights: uncertainty weighting (Kendall et al. 2018, eq. 10) adds exp(-s) L + s for a part L, whose best weight is
1 / L. On its own that is some hundred times the weights that help, so the recipe's w stays as the scale:
w (exp(-s) L + s). A part then counts w / L of itself, within a factor of 10 of w: easy parts more, hard ones less.
"""

import math

import torch
from torch import Tensor, nn

from trawl import uses
from trawl.config import Config

_FACTOR = math.log(10)  # a learned weight stays within this factor of the recipe's, to either side


class Scales(nn.Module):
    """Temperature and weights, fixed or learned."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        training = cfg.training
        self.fixed = {side: w for side in uses.SIDES if (w := uses.weight(cfg, side))}
        self.start, self.bounds = training.temperature, training.temperature_bounds
        self.free: nn.Parameter | None = None
        if training.temperature_learned and self.fixed:
            low, high = self.bounds
            share = math.log(self.start / low) / math.log(high / low)
            self.free = nn.Parameter(torch.tensor(math.log(share / (1 - share))))
        learned = self.fixed if training.weights_learned else {}
        self.offsets = nn.ParameterDict({side: nn.Parameter(torch.zeros(())) for side in learned})

    @property
    def temperature(self) -> float | Tensor:
        """The recipe's number, or a scalar tensor within the bounds."""
        if self.free is None:
            return self.start
        low, high = self.bounds
        return low * torch.exp(torch.sigmoid(self.free) * math.log(high / low))

    def weighted(self, side: uses.Side, loss: Tensor) -> Tensor:
        """What the part adds to the joint loss: w L, or w (exp(-s) L + s)."""
        weight = self.fixed.get(side, 0.0)
        if side not in self.offsets:
            return weight * loss
        s = self._offset(side)
        return weight * (torch.exp(-s) * loss + s)

    def values(self) -> dict[str, float]:
        """What is learned, as numbers for the log: temperature, w_user, w_item."""
        with torch.no_grad():
            out = {} if self.free is None else {"temperature": float(self.temperature)}
            return out | {f"w_{s}": w * float(torch.exp(-self._offset(s))) for s, w in self._learned().items()}

    def _offset(self, side: uses.Side) -> Tensor:
        return _FACTOR * torch.tanh(self.offsets[side])

    def _learned(self) -> dict[uses.Side, float]:
        return {side: w for side, w in self.fixed.items() if side in self.offsets}
