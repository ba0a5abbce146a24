"""Vectors of all workers with a gradient, so that the positives of one worker's anchors are negatives of another's.

Every worker computes the same function of the whole, so the gradient that reaches a worker's own rows there is, times
the number of workers, what the rows' sum over workers would be: nothing travels back. Averaging the parameters'
gradients over the workers then gives the whole batch's gradient.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trawl.training.group import Group


class Gather:
    """Shares of the workers -> the whole, in the order of `share`."""

    def __init__(self, group: Group) -> None:
        self.rank, self.size = group.rank, group.size

    def share(self, count: int) -> slice:
        """This worker's rows of `count`: contiguous, sizes differ by one at most."""
        edges = self._edges(count)
        return slice(edges[self.rank], edges[self.rank + 1])

    def __call__(self, own: Tensor, count: int) -> Tensor:
        """(count, a) from each worker's share (n, a). All workers must call it in the same order."""
        if self.size == 1 or not count:
            return own
        return _Whole.apply(own, self._edges(count), self.rank)  # type: ignore[no-any-return, no-untyped-call]

    def _edges(self, count: int) -> list[int]:
        sizes = [len(part) for part in np.array_split(np.arange(count), self.size)]
        return [0, *np.cumsum(sizes).tolist()]


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, own: Tensor, edges: list[int], rank: int) -> Tensor:
        import torch.distributed as dist

        context.rows, context.workers = slice(edges[rank], edges[rank + 1]), len(edges) - 1
        sizes = [b - a for a, b in pairwise(edges)]
        padded = own.new_zeros((max(sizes), *own.shape[1:]))
        padded[: len(own)] = own
        everyone = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(everyone, padded)
        return torch.cat([part[:size] for part, size in zip(everyone, sizes, strict=True)])

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0][context.rows] * context.workers, None, None
