"""Graphs whose lists are samples: pair counts scaled up to whole lists, and the best candidates scored on whole rows.

With r_i the share of feature i's anchors that stand in its list, and c others in both lists of a pair i, j of the
target's features, the pair has 1 + (c + 1/2) / (r_i r_j) anchors in common, at most all of either; the half keeps a
pair of which none was sampled from counting as one without any. Whole lists give their counts, a feature alone the
number of its anchors.

Two steps for each target. Candidates are found and ranked by what the lists hold of them; of the best ones (leaders)
the whole rows are walked, so that all that they share with the target counts.
"""

from typing import NamedTuple

import numpy as np
from numba import types as t  # type: ignore[import-untyped, unused-ignore]

from trawl.swing.kernels.compiling import Array, array, kernel, record
from trawl.swing.kernels.keeping import keep, rounded
from trawl.swing.kernels.lists import DESK, HELD, RANGE, Desk, Held, block_end, count_pairs, desk_for, gather, room_for
from trawl.swing.kernels.records import BEST, GRAPH, SUMS, Best, Graph, Sums

_LONG = 16  # times the target's features: a longer row is searched for each of them
_ONE = np.uint64(1)


class Whole(NamedTuple):
    """What is known beside the lists: whole rows (as in Graph), the share of each list that is there, its full length.

    leaders: how many candidates are scored on whole rows; 0: none, the answer is by the lists alone. given (m, g):
    leaders that are known already, -1 behind the last; without columns they are looked for.
    """

    rows_ptr: Array
    rows: Array
    row_values: Array
    rates: Array
    lengths: Array
    alpha: float
    leaders: int
    given: Array


WHOLE = record(
    Whole, array(t.int64), array(t.int32), array(t.float32), array(t.float64), array(t.float64), t.float64, t.int64,
    array(t.int32, 2),
)  # fmt: skip


@kernel(t.void(RANGE, array(t.int32), SUMS, WHOLE, DESK, t.float64[::1]))
def weigh(block: tuple[int, int], features: Array, sums: Sums, whole: Whole, desk: Desk, table: Array) -> None:
    """The block's rows of the target's weights from its pair counts; node weights and both orders of a pair in them."""
    (begin, end), offset = block, block[0] * (block[0] + 1) // 2
    for i in range(begin, end):
        rate, length, base = whole.rates[features[i]], whole.lengths[features[i]], i * (i + 1) // 2 - offset
        for j in range(i + 1):
            both, common = rate * whole.rates[features[j]], float(desk.counts[base + j])
            if i == j:
                common = length
            elif both < 1.0:
                common = min(1.0 + (common - 0.5) / both, length, whole.lengths[features[j]])
            weight = whole.alpha + common if sums.inverted else 1.0 / (whole.alpha + common)
            table[base + j] = desk.node[i] * desk.node[j] * (sums.diagonal * weight if i == j else 2.0 * weight)


@kernel(t.void(RANGE, t.int64, t.float64[::1], HELD))
def add(block: tuple[int, int], count: int, table: Array, room: Held) -> None:
    """Adds what the block's rows give to each of `count` double sums, in the order of the features."""
    (begin, end), held, values = block, room.held, room.values
    offset, weighted = begin * (begin + 1) // 2, len(values) > 0
    for c in range(count):
        first, stop, at = np.uint64(room.starts[c]), np.uint64(room.starts[c + 1]), np.uint64(room.done[c])
        out = room.totals[c]
        while at < stop and held[at] < end:
            i = np.int64(held[at])
            base, inner = i * (i + 1) // 2 - offset, 0.0
            if weighted:
                for b in range(first, at + _ONE):
                    inner += table[np.uint64(base + held[b])] * values[b]
                inner *= values[at]
            else:
                for b in range(first, at + _ONE):
                    inner += table[np.uint64(base + held[b])]
            out += inner
            at += _ONE
        room.totals[c], room.done[c] = out, at


@kernel(t.void(t.int64, t.int64, t.int64, array(t.int32), GRAPH, SUMS, WHOLE, DESK, HELD, HELD, t.float64[::1], RANGE))
def sum_up(  # noqa: PLR0913, PLR0917 - the records of a target
    target: int, found: int, count: int, features: Array, graph: Graph, sums: Sums, whole: Whole, desk: Desk,
    room: Held, into: Held, table: Array, flags: tuple[int, int],
) -> None:  # fmt: skip
    """into.totals of `count` candidates or leaders. flags: whether `into` is not `room`, whether the table is there."""
    apart, made = flags
    into.totals[:count] = 0.0
    into.done[:count] = into.starts[:count]
    room.done[:found] = room.starts[:found]
    start, d = 0, len(features)
    while start < d:
        stop = block_end(start, d, len(desk.counts))
        if made == 0 or start > 0 or stop < d:  # a table in one block is made once for both steps
            count_pairs(target, (start, stop), found, features, graph, desk, room)
            weigh((start, stop), features, sums, whole, desk, table)
        add((start, stop), count, table, into)
        if apart and stop < d:
            for c in range(found):
                while room.done[c] < room.starts[c + 1] and room.held[room.done[c]] < stop:
                    room.done[c] += 1
        start = stop


