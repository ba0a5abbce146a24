"""The recurrence of DIEN's two GRUs, each as one scan over time with a backward pass of its own.

h_t = h_{t-1} + a_t u_t * (n_t - h_{t-1}) with u_t, r_t = sigmoid(x_t + U h_{t-1}), n_t = tanh(x_t + r_t * U h_{t-1})
(DIEN eq. 2-5), where x_t = W i_t + b; the factor a_t on the update gate makes it AUGRU (eq. 11-13). A cell in a loop
records some fifteen operations a step for autograd and leaves tensors over all steps behind, which no cache holds: x
alone is three times the states. Here a step is its matrix products and one pass over the rows; x is made and its
gradient is used up within a step, while both are in the cache.

`extract` reads rows of a table: W i_t of an item is computed once for each distinct one, and its gradient is summed
into the table as it comes. The product of each state with the row's query, which the attention wants, is taken in the
same step. `evolve` reads states, multiplies by W itself, and gives the last state alone.

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

from trawl.model.backbones.steps import step_of
from trawl.model.gather import one_hot

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
        places, levels, active = history
        step = step_of(weight, places.shape, _ROWS)
        scores = weight.new_zeros(places.shape)
        marks = None if ratings is None else one_hot(len(ratings), levels, weight.dtype)
        _clear(step.kept.states, [0, *active])
        for t, part, past in _blocks(active):
            made = step.kept.made[t, part]
            torch.index_select(table, 0, places[t, part], out=made)
            if ratings is not None and marks is not None:
                made.addmm_(marks[t, part], ratings)
            elif ratings is not None:
                made += ratings.index_select(0, levels[t, part])
            step.forth(t, part, past)
            torch.linalg.vecdot(step.kept.states[t + 1, part], query[part], out=scores[t, part])
        ctx.history, ctx.size = history, len(table)
        ctx.save_for_backward(weight, ratings, marks, query, *step.kept)
        return step.kept.states[1:], scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, wanted: Tensor, scored: Tensor) -> tuple[Tensor | None, ...]:
        weight, ratings, marks, query, *kept = ctx.saved_tensors
        places, levels, active = ctx.history
        step = step_of(weight, places.shape, _ROWS, kept)
        table, queried = weight.new_zeros(ctx.size, len(weight)), torch.zeros_like(query)
        rated = None if ratings is None else torch.zeros_like(ratings)
        for t, part, past in _blocks(active, back=True):
            by = scored[t, part].unsqueeze(1)
            step.want(part, wanted[t, part], first=t == len(active) - 1).addcmul_(by, query[part])
            queried[part].addcmul_(by, step.kept.states[t + 1, part])
            made = step.back(t, part, past)
            table.index_add_(0, places[t, part], made)
            if rated is not None and marks is not None:
                rated.addmm_(marks[t, part].t(), made)
            elif rated is not None:
                rated.index_add_(0, levels[t, part], made)
        return step.gradient, table, rated, queried, None


class _Evolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, inward: Tensor, bias: Tensor, weight: Tensor, gate: Tensor, active: Sequence[int]
    ) -> Tensor:
        step = step_of(weight, gate.shape, _ROWS, gate=gate, bias=bias)
        _clear(step.kept.states, [0, *active])
        for t, part, past in _blocks(active):
            torch.mm(inputs[t, part], inward.t(), out=step.kept.made[t, part])
            step.forth(t, part, past)
        ctx.active = active
        ctx.save_for_backward(inputs, inward, weight, gate, *step.kept)
        return step.kept.states[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, wanted: Tensor) -> tuple[Tensor | None, ...]:
        inputs, inward, weight, gate, *kept = ctx.saved_tensors
        step = step_of(weight, gate.shape, _ROWS, kept, gate)
        given = torch.empty_like(inputs)
        matrix, bias = torch.zeros_like(inward), inward.new_zeros(len(inward))
        _clear(given, ctx.active)
        for t, part, past in _blocks(ctx.active, back=True):
            if t == len(inputs) - 1:
                step.want(part, wanted[part], first=True)
            made = step.back(t, part, past)
            torch.mm(made, inward, out=given[t, part])
            matrix.addmm_(made.t(), inputs[t, part])
            bias += made.sum(dim=0)
        return given, matrix, bias, step.gradient, step.factors, None


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
        part[m:] = 0
