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
    made: Tensor  # (T, B, G): update, reset, candidate
    products: Tensor  # (T, B, H): U h of the candidate


class Read(NamedTuple):
    """What a step's x is: a row of `first` plus one of `second`; and what is asked of the states that come of it."""

    second: Tensor  # (L, G)
    levels: Tensor | None = None  # (T, B) rows of `second`; None: its only one
    first: Tensor | None = None  # (N, G); None: `kept.made` has the row beforehand
    places: Tensor | None = None  # (T, B) rows of `first`
    query: Tensor | None = None  # (B, H) whose products with the states are scores


class Wanted(NamedTuple):
    """Gradients that come from outside, where there is a query."""

    states: Tensor  # (T, B, H)
    scores: Tensor  # (T, B)


def step_of(weight: Tensor, shape: Sequence[int], most: int, read: Read, gate: Tensor | None = None) -> "Step":
    """The steps of a scan for that device and dtype, of (T, B) states, at most `most` rows at a time."""
    compiled = weight.device.type == "cpu" and weight.dtype == torch.float32
    return (Compiled if compiled else Step)(weight, shape, min(shape[1], most), read, gate)


class Step:
    """The steps of a scan: `forth` over all of them, then, after `turn`, `back`.

    Back, `own` holds the gradient of the states that come from later steps; the caller sets it before a block.
    """

    own: Tensor  # (most, H)
    gradient: Tensor  # of the weight
    to_gate: Tensor | None
    to_first: Tensor | None
    to_second: Tensor
    to_query: Tensor | None

    def __init__(self, weight: Tensor, shape: Sequence[int], most: int, read: Read, gate: Tensor | None) -> None:
        (steps, rows), self.units = shape, weight.shape[1]
        self.weight, self.gate, self.read = weight, gate, read
        self.most, self.shape, self.scores = most, (steps, rows), weight.new_zeros(steps, rows)

    def begin(self) -> Kept:
        """Room for what is kept."""
        (steps, rows), (width, units) = self.shape, self.weight.shape
        shapes = ((steps + 1, rows, units), (steps, rows, width), (steps, rows, units))
        self.kept = Kept(*(self.weight.new_empty(shape) for shape in shapes))
        self.room = self.weight.new_empty(self.most, width)  # U h
        return self.kept

    def turn(self, kept: Sequence[Tensor], wanted: Wanted | None = None) -> None:
        """What was kept is given back, and gradients are zero."""
        self.kept, self.wanted = Kept(*kept), wanted
        self.own = self.weight.new_empty(self.most, self.units)
        # Gradients of candidate, update and reset in x, and of the candidate's U h: the first three quarters are the
        # gradient of x, the last three that of U h, and either enters a product as it stands.
        self.room = self.weight.new_empty(self.most, 4 * self.units)
        self.gradient, self.to_second = _zeros(self.weight), _zeros(self.read.second)
        given = self.gate, self.read.first, self.read.query
        self.to_gate, self.to_first, self.to_query = (None if v is None else _zeros(v) for v in given)

    def forth(self, t: int, part: slice, past: int) -> None:
        """A step of the rows; the first `past` of them have a state already."""
        product = self.room[: part.stop - part.start]
        torch.mm(self.kept.states[t, part][:past], self.weight.t(), out=product[:past])
        if past < len(product):
            product[past:] = 0
        self._forth(t, part, product)

    def back(self, t: int, part: slice, past: int) -> Tensor:
        """(rows, G) gradient of a step's x, with the candidate first; good until the next call."""
        rows = part.stop - part.start
        self._back(t, part, self.own[:rows], self.room[:rows])
        if past:
            to_product = self.room[:past, self.units :]
            self.own[:past].addmm_(to_product, self.weight)
            self.gradient.addmm_(to_product.t(), self.kept.states[t, part][:past])
        return self.room[:rows, : 3 * self.units]

    def _forth(self, t: int, part: slice, product: Tensor) -> None:
        """From what is read and U h the gates, the new states and their scores."""
        units, read, made = self.units, self.read, self.kept.made[t, part]
        if read.first is not None and read.places is not None:
            torch.index_select(read.first, 0, read.places[t, part], out=made)
        made += read.second if read.levels is None else read.second.index_select(0, read.levels[t, part])
        both, found = made[:, : 2 * units], made[:, 2 * units :]
        update, reset = torch.split(both.add_(product[:, : 2 * units]).sigmoid_(), units, dim=1)
        inner = self.kept.products[t, part].copy_(product[:, 2 * units :])
        found.addcmul_(reset, inner).tanh_()
        if self.gate is not None:
            update = update * self.gate[t, part].unsqueeze(1)
        new = torch.lerp(self.kept.states[t, part], found, update, out=self.kept.states[t + 1, part])
        if read.query is not None:
            torch.linalg.vecdot(new, read.query[part], out=self.scores[t, part])

    def _back(self, t: int, part: slice, own: Tensor, room: Tensor) -> None:
        """From the gradient `own` of the new states, and what is wanted of them, those of x, of U h, of what was read,
        and through the gate that of the old states."""
        self._add_wanted(t, part, own)
        update, reset, found = torch.split(self.kept.made[t, part], self.units, dim=1)
        to_found, to_update, to_reset, to_product = torch.split(room, self.units, dim=1)
        through, change = own * update, found - self.kept.states[t, part]
        if self.gate is not None and self.to_gate is not None:
            torch.linalg.vecdot(through, change, out=self.to_gate[t, part])
            through *= self.gate[t, part].unsqueeze(1)
            change *= self.gate[t, part].unsqueeze(1)
        _tanh_back(through, found, to_found)
        _sigmoid_back(change.mul_(own), update, to_update)
        _sigmoid_back(torch.mul(to_found, self.kept.products[t, part], out=change), reset, to_reset)
        torch.mul(to_found, reset, out=to_product)
        own -= through
        made = torch.cat([to_update, to_reset, to_found], dim=1)
        if self.to_first is not None and self.read.places is not None:
            self.to_first.index_add_(0, self.read.places[t, part], made)
        if self.read.levels is not None:
            self.to_second.index_add_(0, self.read.levels[t, part], made)
        else:
            self.to_second += made.sum(dim=0)

    def _add_wanted(self, t: int, part: slice, own: Tensor) -> None:
        if self.read.query is None or self.wanted is None or self.to_query is None:
            return
        by = self.wanted.scores[t, part].unsqueeze(1)
        own.add_(self.wanted.states[t, part]).addcmul_(by, self.read.query[part])
        self.to_query[part].addcmul_(by, self.kept.states[t + 1, part])


