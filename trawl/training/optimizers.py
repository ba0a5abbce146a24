"""AdamW for dense parameters, lazy Adam for tables whose gradients are of touched rows; one learning-rate schedule."""

from typing import Any

import torch

from trawl.model.recommender import Recommender
from trawl.sections_training import Training
from trawl.training.row_adam import RowAdam


class Optimizers:
    """Linear warm-up to lr, then linear decay to 0 over all steps. Adapters have their own factor on lr."""

    def __init__(self, model: Recommender, cfg: Training, steps_per_epoch: int) -> None:
        self.cfg, self.total = cfg, max(1, cfg.epochs * steps_per_epoch)
        sides = (model.user, model.item)
        sparse = [side.ids.weight for side in sides if side.ids.sparse]
        adapters = [p for side in sides if side.adapter is not None for p in side.adapter.parameters()]
        scales = list(model.scales.parameters())
        apart = {id(p) for p in (*sparse, *adapters, *scales)}
        dense = [p for p in model.parameters() if id(p) not in apart]
        groups = [{"params": dense, "factor": 1.0}]
        if adapters:
            groups.append({"params": adapters, "factor": cfg.adapter_lr})
        if scales:  # a decay would pull temperature and weights to the middle of their bounds
            groups.append({"params": scales, "factor": 1.0, "weight_decay": 0.0})
        self._all: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, lr=cfg.lr, weight_decay=cfg.weight_decay, fused=True)
        ]
        if sparse:
            self._all.append(RowAdam([{"params": sparse, "factor": 1.0}], lr=cfg.lr, weight_decay=cfg.weight_decay))

    def rate(self, step: int) -> float:
        """Share of lr at a step of the whole training."""
        warm = self.cfg.warmup * self.total
        rising = (step + 1) / warm if warm else 1.0
        return min(rising, 1.0, (self.total - step) / max(1.0, self.total - warm))

    def begin(self, step: int) -> None:
        """Set the rates of this step and forget the gradients."""
        for optimizer in self._all:
            for group in optimizer.param_groups:
                group["lr"] = self.cfg.lr * group["factor"] * self.rate(step)
                for parameter in group["params"]:  # zero_grad, in a third of its time
                    parameter.grad = None

    def step(self) -> None:
        for optimizer in self._all:
            optimizer.step()

    def state(self) -> list[dict[str, Any]]:
        return [optimizer.state_dict() for optimizer in self._all]

    def restore(self, states: list[dict[str, Any]]) -> None:
        for optimizer, state in zip(self._all, states, strict=True):
            optimizer.load_state_dict(state)
