"""The passes over a step's rows, compiled: from what is read gates and states forth, their gradients back (steps.py has
the formulas).

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
Pair = tuple[Array, Array]
Arrays = tuple[Array, Array, Array]
Wanted = tuple[Array, Array, Array, Array]
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
def forth(t: int, begin: int, kept: Arrays, product: Array, read: Pair, ids: Pair, gate: Array, asked: Pair) -> None:
    """Of the rows from `begin` on, at step t. `kept` as steps.Kept; `product` is U h; `read`, `ids`: the tables of
    steps.Read and the rows of them; `asked`: queries and their products with the new states. What is not there has no
    length."""
    states, made, products = kept
    (first, second), (places, levels), (query, scores) = read, ids, asked
    rows, width = product.shape
    units = width // 3
    row = np.empty(width, np.float32)
    for b in range(rows):
        at = begin + b
        given, old, new = product[b], states[t, at], states[t + 1, at]
        out, inner = made[t, at], products[t, at]
        if len(places) and (places[t, at] < 0 or places[t, at] >= len(first)):
            raise IndexError("an item of a history that its table does not have")
        if len(levels) and (levels[t, at] < 0 or levels[t, at] >= len(second)):
            raise IndexError("a rating of a history that its table does not have")
        x = first[places[t, at]] if len(places) else out
        more = second[levels[t, at]] if len(levels) else second[0]
        for j in range(2 * units):
            row[j] = _HALF + _HALF * _tanh(_HALF * (x[j] + more[j] + given[j]))
        for j in range(units):
            inner[j] = given[j + 2 * units]
        for j in range(units):
            row[j + 2 * units] = _tanh(x[j + 2 * units] + more[j + 2 * units] + row[j + units] * inner[j])
        for j in range(width):
            out[j] = row[j]
        a = gate[t, at] if len(gate) else _ONE
        for j in range(units):
            new[j] = old[j] + a * row[j] * (row[j + 2 * units] - old[j])
        if len(query):
            total = _(0)
            for j in range(units):
                total += new[j] * query[at, j]
            scores[t, at] = total


@compiled(None, inline="always", **_OPTIONS)
def _add(row: Array, out: Array, units: int) -> None:
    for j in range(2 * units):
        out[j] += row[j + units]
    for j in range(units):
        out[j + 2 * units] += row[j]


@compiled(_WHERE, **_OPTIONS)
def back(t: int, begin: int, kept: Arrays, rooms: Pair, gated: Pair, to_read: Pair, ids: Pair, wanted: Wanted) -> None:
    """`rooms` of steps.Step: `own`, the gradient of the new states, less `wanted` (of states, of their products with
    queries; the queries, their gradients), and afterwards that of the old ones as far as it comes past the gates; and
    the one for the gradients of x and of U h. `gated`: the gate and its gradient."""
    states, made, products = kept
    (own, to_x), (gate, to_gate), (to_first, to_second), (places, levels) = rooms, gated, to_read, ids
    wanted_states, wanted_scores, query, to_query = wanted
    rows, units = own.shape
    row = np.empty(5 * units, np.float32)
    for b in range(rows):
        at = begin + b
        past, inner, old = made[t, at], products[t, at], states[t, at]
        out, mine = to_x[b], own[b]
        if len(query):
            by, new, asked = wanted_scores[t, at], states[t + 1, at], to_query[at]
            for j in range(units):
                mine[j] += wanted_states[t, at, j] + by * query[at, j]
            for j in range(units):
                asked[j] += by * new[j]
        a = gate[t, at] if len(gate) else _ONE
        total = _(0)
        for j in range(units):
            update, reset, found = past[j], past[j + units], past[j + 2 * units]
            change, through = found - old[j], mine[j] * update
            total += through * change
            to_found = a * through * (_ONE - found * found)
            row[j] = to_found
            row[j + units] = a * through * change * (_ONE - update)
            row[j + 2 * units] = to_found * inner[j] * reset * (_ONE - reset)
            row[j + 3 * units] = to_found * reset
            row[j + 4 * units] = mine[j] - a * through
        for j in range(4 * units):
            out[j] = row[j]
        for j in range(units):
            mine[j] = row[j + 4 * units]
        if len(gate):
            to_gate[t, at] = total
        if len(places):
            _add(row, to_first[places[t, at]], units)
        _add(row, to_second[levels[t, at]] if len(levels) else to_second[0], units)
