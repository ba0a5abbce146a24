"""How hard each part of the joint loss pulls: the norm of its gradient, measured in some steps of an epoch.

Of the part as it is summed, weight included, on the adapters' parameters and on all; averaged over the workers first,
so that any number of them tells the same. A measured step takes one more backward pass for each part.
"""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from trawl.model.recommender import Recommender
from trawl.training.group import Group

Sums = dict[str, list[float]]  # part -> steps, sum of norms on the adapters, on all


class Norms:
    def __init__(self, model: Recommender, group: Group, every: int) -> None:
        """`every`: steps from one measurement to the next; 0: never."""
        self.model, self.group, self.every = model, group, every
        if every:  # a compiled backward pass may else be run only once
            import torch._functorch.config as compiled

            compiled.donated_buffer = False

    def measure(self, step: int, parts: Mapping[str, Tensor], sums: Sums) -> None:
        """Add the norms of this step to `sums` where it is due; no gradient is left behind."""
        if not self.every or step % self.every:
            return
        sides = (self.model.user, self.model.item)
        found = (p for side in sides if side.adapter is not None for p in side.adapter.parameters())
        adapters = list({id(p): p for p in found}.values())  # sides may share some
        for name, loss in parts.items():
            if loss.requires_grad:  # else its norm is 0; the other workers' need not be
                loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
            self.group.average(self.model.parameters())
            total = sums.setdefault(name, [0.0, 0.0, 0.0])
            for place, value in enumerate((1.0, _norm(adapters), _norm(self.model.parameters()))):
                total[place] += value
            self.model.zero_grad(set_to_none=True)


def means(sums: Sums) -> dict[str, dict[str, float]]:
    """{part: {adapter, all}} over the measured steps."""
    return {part: {"adapter": a / steps, "all": every / steps} for part, (steps, a, every) in sums.items()}


def _norm(parameters: Iterable[torch.nn.Parameter]) -> float:
    squares = 0.0
    for parameter in parameters:
        if parameter.grad is not None:
            gradient = parameter.grad
            values = gradient.coalesce().values() if gradient.is_sparse else gradient
            squares += float(values.double().square().sum())
    return math.sqrt(squares)
