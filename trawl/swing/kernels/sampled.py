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
from trawl.swing.kernels.gathering import DESK, HELD, Desk, Held, desk_for, gather, put_pair, room_for
from trawl.swing.kernels.keeping import keep, rounded
from trawl.swing.kernels.lists import RANGE, SLACK, block_end, choose_single, count_pairs, pass_by
from trawl.swing.kernels.records import BEST, GRAPH, SUMS, Best, Graph, Sums

_LONG = 16  # times the target's features: a longer row is searched for each of them
_ONE = np.uint64(1)
_ALL = 1 << 31  # rows of a table


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


@kernel(t.void(RANGE, SUMS, WHOLE, DESK, t.float64[:, ::1], t.float64[::1]))
def weigh(block: tuple[int, int], sums: Sums, whole: Whole, desk: Desk, known: Array, table: Array) -> None:
    """The block's rows of the target's weights from its pair counts; node weights and both orders of a pair in them.

    known: rates and lengths of the target's features.
    """
    (begin, end), offset, alpha, inverted = block, block[0] * (block[0] + 1) // 2, whole.alpha, sums.inverted
    rates, lengths, node = known[0], known[1], desk.node
    for i in range(begin, end):
        rate, length, mine, base = rates[i], lengths[i], node[i], i * (i + 1) // 2 - offset
        row, counts = table[base : base + i + 1], desk.counts[base : base + i + 1]
        for j in range(np.uint64(i)):
            both, common = rate * rates[j], float(counts[j])
            scaled = min(1.0 + (common - 0.5) / both, length, lengths[j])
            common = scaled if both < 1.0 else common
            weight = alpha + common if inverted else 1.0 / (alpha + common)
            row[j] = mine * node[j] * (2.0 * weight)
        row[i] = desk.diagonals[i]


@kernel(t.float64(t.float64[::1]))
def largest(table: Array) -> float:
    """Of numbers of which none is below 0; as whole numbers they are compared several at once."""
    bits, most = table.view(np.int64), np.zeros(1, np.int64)
    top = np.int64(0)
    for at in range(np.uint64(len(bits))):
        top = max(top, bits[at])
    most[0] = top
    return float(most.view(np.float64)[0])


@kernel(t.void(RANGE, RANGE, t.float64[::1], HELD))
def add(block: tuple[int, int], some: tuple[int, int], table: Array, room: Held) -> None:
    """Adds what the block's rows give to the double sums of some candidates, in the order of the features."""
    (begin, end), held, values = block, room.held, room.values
    offset, weighted = begin * (begin + 1) // 2, len(values) > 0
    for c in range(some[0], some[1]):
        first, stop, at = np.uint64(room.starts[c]), np.uint64(room.starts[c + 1]), np.uint64(room.done[c])
        out = room.totals[c]
        while at < stop and held[at] < end:
            i = np.uint64(held[at])
            base, inner = ((i * (i + _ONE)) >> _ONE) - np.uint64(offset), 0.0
            if weighted:
                for b in range(first, at + _ONE):
                    inner += table[base + np.uint64(held[b])] * values[b]
                inner *= values[at]
            else:
                for b in range(first, at + _ONE):
                    inner += table[base + np.uint64(held[b])]
            out += inner
            at += _ONE
        room.totals[c], room.done[c] = out, at


@kernel(t.void(t.int64, RANGE, SUMS, WHOLE, DESK, HELD, HELD, t.float64[:, ::1], t.float64[::1]))
def in_blocks(  # noqa: PLR0913, PLR0917 - the records of a target
    d: int, sizes: tuple[int, int], sums: Sums, whole: Whole, desk: Desk, room: Held, into: Held, known: Array,
    table: Array,
) -> None:  # fmt: skip
    """into.totals by a table made in blocks. sizes: candidates of `room`, leaders of `into`, 0: it is `room`."""
    found, leaders = sizes
    room.done[:found], start = room.starts[:found], 0
    while start < d:
        stop = block_end(start, d, len(desk.counts))
        count_pairs((start, stop), (found, 0), desk, room)
        weigh((start, stop), sums, whole, desk, known, table)
        add((start, stop), (0, leaders or found), table, into)
        if leaders:
            pass_by(stop, d, found, room)
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


@kernel(t.float64(t.int64, t.int64, RANGE, array(t.int32), SUMS, t.float64[::1], t.float64, DESK, HELD, BEST))
def rank(  # noqa: PLR0913, PLR0917 - the records of a target
    target: int, slot: int, sizes: tuple[int, int], candidates: Array, sums: Sums, table: Array, most: float,
    desk: Desk, room: Held, best: Best,
) -> float:  # fmt: skip
    """The best of some candidates, as many as there is room for; returns what the next must reach.

    sizes: how many are in `room`, and how many with two features are not. most: the largest cell of a table that is
    whole; totals are made of the candidates that may be among the best. 0: all totals are there.
    """
    (found, two), need, scale = sizes, 0.0, sums.scale
    best.sizes[slot] = 0
    for number in range(found + two):
        c = min(number, found)
        v = candidates[c] if number < found else desk.double[number - found]
        several = room.starts[c + 1] - room.starts[c] if number < found else 2
        if most > 0:
            if several * (several + 1) * (0.5 * most) * scale[target] * scale[v] * SLACK < need:
                continue
            if number >= found:
                put_pair(number - found, found, desk, room)
            add((0, _ALL), (c, c + 1), table, room)
        elif number >= found:
            continue
        value = room.totals[c]
        value = rounded((1.0 / value if sums.inverted and value > 0 else value) * scale[target] * scale[v])
        if value >= need and value > 0 and v != target:
            need = keep(slot, value, v, several, best)
    return need


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


