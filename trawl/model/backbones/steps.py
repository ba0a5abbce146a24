"""A step of DIEN's recurrence forth and back: its matrix products, and the pass over its rows.

The pass is compiled (gates.py) for float32 on a CPU, where torch's dozen operations, each cheap, cost as much to call
as to run, and is torch's own operations anywhere else. Both give the same numbers to float tolerance.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Kept(NamedTuple):
    """What the pass back reads of the one forth."""

    states: Tensor  # (T + 1, B, H), the first before any step
    made: Tensor  # (T, B, G): x, then update, reset, candidate
    products: Tensor  # (T, B, H): U h of the candidate


def step_of(
    weight: Tensor,
    shape: Sequence[int],
    most: int,
    kept: Sequence[Tensor] = (),
    gate: Tensor | None = None,
    bias: Tensor | None = None,
) -> "Step":
    """The step for that device and dtype, of (T, B) states, at most `most` rows at a time.

    `kept` is given for the pass back. `bias` is added to each x: a product that adds it writes it out beforehand.
    """
    compiled = weight.device.type == "cpu" and weight.dtype == torch.float32
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    return (Compiled if compiled else Step)(weight, shape, min(shape[1], most), kept, gate, bias)


class Step:
    """The steps of a scan. Forth `kept.made` has a step's x beforehand; back `want` adds what is wanted of a state."""

    def __init__(
        self,
        weight: Tensor,
        shape: Sequence[int],
        most: int,
        kept: Sequence[Tensor],
        gate: Tensor | None,
        bias: Tensor,
    ) -> None:
        (steps, rows), (width, units) = shape, weight.shape
        self.weight, self.units, self.gate, self.bias = weight, units, gate, bias
        self.room = weight.new_empty(most, width)  # forth: U h; back: the gradient of x
        if not kept:
            shapes = ((steps + 1, rows, units), (steps, rows, width), (steps, rows, units))
            self.kept = Kept(*(weight.new_empty(shape) for shape in shapes))
            return
        self.kept = Kept(*kept)
        self.gradient = torch.zeros_like(weight)
        self.factors = None if gate is None else torch.zeros_like(gate)  # gradient of the gate
        self.own, self.inner = weight.new_empty(2, most, units).unbind()  # gradients: state, U h of the candidate

    def want(self, part: slice, wanted: Tensor, first: bool) -> Tensor:
        """The gradient of a step's states, with what is wanted of them; the first step back begins a block."""
        own = self.own[: part.stop - part.start]
        return own.copy_(wanted) if first else own.add_(wanted)

    def forth(self, t: int, part: slice, past: int) -> None:
        """A step of the rows; the first `past` of them have a state already."""
        product = self.room[: part.stop - part.start]
        torch.mm(self.kept.states[t, part][:past], self.weight.t(), out=product[:past])
        product[past:] = 0
        self._forth(t, part, product)

    def back(self, t: int, part: slice, past: int) -> Tensor:
        """(rows, G) gradient of a step's x, good until the next call."""
        units, rows = self.units, part.stop - part.start
        made, own, inner = self.room[:rows], self.own[:rows], self.inner[:rows]
        self._back(t, part, made, own, inner)
        if past:
            before, gates, inner = self.kept.states[t, part][:past], made[:past, : 2 * units], inner[:past]
            own[:past].addmm_(gates, self.weight[: 2 * units]).addmm_(inner, self.weight[2 * units :])
            self.gradient[: 2 * units].addmm_(gates.t(), before)
            self.gradient[2 * units :].addmm_(inner.t(), before)
        return made

    def _forth(self, t: int, part: slice, product: Tensor) -> None:
        """From x and U h the gates and the new states."""
        units, made = self.units, self.kept.made[t, part].add_(self.bias)
        both, found = made[:, : 2 * units], made[:, 2 * units :]
        update, reset = torch.split(both.add_(product[:, : 2 * units]).sigmoid_(), units, dim=1)
        inner = self.kept.products[t, part].copy_(product[:, 2 * units :])
        found.addcmul_(reset, inner).tanh_()
        if self.gate is not None:
            update = update * self.gate[t, part].unsqueeze(1)
        torch.lerp(self.kept.states[t, part], found, update, out=self.kept.states[t + 1, part])

    def _back(self, t: int, part: slice, made: Tensor, own: Tensor, inner: Tensor) -> None:
        """From the gradient `own` of the new states those of x and of U h, and through the gate that of the old."""
        update, reset, found = torch.split(self.kept.made[t, part], self.units, dim=1)
        to_update, to_reset, to_found = torch.split(made, self.units, dim=1)
        through, change = own * update, found - self.kept.states[t, part]
        if self.gate is not None and self.factors is not None:
            torch.linalg.vecdot(through, change, out=self.factors[t, part])
            through *= self.gate[t, part].unsqueeze(1)
            change *= self.gate[t, part].unsqueeze(1)
        _tanh_back(through, found, to_found)
        _sigmoid_back(change.mul_(own), update, to_update)
        _sigmoid_back(torch.mul(to_found, self.kept.products[t, part], out=change), reset, to_reset)
        torch.mul(to_found, reset, out=inner)
        own -= through


class Compiled(Step):
    """The same with compiled passes."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        from trawl.model.backbones import gates

        self._pass = gates
        states, made, products = (tensor.numpy() for tensor in self.kept)
        self._arrays = states, made, products
        self._bias = self.bias.detach().numpy()
        self._gate = gates.NO_GATE if self.gate is None else self.gate.detach().contiguous().numpy()
        if hasattr(self, "factors"):
            self._factors = self._gate if self.factors is None else self.factors.numpy()

    def _forth(self, t: int, part: slice, product: Tensor) -> None:
        self._pass.forth(t, part.start, self._arrays, product.numpy(), self._bias, self._gate)

    def _back(self, t: int, part: slice, made: Tensor, own: Tensor, inner: Tensor) -> None:
        gradients = (made.numpy(), own.numpy(), inner.numpy())
        self._pass.back(t, part.start, self._arrays, gradients, self._gate, self._factors)


def _sigmoid_back(gradient: Tensor, value: Tensor, out: Tensor) -> None:
    torch.ops.aten.sigmoid_backward.grad_input(gradient, value, grad_input=out)


def _tanh_back(gradient: Tensor, value: Tensor, out: Tensor) -> None:
    torch.ops.aten.tanh_backward.grad_input(gradient, value, grad_input=out)
