"""The passes over a step's rows, compiled: gates and states forth, their gradients back (steps.py has the formulas).

A loop over a row's units becomes vector instructions where its arrays cannot overlap, which the compiler knows of an
array of this function alone: so each row is computed in `row` and copied out. tanh is a quotient of polynomials
(Eigen's, after the minimax fit of degree 13 over 6): right to 3e-7, as the loops of a library's tanh would not be
vectorised; sigmoid(x) = (1 + tanh(x / 2)) / 2.
"""

from pathlib import Path
from typing import Any

import numpy as np

from trawl.machine_code import compiled, folder

Array = Any  # float32
Arrays = tuple[Array, Array, Array]
NO_GATE = np.zeros((0, 0), dtype=np.float32)
_ = np.float32
_HALF, _ONE, _END = _(0.5), _(1), _(7.90531110763549805)  # beyond the end, tanh is 1 in float32
# Sums in any order, but not-a-numbers stay what they are. Python's error model would test each quotient for a zero,
# which no vector instruction does.
_MATH = {"reassoc", "contract", "nsz", "arcp"}
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": _MATH}
_WHERE = folder("gates", Path(__file__).parent, "gates.py")


@compiled(None, inline="always", **_OPTIONS)
def _tanh(x: Any) -> Any:
    x = _END if x > _END else x
    x = -_END if x < -_END else x
    s = x * x
    p = _(-2.76076847742355e-16) * s + _(2.00018790482477e-13)
    p = (p * s + _(-8.60467152213735e-11)) * s + _(5.12229709037114e-08)
    p = ((p * s + _(1.48572235717979e-05)) * s + _(6.37261928875436e-04)) * s + _(4.89352455891786e-03)
    q = (_(1.19825839466702e-06) * s + _(1.18534705686654e-04)) * s
    return x * p / ((q + _(2.26843463243900e-03)) * s + _(4.89352518554385e-03))


@compiled(_WHERE, **_OPTIONS)
def forth(t: int, begin: int, kept: Arrays, product: Array, bias: Array, gate: Array) -> None:
    """Of the rows from `begin` on, at step t. `kept` as steps.Kept; `product` is U h."""
    states, made, products = kept
    rows, width = product.shape
    units = width // 3
    row = np.empty(width, np.float32)
    for b in range(rows):
        at = begin + b
        x, given, old, new = made[t, at], product[b], states[t, at], states[t + 1, at]
        inner = products[t, at]
        for j in range(2 * units):
            row[j] = _HALF + _HALF * _tanh(_HALF * (x[j] + bias[j] + given[j]))
        for j in range(units):
            inner[j] = given[j + 2 * units]
        for j in range(units):
            row[j + 2 * units] = _tanh(x[j + 2 * units] + bias[j + 2 * units] + row[j + units] * inner[j])
        for j in range(width):
            x[j] = row[j]
        a = gate[t, at] if len(gate) else _ONE
        for j in range(units):
            new[j] = old[j] + a * row[j] * (row[j + 2 * units] - old[j])


@compiled(_WHERE, **_OPTIONS)
def back(t: int, begin: int, kept: Arrays, gradients: Arrays, gate: Array, factors: Array) -> None:
    """`gradients`: of x, of the states, of the candidate's U h. That of the new states is given, and afterwards that of
    the old ones as far as it comes past the gates."""
    states, made, products = kept
    to_made, own, to_inner = gradients
    rows, units = own.shape
    row = np.empty(5 * units, np.float32)
    for b in range(rows):
        at = begin + b
        past, inner, old = made[t, at], products[t, at], states[t, at]
        to_x, mine, to_product = to_made[b], own[b], to_inner[b]
        a = gate[t, at] if len(gate) else _ONE
        total = _(0)
        for j in range(units):
            update, reset, found = past[j], past[j + units], past[j + 2 * units]
            change, through = found - old[j], mine[j] * update
            total += through * change
            to_found = a * through * (_ONE - found * found)
            row[j] = a * through * change * (_ONE - update)
            row[j + units] = to_found * inner[j] * reset * (_ONE - reset)
            row[j + 2 * units] = to_found
            row[j + 3 * units] = to_found * reset
            row[j + 4 * units] = mine[j] - a * through
        for j in range(3 * units):
            to_x[j] = row[j]
        for j in range(units):
            to_product[j] = row[j + 3 * units]
        for j in range(units):
            mine[j] = row[j + 4 * units]
        if len(gate):
            factors[t, at] = total