@kernel(t.void(t.int64, t.int64, array(t.int32), GRAPH, SUMS, WHOLE, DESK, HELD, t.float64[:, ::1], t.int32[::1]))
def prepare(  # noqa: PLR0913, PLR0917 - the records of a target
    target: int, found: int, features: Array, graph: Graph, sums: Sums, whole: Whole, desk: Desk, room: Held,
    known: Array, place: Array,
) -> None:  # fmt: skip
    """What is known of the target's features before any pair is counted; all totals at 0."""
    weighted = len(room.values) > 0
    for i in range(len(features)):
        f = features[i]
        node = sums.nodes[f] * (graph.row_values[graph.rows_ptr[target] + i] if weighted else 1.0)
        known[0, i], known[1, i], place[f], desk.node[i] = whole.rates[f], whole.lengths[f], i + 1, node
        weight = whole.alpha + known[1, i] if sums.inverted else 1.0 / (whole.alpha + known[1, i])
        desk.diagonals[i] = node * node * (sums.diagonal * weight)
    room.done[:found], room.totals[:found] = room.starts[:found], 0.0


@kernel(t.void(RANGE, t.int64, t.UniTuple(t.int64, 4), t.float64, SUMS, t.float64[::1], DESK, HELD, BEST))
def choose(  # noqa: PLR0913, PLR0917 - the records of a target
    who: tuple[int, int], d: int, sizes: tuple[int, int, int, int], ceiling: float, sums: Sums, table: Array,
    desk: Desk, room: Held, best: Best,
) -> None:  # fmt: skip
    """The best by the lists alone of a target, who = (target, slot).

    sizes: candidates with several features, with two and with one; features in a table that is whole, 0: it is not.
    """
    (target, slot), (found, two, alone, rows) = who, sizes
    bound = 0.0
    if rows > 0:
        plain = len(room.values) == 0 and not sums.inverted
        bound = largest(table[: rows * (rows + 1) // 2]) if plain else np.inf
    need = rank(target, slot, (found, two), desk.candidates, sums, table, bound, desk, room, best)
    choose_single(who, alone, d, need, ceiling, sums, desk, best)


@kernel(t.void(GRAPH, SUMS, WHOLE, t.UniTuple(t.int64, 4), BEST))
def search(graph: Graph, sums: Sums, whole: Whole, size: tuple[int, int, int, int], best: Best) -> None:
    """The best partners of each target, or its self score; `size` as in `lists.search`."""
    width, most, entries, cells = size
    weighted, only_self, given = len(graph.list_values) > 0, best.scores.shape[1] == 0, whole.given.shape[1]
    few, ceiling = max(1, whole.leaders, given), 0.0
    if not only_self:
        ceiling = sums.scale.max()
    room, desk = room_for(most, entries, weighted), desk_for(size, weighted, len(graph.rows_ptr) - 1)
    into, first = room_for(few, few * width, weighted), leaders_for(few, best.targets)
    known, table, place = np.empty((2, width)), np.empty(cells), np.zeros(len(sums.nodes), np.int32)
    for m in range(len(best.targets)):
        u, slot, chosen = best.targets[m], best.slots[m], -1
        features = graph.rows[graph.rows_ptr[u] : graph.rows_ptr[u + 1]]
        d = len(features)
        one_block = block_end(0, d, cells) >= d
        found, alone, two = gather(u, one_block, features, graph, desk, room)
        prepare(u, found, features, graph, sums, whole, desk, room, known, place)
        if one_block:
            count_pairs((0, d), (found, two), desk, room)
            weigh((0, d), sums, whole, desk, known, table)
        if given > 0:
            first.partners[0, :given] = whole.given[m]
            chosen = np.sum(whole.given[m] >= 0)
        elif not only_self:
            by_lists = first if whole.leaders > 0 else best
            at, wanted = (0 if whole.leaders > 0 else slot), (found, two, alone, d if one_block else 0)
            if not one_block:
                in_blocks(d, (found, 0), sums, whole, desk, room, room, known, table)
            choose((u, at), d, wanted, ceiling, sums, table, desk, room, by_lists)
            chosen = first.sizes[0] if whole.leaders > 0 else -1
        if only_self or chosen >= 0:
            count = lead(u, chosen, features, place, graph, whole, first, into)
            into.done[:count], into.totals[:count] = into.starts[:count], 0.0
            if one_block:
                add((0, d), (0, count), table, into)
            elif count > 0:
                in_blocks(d, (found, count), sums, whole, desk, room, into, known, table)
            if only_self:
                own = into.totals[0]
                best.own[slot] = 1.0 / own if sums.inverted and own > 0 else own
            else:
                rank(u, slot, (count, 0), first.partners[0], sums, table, 0.0, desk, into, best)
        for i in range(d):
            place[features[i]] = 0
