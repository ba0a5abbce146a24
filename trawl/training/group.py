"""The workers of one training: alone, or several that average gradients through torch.distributed."""

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Array = npt.NDArray[Any]


class Group(Protocol):
    rank: int
    size: int

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the workers."""
        ...

    def gather(self, piece: Array) -> Array:
        """The workers' float64 arrays, one after another by rank."""
        ...


class Alone:
    """One worker."""

    rank, size = 0, 1

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        return

    def gather(self, piece: Array) -> Array:
        return piece


class Distributed:
    """The default process group of torch.distributed. Dense gradients travel as one flat tensor."""

    def __init__(self) -> None:
        import torch.distributed as dist

        self.dist = dist
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        cuda = dist.get_backend() == "nccl"  # which moves nothing but tensors on a GPU
        self.device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        dense = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad.is_sparse:
                parameter.grad = self._sparse(parameter.grad)
            else:
                dense.append(parameter.grad)
        if not dense:
            return
        flat = torch.cat([g.reshape(-1) for g in dense])
        self.dist.all_reduce(flat)
        flat /= self.size
        for gradient, part in zip(dense, torch.split(flat, [g.numel() for g in dense]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def gather(self, piece: Array) -> Array:
        whole = self._pieces(torch.from_numpy(np.ascontiguousarray(piece, dtype=np.float64)).to(self.device))
        return torch.cat(whole).cpu().numpy()

    def _sparse(self, gradient: Tensor) -> Tensor:
        gradient = gradient.coalesce()
        rows = torch.cat(self._pieces(gradient.indices()[0]))
        values = torch.cat(self._pieces(gradient.values())) / self.size
        return torch.sparse_coo_tensor(rows.unsqueeze(0), values, gradient.shape).coalesce()

    def _pieces(self, own: Tensor) -> list[Tensor]:
        """Everyone's tensor; they may differ in their first dimension."""
        length = torch.tensor([len(own)], device=own.device)
        lengths = [torch.zeros_like(length) for _ in range(self.size)]
        self.dist.all_gather(lengths, length)
        longest = int(max(int(n) for n in lengths))
        padded = own.new_zeros((longest, *own.shape[1:]))
        padded[: len(own)] = own
        everyone = [torch.empty_like(padded) for _ in range(self.size)]
        self.dist.all_gather(everyone, padded)
        return [tensor[: int(n)] for tensor, n in zip(everyone, lengths, strict=True)]
