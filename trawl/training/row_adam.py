"""Adam for tables of which a step touches few rows: its cost follows the rows touched, not the size of the table."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class RowAdam(Optimizer):
    """Lazy AdamW (Kingma and Ba 2015; decoupled decay, Loshchilov and Hutter 2019) over sparse gradients.

    Moments and decay of a row move only in steps that touch it; the bias correction counts all steps, as in torch's
    SparseAdam, whose results these are where weight_decay = 0, in about half its time. Rows that a gradient names
    twice are added up first, in an order that the indexes decide, so that equal steps end in equal bits on a CPU.
    State: `step`, and `moments` (rows, 2, width), mean and square side by side: a row's are one piece of memory.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step on the touched rows. Raises ValueError for a dense gradient."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is None:
                    continue
                if not table.grad.is_sparse:
                    raise ValueError("RowAdam takes sparse gradients; give dense parameters to AdamW")
                self._update(table, table.grad.coalesce(), group)

    def _update(self, table: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[table]
        if not state:
            state |= {"step": 0, "moments": table.new_zeros(len(table), 2, table.shape[1])}
        state["step"] += 1
        (first, second), lr, steps = group["betas"], group["lr"], state["step"]
        rows, values = gradient.indices()[0], gradient.values()
        moments = state["moments"].index_select(0, rows)
        mean, square = moments.unbind(1)
        mean.lerp_(values, 1 - first)
        square.mul_(second).addcmul_(values, values, value=1 - second)
        state["moments"].index_copy_(0, rows, moments)
        scale = (1 - second**steps) ** 0.5
        own = table.index_select(0, rows)
        if group["weight_decay"]:
            own.mul_(1 - lr * group["weight_decay"])
        # eps stands beside the uncorrected root, as in SparseAdam
        own.addcdiv_(mean, square.sqrt().add_(group["eps"]), value=-lr * scale / (1 - first**steps))
        table.index_copy_(0, rows, own)
