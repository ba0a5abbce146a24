"""The recurrence of DIEN's two GRUs, each as one scan over time with a backward pass of its own.

h_t = h_{t-1} + a_t u_t * (n_t - h_{t-1}) with u_t, r_t = sigmoid(x_t + U h_{t-1}), n_t = tanh(x_t + r_t * U h_{t-1})
(DIEN eq. 2-5), where x_t = W i_t + b; the factor a_t on the update gate makes it AUGRU (eq. 11-13). A cell in a loop
records some fifteen operations a step for autograd and leaves tensors over all steps behind, which no cache holds: x
alone is three times the states. Here a step is its matrix products and one pass over the rows; x is made and its
gradient is used up within a step, while both are in the cache.

`extract` reads rows of a table: W i_t of an item is computed once for each distinct one, and its gradient is summed
into the table as it comes. The product of each state with the row's query, which the attention wants, is taken in the
same pass over the rows. `evolve` reads states, multiplies by W itself, and gives the last state alone.

Rows come sorted by length, the longest first, so that those at work in a step stand together; before its first step a
row's state is zero. Blocks of rows are scanned one after the other.

Legend: T steps, B rows, H units, G = 3 H: update, reset, candidate; N rows of a table, L rating levels, D width of an
input.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trawl.model.backbones.steps import Read, Wanted, step_of

_ROWS = 1024  # of a block: below, calls cost more than what the cache saves


class History(NamedTuple):
    """What stands at each step of each row. `active`: of each step how many rows are at work, never falling."""

    places: Tensor  # (T, B) rows of the items' table
    levels: Tensor  # (T, B) rows of the ratings' table
    active: Sequence[int]


@torch.compiler.disable  # type: ignore[untyped-decorator]
def extract(
    table_NG: Tensor, ratings_LG: Tensor | None, weight_GH: Tensor, query_BH: Tensor, history: History
) -> tuple[Tensor, Tensor]:
    """(T, B, H) states of a GRU, and (T, B) their products with the query; zero where a row is not at work.

    x_t is a row of the table, + one of the ratings. `weight_GH`: U.
    """
    with torch.autocast(table_NG.device.type, enabled=False):
        given = (None if part is None else part.to(weight_GH.dtype) for part in (table_NG, ratings_LG, query_BH))
        found: tuple[Tensor, Tensor] = _Extract.apply(weight_GH, *given, history)  # type: ignore[no-untyped-call]
    return found


@torch.compiler.disable  # type: ignore[untyped-decorator]
def evolve(
    inputs_TBD: Tensor, inward_GD: Tensor, bias_G: Tensor, weight_GH: Tensor, gate_TB: Tensor, active: Sequence[int]
) -> Tensor:
    """(B, H) last states of an AUGRU with x_t = W i_t + b; zero where a row has never been at work.

    `inward_GD`: W; `weight_GH`: U; `gate_TB`: the factors a_t; `active` as in History.
    """
    with torch.autocast(inputs_TBD.device.type, enabled=False):
        inputs, gate = (part.to(weight_GH.dtype) for part in (inputs_TBD, gate_TB))
        last: Tensor = _Evolve.apply(inputs, inward_GD, bias_G, weight_GH, gate, active)  # type: ignore[no-untyped-call]
    return last


class _Extract(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, table: Tensor, ratings: Tensor | None, query: Tensor, history: History
    ) -> tuple[Tensor, Tensor]:
        places, levels = history.places.contiguous(), history.levels.contiguous()
        step = step_of(weight, places.shape, _ROWS, _reading(weight, table, ratings, query, places, levels))
        kept = step.begin()
        _clear(kept.states, [0, *history.active])
        for t, part, past in _blocks(history.active):
            step.forth(t, part, past)
        ctx.active = history.active
        ctx.save_for_backward(weight, table, ratings, query, places, levels, *kept)
        return kept.states[1:], step.scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, wanted: Tensor, scored: Tensor) -> tuple[Tensor | None, ...]:
        weight, table, ratings, query, places, levels, *kept = ctx.saved_tensors
        step = step_of(weight, places.shape, _ROWS, _reading(weight, table, ratings, query, places, levels))
        step.turn(kept, Wanted(wanted, scored))
        for t, part, past in _blocks(ctx.active, back=True):
            if t == len(ctx.active) - 1:
                step.own.zero_()
            step.back(t, part, past)
        return step.gradient, step.to_first, None if ratings is None else step.to_second, step.to_query, None


class _Evolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, inward: Tensor, bias: Tensor, weight: Tensor, gate: Tensor, active: Sequence[int]
    ) -> Tensor:
        step = step_of(weight, gate.shape, _ROWS, Read(bias.unsqueeze(0)), gate)
        kept = step.begin()
        _clear(kept.states, [0, *active])
        for t, part, past in _blocks(active):
            torch.mm(inputs[t, part], inward.t(), out=kept.made[t, part])
            step.forth(t, part, past)
        ctx.active = active
        ctx.save_for_backward(inputs, inward, bias, weight, gate, *kept)
        return kept.states[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, wanted: Tensor) -> tuple[Tensor | None, ...]:
        inputs, inward, bias, weight, gate, *kept = ctx.saved_tensors
        step = step_of(weight, gate.shape, _ROWS, Read(bias.unsqueeze(0)), gate)
        step.turn(kept)
        # Gradients of x come with the candidate first.
        given, turned, matrix = torch.empty_like(inputs), inward.roll(step.units, 0), torch.zeros_like(inward)
        _clear(given, ctx.active)
        for t, part, past in _blocks(ctx.active, back=True):
            if t == len(inputs) - 1:
                step.own[: part.stop - part.start].copy_(wanted[part])
            made = step.back(t, part, past)
            torch.mm(made, turned, out=given[t, part])
            matrix.addmm_(made.t(), inputs[t, part])
        return given, matrix.roll(-step.units, 0), step.to_second.squeeze(0), step.gradient, step.to_gate, None


def _reading(
    weight: Tensor, table: Tensor, ratings: Tensor | None, query: Tensor, places: Tensor, levels: Tensor
) -> Read:
    """A row of the table plus one of the ratings, where there are any."""
    if ratings is None:
        return Read(weight.new_zeros(1, len(weight)), None, table, places, query)
    return Read(ratings, levels, table, places, query)


def _blocks(active: Sequence[int], back: bool = False) -> Iterator[tuple[int, slice, int]]:
    """Block by block each step, its rows at work, and how many of them were at work in the step before."""
    for begin in range(0, active[-1], _ROWS):
        counts = [min(max(n - begin, 0), _ROWS) for n in active]
        steps = [t for t, count in enumerate(counts) if count]
        for t in reversed(steps) if back else steps:
            yield t, slice(begin, begin + counts[t]), counts[t - 1] if t else 0


def _clear(tensor_TBH: Tensor, active: Sequence[int]) -> None:
    """Zeros where rows are not at work."""
    for part, m in zip(tensor_TBH, active, strict=True):
        if m < len(part):
            part[m:] = 0
