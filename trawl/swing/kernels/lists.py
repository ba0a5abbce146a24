"""Sparse graphs, any target: for each candidate the list of the target's features it has, sorted by counting.

As in `masks` the anchors are gone through in tiles. The target's table of pair counts is a packed lower triangle; where
it would be larger than allowed, it is made and used in blocks of rows, which changes no sum.

Memory of one call: 4 bytes (8 with edge weights) for each walked entry, 28 for each candidate, and the table.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types as t  # type: ignore[import-untyped, unused-ignore]

from trawl.swing.kernels.compiling import Array, array, kernel, record
from trawl.swing.kernels.keeping import keep, rounded
from trawl.swing.kernels.records import BEST, GRAPH, SUMS, Best, Graph, Sums

TILE = 1 << 14
_ONE = np.uint64(1)


class Held(NamedTuple):
    """held[starts[c] : starts[c + 1]]: the numbers of the features of candidate c among the target's, ascending.

    values: edge weights in the same order, or empty. done: how far each candidate's are worked; totals: its sum so far.
    """

    starts: Array
    held: Array
    values: Array
    done: Array
    totals: Array


class Desk(NamedTuple):
    """Working memory of a target."""

    candidates: Array
    heads: Array  # of a tile, 0 between the tiles
    touched: Array
    cursor: Array  # (2, d) where each list is, and where it was when the tile began
    node: Array  # by feature of the target: node weight x edge weight
    counts: Array  # the rows of the table that are worked


HELD = record(Held, t.int64[::1], t.int32[::1], t.float32[::1], t.int64[::1], t.float64[::1])
DESK = record(Desk, t.int32[::1], t.int32[::1], t.int32[::1], t.int64[:, ::1], t.float64[::1], t.int32[::1])
RANGE = t.UniTuple(t.int64, 2)


@kernel(HELD(t.int64, t.int64, t.boolean))
def room_for(candidates: int, entries: int, weighted: bool) -> Held:
    return Held(
        np.zeros(candidates + 1, np.int64),
        np.empty(entries, np.int32),
        np.empty(entries if weighted else 0, np.float32),
        np.empty(candidates, np.int64),
        np.empty(candidates, np.float64),
    )


@kernel(DESK(t.int64, t.int64, t.int64))
def desk_for(candidates: int, width: int, cells: int) -> Desk:
    return Desk(
        np.empty(candidates, np.int32),
        np.zeros(TILE, np.int32),
        np.empty(TILE + 1, np.int32),
        np.empty((2, width), np.int64),
        np.empty(width, np.float64),
        np.empty(cells, np.int32),
    )


@kernel(t.int64(t.int64, array(t.int32), GRAPH, DESK))
def sweep(low: Any, features: Array, graph: Graph, desk: Desk) -> Any:
    """heads: how many of the features each anchor of the tile has; how many anchors were touched."""
    high, count = low + TILE, np.uint64(0)
    lists, heads, touched = graph.lists, desk.heads, desk.touched
    for i in range(len(features)):
        edge, end = np.uint64(desk.cursor[0, i]), np.uint64(graph.lists_ptr[features[i] + 1])
        desk.cursor[1, i] = edge
        while edge < end:
            anchor = lists[edge]
            if anchor >= high:
                break
            v = np.uint64(anchor - low)
            touched[count] = v
            count += np.uint64(heads[v] == 0)
            heads[v] += 1
            edge += _ONE
        desk.cursor[0, i] = edge
    return np.int64(count)


@kernel(t.int64(array(t.int32), GRAPH, DESK, HELD))
def gather(features: Array, graph: Graph, desk: Desk, room: Held) -> Any:
    """Fills room.starts, held and values; how many candidates."""
    d, weighted, last = len(features), len(graph.list_values) > 0, np.int64(-1)
    for i in range(d):
        begin, end = graph.lists_ptr[features[i]], graph.lists_ptr[features[i] + 1]
        desk.cursor[0, i] = begin
        if end > begin:
            last = max(last, np.int64(graph.lists[end - 1]))
    found, filled, low = np.int64(0), np.int64(0), np.int64(0)
    while low <= last:
        count, first = sweep(low, features, graph, desk), filled
        for c in range(count):
            v = np.uint64(desk.touched[np.uint64(c)])
            desk.candidates[found], room.starts[found] = np.int64(v) + low, filled
            found += 1
            here = np.int64(desk.heads[v])
            desk.heads[v] = filled - first  # now the place of its next feature, counted from the tile's first
            filled += here
        for i in range(d):
            for edge in range(np.uint64(desk.cursor[1, i]), np.uint64(desk.cursor[0, i])):
                v = np.uint64(np.int64(graph.lists[edge]) - low)
                place = np.uint64(first + desk.heads[v])
                room.held[place] = i
                if weighted:
                    room.values[place] = graph.list_values[edge]
                desk.heads[v] += 1
        for c in range(count):
            desk.heads[np.uint64(desk.touched[np.uint64(c)])] = 0
        low += TILE
    room.starts[found] = filled
    return found


@kernel(t.int64(t.int64, t.int64, t.int64))
def block_end(start: int, d: int, cells: int) -> int:
    """Row after the last of the block that starts at row `start`: as many of d rows as `cells` hold, at least one."""
    stop, used = start + 1, 2 * start + 3
    while stop < d and used <= cells:
        stop += 1
        used += stop + 1
    return stop


@kernel(t.void(t.int64, RANGE, t.int64, array(t.int32), GRAPH, DESK, HELD))
def count_pairs(
    target: int, block: tuple[Any, Any], found: int, features: Array, graph: Graph, desk: Desk, room: Held
) -> None:
    """The block's rows of the target's pair counts; the target itself is counted once everywhere."""
    begin, end = block
    counts, held = desk.counts, room.held
    offset = begin * (begin + 1) // 2
    counts[: end * (end + 1) // 2 - offset] = 1
    for row in range(begin, end):
        counts[row * (row + 1) // 2 + row - offset] += (
            graph.lists_ptr[features[row] + 1] - graph.lists_ptr[features[row]]
        )
    for c in range(found):
        first, stop, at = np.uint64(room.starts[c]), np.uint64(room.starts[c + 1]), np.uint64(room.done[c])
        while at < stop and held[at] < end:
            i = np.int64(held[at])
            base = i * (i + 1) // 2 - offset
            if desk.candidates[c] == target:
                counts[base + i] -= 1
            else:
                for b in range(first, at):
                    counts[np.uint64(base + held[b])] += 1
            at += _ONE


@kernel(t.void(RANGE, t.int64, SUMS, DESK, HELD))
def add_scores(block: tuple[Any, Any], found: int, sums: Sums, desk: Desk, room: Held) -> None:
    """Adds what the block's rows give to each candidate's double sum, in the order of its features."""
    begin, end = block
    weight, node, counts, held, values = sums.weight, desk.node, desk.counts, room.held, room.values
    offset, weighted = begin * (begin + 1) // 2, len(values) > 0
    for c in range(found):
        first, stop, at = np.uint64(room.starts[c]), np.uint64(room.starts[c + 1]), np.uint64(room.done[c])
        out = room.totals[c]
        while at < stop and held[at] < end:
            i = np.int64(held[at])
            base = i * (i + 1) // 2 - offset
            # Two sums that take turns, so that an addition does not wait for the one before.
            inner, other = 0.0, 0.0
            if weighted:
                for b in range(first, at):
                    j = np.uint64(held[b])
                    inner, other = (
                        other,
                        inner + node[j] * values[b] * weight[np.uint64(counts[np.uint64(base + held[b])])],
                    )
            else:
                for b in range(first, at):
                    j = np.uint64(held[b])
                    inner, other = other, inner + node[j] * weight[np.uint64(counts[np.uint64(base + held[b])])]
            mine = node[i] * values[at] if weighted else node[i]
            out += mine * (2.0 * (inner + other) + sums.diagonal * mine * weight[counts[base + i]])
            at += _ONE
        room.totals[c], room.done[c] = out, at


@kernel(t.void(t.int64, t.int64, GRAPH, SUMS, DESK, HELD, t.boolean))
def score(target: int, found: int, graph: Graph, sums: Sums, desk: Desk, room: Held, only_self: bool) -> None:
    """room.totals of all candidates, or of the target as the only one."""
    begin = graph.rows_ptr[target]
    features = graph.rows[begin : graph.rows_ptr[target + 1]]
    d, weighted = len(features), len(room.values) > 0
    itself = room_for(1, d if only_self else 0, weighted)
    for i in range(d):
        desk.node[i] = sums.nodes[features[i]]
        if weighted:
            desk.node[i] *= graph.row_values[begin + i]
        if only_self:
            itself.held[i] = i
            if weighted:
                itself.values[i] = graph.row_values[begin + i]
    itself.starts[1], itself.done[0], itself.totals[0] = len(itself.held), 0, 0.0
    room.totals[:found] = 0.0
    room.done[:found] = room.starts[:found]
    start = 0
    while start < d:
        stop = block_end(start, d, len(desk.counts))
        count_pairs(target, (start, stop), found, features, graph, desk, room)
        if only_self:
            add_scores((start, stop), 1, sums, desk, itself)
            for c in range(found):
                while room.done[c] < room.starts[c + 1] and room.held[room.done[c]] < stop:
                    room.done[c] += 1
        else:
            add_scores((start, stop), found, sums, desk, room)
        start = stop
    if only_self:
        room.totals[0] = itself.totals[0]


@kernel(t.void(GRAPH, SUMS, t.UniTuple(t.int64, 4), BEST))
def search(graph: Graph, sums: Sums, size: tuple[int, int, int, int], best: Best) -> None:
    """The best partners of each target, or its self score.

    size: the most features, candidates and walked entries that a target here has, and the table's counts at once.
    """
    width, most, entries, cells = size
    only_self, scale = best.scores.shape[1] == 0, sums.scale
    room, desk = room_for(most, entries, len(graph.list_values) > 0), desk_for(most, width, cells)
    for m in range(len(best.targets)):
        u, slot = best.targets[m], best.slots[m]
        found = gather(graph.rows[graph.rows_ptr[u] : graph.rows_ptr[u + 1]], graph, desk, room)
        score(u, found, graph, sums, desk, room, only_self)
        if only_self:
            own = room.totals[0]
            best.own[slot] = 1.0 / own if sums.inverted and own > 0 else own
            continue
        need = 0.0
        for c in range(found):
            v, value = desk.candidates[c], room.totals[c]
            value = rounded((1.0 / value if sums.inverted and value > 0 else value) * scale[u] * scale[v])
            if value >= need and value > 0 and v != u:
                need = keep(slot, value, v, room.starts[c + 1] - room.starts[c], best)
