"""The recurrence of DIEN's two GRUs, as one scan over time with a backward pass of its own.

h_t = h_{t-1} + a_t u_t * (n_t - h_{t-1}) with u_t, r_t = sigmoid(x_t + U h_{t-1}) and n_t = tanh(x_t + r_t * U h_{t-1})
(DIEN eq. 2-5), where x_t = W i_t + b comes ready-made for all steps; the factor a_t on the update gate makes it AUGRU
(eq. 11-13). A GRU cell in a loop records some fifteen operations a step for autograd and multiplies weight gradients
step by step. Here a step is one matrix product and five operations in place, a step back eleven, and the gradient of U
is one product over all steps. Rows come sorted by length, the longest first, so that those at work in a step stand
together; before its first step a row's state is zero.

Legend: T steps, B rows, H units.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def scan(inputs_TBG: Tensor, weight_GH: Tensor, active: Sequence[int], gate_TB: Tensor | None = None) -> Tensor:
    """(T, B, H) states; zero where a row is not at work yet.

    `inputs_TBG`: G = 3 H: update, reset, candidate; `weight_GH`: U in the same order. `active`: of each step how many
    rows are at work, never falling. `gate_TB`: the factors a_t; None is a plain GRU. All in the precision of U, also
    where autocast made the inputs narrower.
    """
    inputs_TBG = inputs_TBG.to(weight_GH.dtype)
    gate_TB = None if gate_TB is None else gate_TB.to(weight_GH.dtype)
    states: Tensor = _Scan.apply(inputs_TBG, weight_GH, gate_TB, list(active))  # type: ignore[no-untyped-call]
    return states


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, gate: Tensor | None, active: list[int]) -> Tensor:
        steps, rows, width = inputs.shape
        units = width // 3
        states = inputs.new_empty(steps + 1, rows, units)
        states[0] = 0
        gates = torch.empty_like(inputs)  # update, reset, U h of the candidate
        candidates = inputs.new_empty(steps, rows, units)
        transposed = weight.t()
        for t, m in enumerate(active):
            states[t + 1, m:] = 0
            if not m:
                continue
            before, made, found = states[t, :m], gates[t, :m], candidates[t, :m]
            if t and active[t - 1]:
                torch.mm(before, transposed, out=made)
            else:
                made.zero_()
            both = made[:, : 2 * units].add_(inputs[t, :m, : 2 * units]).sigmoid_()
            update, reset = both[:, :units], both[:, units:]
            torch.addcmul(inputs[t, :m, 2 * units :], reset, made[:, 2 * units :], out=found).tanh_()
            if gate is not None:
                update = update * gate[t, :m].unsqueeze(1)
            torch.lerp(before, found, update, out=states[t + 1, :m])
        ctx.active = active
        ctx.save_for_backward(weight, gate, states, gates, candidates)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        weight, gate, states, gates, candidates = ctx.saved_tensors
        steps, _, units = candidates.shape
        inputs = torch.empty_like(gates)  # gradient of x, and but for the candidate's third that of U h
        inner = torch.empty_like(candidates[0])  # gradient of the candidate's U h
        matrix = torch.zeros_like(weight)
        factors = None if gate is None else torch.zeros_like(gate)
        state = torch.zeros_like(states[0])  # gradient of the state
        for t in range(steps - 1, -1, -1):
            m = ctx.active[t]
            inputs[t, m:] = 0
            if not m:
                continue
            own = state[:m].add_(wanted[t, :m])
            before, found = states[t, :m], candidates[t, :m]
            update, reset, product = torch.split(gates[t, :m], units, dim=1)
            to_update, to_reset, to_candidate = torch.split(inputs[t, :m], units, dim=1)
            factor = None if gate is None else gate[t, :m].unsqueeze(1)
            through = update if factor is None else update * factor
            _tanh_back(own * through, found, to_candidate)
            change = own * (found - before)  # gradient of a_t u_t
            if factor is not None and factors is not None:
                factors[t, :m] = (change * update).sum(dim=1)
                change *= factor
            _sigmoid_back(change, update, to_update)
            _sigmoid_back(to_candidate * product, reset, to_reset)
            if not (t and ctx.active[t - 1]):
                inputs[:t] = 0
                break  # the first step of all: before it there was nothing
            torch.mul(to_candidate, reset, out=inner[:m])
            own.addcmul_(own, through, value=-1)
            gates_MG, past = inputs[t, :m, : 2 * units], ctx.active[t - 1]  # states of the other rows are zero
            own.addmm_(gates_MG, weight[: 2 * units]).addmm_(inner[:m], weight[2 * units :])
            matrix[: 2 * units].addmm_(gates_MG[:past].t(), before[:past])  # while they are in the cache
            matrix[2 * units :].addmm_(inner[:past].t(), before[:past])
        return inputs, matrix, factors, None


def _sigmoid_back(gradient: Tensor, value: Tensor, out: Tensor) -> None:
    torch.ops.aten.sigmoid_backward.grad_input(gradient, value, grad_input=out)


def _tanh_back(gradient: Tensor, value: Tensor, out: Tensor) -> None:
    torch.ops.aten.tanh_backward.grad_input(gradient, value, grad_input=out)
