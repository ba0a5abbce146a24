"""Sparse graphs, any target: for each candidate the list of the target's features it has; see `gathering`.

The target's table of pair counts is a packed lower triangle. Where it would be larger than allowed, it is made and used
in blocks of rows, which changes no sum. With the whole table at hand, candidates that a bound keeps out are not summed.
"""

from typing import Any

import numpy as np
from numba import types as t  # type: ignore[import-untyped, unused-ignore]

from trawl.swing.kernels.compiling import kernel
from trawl.swing.kernels.gathering import DESK, HALF, HELD, LOW, Desk, Held, desk_for, gather, put_pair, room_for
from trawl.swing.kernels.keeping import keep, rounded
from trawl.swing.kernels.records import BEST, GRAPH, SUMS, Best, Graph, Sums

RANGE = t.UniTuple(t.int64, 2)
SLACK = 1.0 + 1e-9  # far above what rounding to 40 bits can add
_ONE = np.uint64(1)


@kernel(t.int64(t.int64, t.int64, t.int64))
def block_end(start: int, d: int, cells: int) -> int:
    """Row after the last of the block that starts at row `start`: as many of d rows as `cells` hold, at least one."""
    stop, used = start + 1, 2 * start + 3
    while stop < d and used <= cells:
        stop += 1
        used += stop + 1
    return stop


