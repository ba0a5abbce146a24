"""The workers of one training: alone, or several that average gradients through torch.distributed."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trawl.digests import digest_bytes

Array = npt.NDArray[Any]

_NONE, _DENSE = -1, -2  # what a worker has of a gradient; of a sparse one it is the number of its rows


class Group(Protocol):
    rank: int
    size: int

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the workers; where no worker has one, there is none afterwards."""
        ...

    def agree(self, buffers: Iterable[Tensor]) -> None:
        """Replace each that differs between workers: floating-point numbers by their mean, others by rank 0's."""
        ...

    def gather(self, piece: Array) -> Array:
        """The workers' float64 arrays, one after another by rank."""
        ...


class Alone:
    """One worker."""

    rank, size = 0, 1

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        return

    def agree(self, buffers: Iterable[Tensor]) -> None:
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
        """One exchange of numbers tells who has which gradients: a table that none has touched costs nothing."""
        own = list(parameters)
        sizes = self._numbers([_size(parameter) for parameter in own])
        dense = []
        for parameter, found in zip(own, sizes, strict=True):
            if _DENSE in found:
                parameter.grad = _dense(parameter)
                dense.append(parameter.grad)
            elif max(found) > _NONE:
                parameter.grad = self._sparse(parameter, [max(0, rows) for rows in found])
        if not dense:
            return
        flat = torch.cat([g.reshape(-1) for g in dense])
        self.dist.all_reduce(flat)
        flat /= self.size
        for gradient, part in zip(dense, torch.split(flat, [g.numel() for g in dense]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def agree(self, buffers: Iterable[Tensor]) -> None:
        """Digests tell which differ: what is constant, a large table say, is neither sent nor rounded."""
        own = list(buffers)
        if not own:
            return
        for buffer, digests in zip(own, self._numbers([_digest(buffer) for buffer in own]), strict=True):
            if len(set(digests)) > 1:
                self._agree(buffer)

    def _agree(self, buffer: Tensor) -> None:
        if buffer.is_floating_point():
            mean = buffer.double()
            self.dist.all_reduce(mean)
            buffer.copy_(mean / self.size)
            return
        whole = _bytes(buffer).clone()  # as bytes: not every type of number can be sent
        self.dist.broadcast(whole, 0)
        buffer.copy_(whole.view(buffer.dtype).view_as(buffer))

    def gather(self, piece: Array) -> Array:
        own = torch.from_numpy(np.ascontiguousarray(piece, dtype=np.float64)).to(self.device)
        return torch.cat(self._pieces(own, self._numbers([len(own)])[0])).cpu().numpy()

    def _sparse(self, parameter: nn.Parameter, rows: list[int]) -> Tensor:
        """`rows`: of each worker's gradient."""
        at, values = parameter.new_zeros(0, dtype=torch.int64), parameter.new_zeros(0, *parameter.shape[1:])
        if parameter.grad is not None:
            at, values = parameter.grad.indices()[0], parameter.grad.values()
        at, values = (torch.cat(self._pieces(own, rows)) for own in (at, values))
        return torch.sparse_coo_tensor(at.unsqueeze(0), values / self.size, parameter.shape).coalesce()

    def _numbers(self, own: Sequence[int]) -> list[tuple[int, ...]]:
        """For each of this worker's numbers, of which all workers have as many, those of all."""
        mine = torch.tensor(own, dtype=torch.int64, device=self.device)
        everyone = [torch.empty_like(mine) for _ in range(self.size)]
        self.dist.all_gather(everyone, mine)
        return list(zip(*(numbers.tolist() for numbers in everyone), strict=True))

    def _pieces(self, own: Tensor, lengths: Sequence[int]) -> list[Tensor]:
        """Everyone's tensor; they may differ in their first dimension."""
        padded = own.new_zeros((max(lengths), *own.shape[1:]))
        padded[: len(own)] = own
        everyone = [torch.empty_like(padded) for _ in range(self.size)]
        self.dist.all_gather(everyone, padded)
        return [tensor[:length] for tensor, length in zip(everyone, lengths, strict=True)]


def _size(parameter: nn.Parameter) -> int:
    """What this worker tells the others of the parameter's gradient."""
    if parameter.grad is None:
        return _NONE
    if not parameter.grad.is_sparse:
        return _DENSE
    parameter.grad = parameter.grad.coalesce()
    return len(parameter.grad.indices()[0])


def _bytes(buffer: Tensor) -> Tensor:
    return buffer.detach().contiguous().view(-1).view(torch.uint8)


def _digest(buffer: Tensor) -> int:
    """Of its content, below 2^60."""
    return int(digest_bytes(_bytes(buffer).cpu().numpy().data)[:15], 16)


def _dense(parameter: nn.Parameter) -> Tensor:
    """Its gradient for a sum with those of workers of which one has a dense one."""
    if parameter.grad is None:
        return torch.zeros_like(parameter)
    return parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