@kernel(t.int64(array(t.int32), t.int32[::1], array(t.int32), array(t.float32), t.int64, t.int32[::1], t.float32[::1]))
def overlap(features: Array, place: Array, row: Array, values: Array, at: int, held: Array, held_values: Array) -> int:
    """Writes from `at` on the numbers of the target's features that a row has, ascending; where they end.

    place (p,): a feature's number + 1, 0 for those that the target has not.
    """
    if len(row) < _LONG * len(features):
        for j in range(len(row)):
            number = place[row[j]]
            if number > 0:
                held[at] = number - 1
                if len(values):
                    held_values[at] = values[j]
                at += 1
        return at
    low = np.int64(0)
    for i in range(len(features)):
        high = np.int64(len(row))
        while low < high:
            middle = (low + high) >> 1
            if row[middle] < features[i]:
                low = middle + 1
            else:
                high = middle
        if low < len(row) and row[low] == features[i]:
            held[at] = i
            if len(values):
                held_values[at] = values[low]
            at += 1
    return at


@kernel(t.void(t.int64, t.int64, t.int64, array(t.int32), SUMS, HELD, BEST))
def rank(target: int, slot: int, count: int, candidates: Array, sums: Sums, room: Held, best: Best) -> None:
    """The best of `count` candidates but the target, as many as there is room for."""
    best.sizes[slot], need, scale = 0, 0.0, sums.scale
    for c in range(count):
        v, value = candidates[c], room.totals[c]
        value = rounded((1.0 / value if sums.inverted and value > 0 else value) * scale[target] * scale[v])
        if value >= need and value > 0 and v != target:
            need = keep(slot, value, v, room.starts[c + 1] - room.starts[c], best)


@kernel(t.int64(t.int64, t.int64, array(t.int32), t.int32[::1], GRAPH, WHOLE, BEST, HELD))
def lead(
    target: int, chosen: int, features: Array, place: Array, graph: Graph, whole: Whole, first: Best, into: Held
) -> int:
    """Fills `into` by the whole rows of the leaders in `first`; of the target itself where none is asked for."""
    into.starts[0], weighted = 0, len(into.values) > 0
    if chosen < 0:
        begin = graph.rows_ptr[target]
        for i in range(len(features)):
            into.held[i] = i
            if weighted:
                into.values[i] = graph.row_values[begin + i]
        into.starts[1] = len(features)
        return 1
    for c in range(chosen):
        a, b = whole.rows_ptr[first.partners[0, c]], whole.rows_ptr[first.partners[0, c] + 1]
        values = whole.row_values[a:b] if weighted else whole.row_values
        into.starts[c + 1] = overlap(features, place, whole.rows[a:b], values, into.starts[c], into.held, into.values)
    return chosen


@kernel(BEST(t.int64, array(t.int64)))
def leaders_for(count: int, targets: Array) -> Best:
    shape = (1, count)
    indexes = (np.zeros(shape, np.int32), np.zeros(shape, np.int32))
    return Best(targets, targets, np.zeros(shape), indexes[0], indexes[1], np.zeros(1, np.int64), np.zeros(1))


@kernel(t.void(GRAPH, SUMS, WHOLE, t.UniTuple(t.int64, 4), BEST))
def search(graph: Graph, sums: Sums, whole: Whole, size: tuple[int, int, int, int], best: Best) -> None:
    """The best partners of each target, or its self score; `size` as in `lists.search`."""
    width, most, entries, cells = size
    only_self, known = best.scores.shape[1] == 0, whole.given.shape[1]
    weighted, few = len(graph.list_values) > 0, max(1, whole.leaders, known)
    room, desk = room_for(most, entries, weighted), desk_for(most, width, cells)
    into, first = room_for(few, few * width, weighted), leaders_for(few, best.targets)
    table, place = np.empty(cells), np.zeros(len(sums.nodes), np.int32)
    for m in range(len(best.targets)):
        u, slot, chosen, made = best.targets[m], best.slots[m], -1, 0
        features = graph.rows[graph.rows_ptr[u] : graph.rows_ptr[u + 1]]
        found = gather(features, graph, desk, room)
        for i in range(len(features)):
            desk.node[i] = sums.nodes[features[i]] * (graph.row_values[graph.rows_ptr[u] + i] if weighted else 1.0)
            place[features[i]] = i + 1
        if known > 0:
            first.partners[0, :known] = whole.given[m]
            chosen = np.sum(whole.given[m] >= 0)
        elif not only_self:
            sum_up(u, found, found, features, graph, sums, whole, desk, room, room, table, (0, 0))
            made = 1
            if whole.leaders > 0:
                rank(u, 0, found, desk.candidates, sums, room, first)
                chosen = first.sizes[0]
            else:
                rank(u, slot, found, desk.candidates, sums, room, best)
        if only_self or chosen >= 0:
            count = lead(u, chosen, features, place, graph, whole, first, into)
            sum_up(u, found, count, features, graph, sums, whole, desk, room, into, table, (1, made))
            if only_self:
                own = into.totals[0]
                best.own[slot] = 1.0 / own if sums.inverted and own > 0 else own
            else:
                rank(u, slot, count, first.partners[0], sums, into, best)
        for i in range(len(features)):
            place[features[i]] = 0