@kernel(t.void(RANGE, RANGE, DESK, HELD))
def count_pairs(block: tuple[Any, Any], sizes: tuple[int, int], desk: Desk, room: Held) -> None:
    """The block's rows of the target's pair counts; the target itself is counted once everywhere.

    sizes: how many candidates have several features, and two; these only where all rows are one block.
    """
    begin, end = block
    counts, held, (found, two) = desk.counts, room.held, sizes
    offset = begin * (begin + 1) // 2
    counts[: end * (end + 1) // 2 - offset] = 1
    for row in range(begin, end):
        counts[row * (row + 1) // 2 + row - offset] = desk.common[row]
    for c in range(np.uint64(two)):
        i = desk.pairs[c] >> HALF
        counts[((i * (i + _ONE)) >> _ONE) + (desk.pairs[c] & LOW)] += 1
    for c in range(found):
        first, stop, at = np.uint64(room.starts[c]), np.uint64(room.starts[c + 1]), np.uint64(room.done[c])
        while at < stop and held[at] < end:
            i = np.uint64(held[at])
            base = ((i * (i + _ONE)) >> _ONE) - np.uint64(offset)
            for b in range(first, at):
                counts[base + np.uint64(held[b])] += 1
            at += _ONE


@kernel(t.void(RANGE, RANGE, SUMS, DESK, HELD))
def add_scores(block: tuple[Any, Any], some: tuple[int, int], sums: Sums, desk: Desk, room: Held) -> None:
    """Adds what the block's rows give to the double sums of some candidates, in the order of their features."""
    begin, end = block
    weight, node, counts, held, values = sums.weight, desk.node, desk.counts, room.held, room.values
    offset, weighted = begin * (begin + 1) // 2, len(values) > 0
    for c in range(some[0], some[1]):
        first, stop, at = np.uint64(room.starts[c]), np.uint64(room.starts[c + 1]), np.uint64(room.done[c])
        out = room.totals[c]
        while at < stop and held[at] < end:
            i = np.uint64(held[at])
            base = ((i * (i + _ONE)) >> _ONE) - np.uint64(offset)
            # Two sums that take turns, so that an addition does not wait for the one before.
            inner, other = 0.0, 0.0
            if weighted:
                for b in range(first, at):
                    j = np.uint64(held[b])
                    inner, other = other, inner + node[j] * values[b] * weight[np.uint64(counts[base + j])]
            else:
                for b in range(first, at):
                    j = np.uint64(held[b])
                    inner, other = other, inner + node[j] * weight[np.uint64(counts[base + j])]
            mine = node[i] * values[at] if weighted else node[i]
            out += mine * (2.0 * (inner + other) + sums.diagonal * mine * weight[np.uint64(counts[base + i])])
            at += _ONE
        room.totals[c], room.done[c] = out, at


@kernel(t.void(t.int64, t.int64, t.int64, HELD))
def pass_by(stop: int, d: int, found: int, room: Held) -> None:
    """Moves all to the row `stop`, where rows before it were counted and not summed."""
    for c in range(found if stop < d else 0):
        while room.done[c] < room.starts[c + 1] and room.held[room.done[c]] < stop:
            room.done[c] += 1


@kernel(t.void(t.int64, t.int64, SUMS, DESK, HELD, HELD, t.boolean))
def in_blocks(found: int, d: int, sums: Sums, desk: Desk, room: Held, itself: Held, only_self: bool) -> None:
    """room.totals of the candidates with several features, or that of the target, the only one of `itself`."""
    start = 0
    while start < d:
        stop = block_end(start, d, len(desk.counts))
        count_pairs((start, stop), (found, 0), desk, room)
        if only_self:
            add_scores((start, stop), (0, 1), sums, desk, itself)
            pass_by(stop, d, found, room)
        else:
            add_scores((start, stop), (0, found), sums, desk, room)
        start = stop


@kernel(t.void(t.int64, t.int64, GRAPH, SUMS, DESK, HELD, HELD))
def prepare(target: int, found: int, graph: Graph, sums: Sums, desk: Desk, room: Held, itself: Held) -> None:
    """What is known of the target's features before any pair is counted; all totals at 0."""
    begin = graph.rows_ptr[target]
    features, weighted = graph.rows[begin : graph.rows_ptr[target + 1]], len(room.values) > 0
    for i in range(len(features)):
        node = sums.nodes[features[i]]
        itself.held[i] = i
        if weighted:
            node *= graph.row_values[begin + i]
            itself.values[i] = graph.row_values[begin + i]
        desk.node[i] = node
        desk.diagonals[i] = node * (sums.diagonal * node * sums.weight[desk.common[i]])
    itself.starts[1], itself.done[0], itself.totals[0] = len(features), 0, 0.0
    room.done[:found], room.totals[:found] = room.starts[:found], 0.0


@kernel(t.float64(t.int64, t.int64, RANGE, t.int64, SUMS, DESK, HELD, BEST))
def choose_several(
    target: int, slot: int, sizes: tuple[int, int], d: int, sums: Sums, desk: Desk, room: Held, best: Best
) -> float:
    """The best of the candidates with several features, and with two; returns what the next must reach.

    d: with the whole table at hand, how many features the target has; totals are made of the candidates that may be
    among the best. 0: all totals are there.
    """
    scale, need, pair, alone, (found, two) = sums.scale, 0.0, np.inf, 0.0, sizes
    if d > 0 and not sums.inverted and len(room.values) == 0:
        pair, alone = desk.node[:d].max() ** 2 * sums.weight[1], desk.diagonals[:d].max()  # the fewest in common
    for number in range(found + two):
        c = min(number, found)
        v = desk.candidates[c] if number < found else desk.double[number - found]
        several = room.starts[c + 1] - room.starts[c] if number < found else 2
        if d > 0:
            if several * ((several - 1) * pair + alone) * scale[target] * scale[v] * SLACK < need:
                continue
            if number >= found:
                put_pair(number - found, found, desk, room)
            add_scores((0, d), (c, c + 1), sums, desk, room)
        value = room.totals[c]
        value = rounded((1.0 / value if sums.inverted and value > 0 else value) * scale[target] * scale[v])
        if value >= need and value > 0:
            need = keep(slot, value, v, several, best)
    return need


@kernel(t.void(RANGE, t.int64, t.int64, t.float64, t.float64, SUMS, DESK, BEST))
def choose_single(
    who: tuple[int, int], alone: int, d: int, need: float, ceiling: float, sums: Sums, desk: Desk, best: Best
) -> None:
    """The same of those with one feature, by desk.diagonals. who: target, slot; ceiling: of sums.scale."""
    (target, slot), scale, scores, most = who, sums.scale, desk.singles, 0.0
    for i in range(d):
        value = desk.diagonals[i]
        scores[i] = (1.0 / value if sums.inverted and value > 0 else value) * scale[target]
        most = max(most, scores[i])
    if most * ceiling * SLACK < need:
        return
    for c in range(alone):
        one = desk.single[np.uint64(c)]
        v = one >> HALF
        score = scores[one & LOW] * scale[v]
        if score * SLACK >= need and score > 0:
            score = rounded(score)
            if score >= need:
                need = keep(slot, score, np.int64(v), 1, best)


@kernel(t.void(GRAPH, SUMS, t.UniTuple(t.int64, 4), BEST))
def search(graph: Graph, sums: Sums, size: tuple[int, int, int, int], best: Best) -> None:
    """The best partners of each target, or its self score.

    size: the most features, candidates and walked entries that a target here has, and the table's counts at once.
    """
    width, most, entries, cells = size
    weighted, only_self, ceiling = len(graph.list_values) > 0, best.scores.shape[1] == 0, 0.0
    if not only_self:
        ceiling = sums.scale.max()
    room, itself = room_for(most, entries, weighted), room_for(1, width, weighted)
    desk = desk_for(size, weighted, len(graph.rows_ptr) - 1)
    for m in range(len(best.targets)):
        u, slot = best.targets[m], best.slots[m]
        features = graph.rows[graph.rows_ptr[u] : graph.rows_ptr[u + 1]]
        d = len(features)
        whole = block_end(0, d, cells) >= d
        found, alone, two = gather(u, whole, features, graph, desk, room)
        prepare(u, found, graph, sums, desk, room, itself)
        if whole:
            count_pairs((0, d), (found, two), desk, room)
            if only_self:
                add_scores((0, d), (0, 1), sums, desk, itself)
        else:
            in_blocks(found, d, sums, desk, room, itself, only_self)
        if only_self:
            own = itself.totals[0]
            best.own[slot] = 1.0 / own if sums.inverted and own > 0 else own
            continue
        need = choose_several(u, slot, (found, two), d if whole else 0, sums, desk, room, best)
        choose_single((u, slot), alone, d, need, ceiling, sums, desk, best)