class Compiled(Step):
    """The same with compiled passes."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        from trawl.model.backbones import gates

        self._pass, read = gates, self.read
        self._read = _array(read.first, self.weight), _array(read.second, self.weight)
        self._ids = _array(read.places, _NO_IDS), _array(read.levels, _NO_IDS)
        self._gate, self._query = _array(self.gate, self.weight), _array(read.query, self.weight)
        self._scores = self.scores.numpy()

    def begin(self) -> Kept:
        kept = super().begin()
        self._kept = _arrays(kept)
        return kept

    def turn(self, kept: Sequence[Tensor], wanted: Wanted | None = None) -> None:
        super().turn(kept, wanted)
        self._kept, like = _arrays(self.kept), self.weight
        self._to_gate = _array(self.to_gate, like)
        self._to_read = _array(self.to_first, like), self.to_second.numpy()
        states = self.kept.states[:0] if wanted is None else wanted.states
        scores = None if wanted is None else wanted.scores
        self._wanted = _array(states, like), _array(scores, like), self._query, _array(self.to_query, like)

    def _forth(self, t: int, part: slice, product: Tensor) -> None:
        asked = self._query, self._scores
        self._pass.forth(t, part.start, self._kept, product.numpy(), self._read, self._ids, self._gate, asked)

    def _back(self, t: int, part: slice, own: Tensor, room: Tensor) -> None:
        given = (self._gate, self._to_gate), self._to_read, self._ids, self._wanted
        self._pass.back(t, part.start, self._kept, _arrays((own, room)), *given)


_NO_IDS = torch.empty(0, 0, dtype=torch.int64)


def _array(tensor: Tensor | None, like: Tensor) -> Any:
    """As NumPy sees it; of nothing, an array of no length with two dimensions."""
    return (like.new_empty(0, 0) if tensor is None else tensor.detach().contiguous()).numpy()


def _zeros(like: Tensor) -> Tensor:
    """In rows, however the other lies in memory: the compiled pass writes into this very tensor."""
    return torch.zeros_like(like, memory_format=torch.contiguous_format)


def _arrays(tensors: Sequence[Tensor]) -> tuple[Any, ...]:
    return tuple(tensor.numpy() for tensor in tensors)


def _sigmoid_back(gradient: Tensor, value: Tensor, out: Tensor) -> None:
    torch.ops.aten.sigmoid_backward.grad_input(gradient, value, grad_input=out)


def _tanh_back(gradient: Tensor, value: Tensor, out: Tensor) -> None:
    torch.ops.aten.tanh_backward.grad_input(gradient, value, grad_input=out)
