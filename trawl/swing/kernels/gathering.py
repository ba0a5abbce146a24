"""Sparse graphs: the candidates of a target, with the features that each has of the target's.

The anchors are gone through in tiles, so that their heads stay in the second-level cache: every list is sorted, and is
read once, up to the end of the tile before the next list is. A head is the number of an anchor's feature and, where
there are several, a link to those seen before; features come in falling order, so that a chain is read in rising order.
Candidates with a single feature (most of them, in a sparse graph) add nothing to the target's pair counts; nothing is
written for them but which feature it is. Those with two are kept apart as well: loops of a length that the processor
can't guess cost more than what is done in them.

Indexes are unsigned where the loops are hot: numba tests signed ones for being negative.

Memory of one call: 12 bytes (20 with edge weights) for each walked entry, at most, and 48 for each candidate.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types as t  # type: ignore[import-untyped, unused-ignore]

from trawl.swing.kernels.compiling import Array, array, kernel, record
from trawl.swing.kernels.records import GRAPH, Graph

_TILES = (1 << 14, 1 << 16)  # anchors of a tile, at least and at most
HALF = np.uint64(32)  # bits of a head: below, feature + 1; above, the place of the link to the next
LOW = np.uint64((1 << 32) - 1)
_ONE, _NONE = np.uint64(1), np.uint64(0)


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

    candidates: Array  # with several features; with edge weights all are here
    single: Array  # candidate << 32 | the number of its only feature
    double: Array  # candidates with two features
    pairs: Array  # their larger number << 32 | their smaller one
    heads: Array  # of a tile, 0 between the tiles
    touched: Array
    chains: Array  # of a tile: heads of the candidates with several
    links: Array  # of a tile: heads as they were
    link_values: Array  # of a tile, with edge weights
    cursor: Array  # by feature of the target, as the following are
    common: Array  # how many have the feature: who stands in its list, and the target
    node: Array  # node weight x edge weight
    diagonals: Array  # the sum of candidates that have this feature alone
    singles: Array  # their score, but for their own scale
    counts: Array  # the rows of the table that are worked


HELD = record(Held, t.int64[::1], t.int32[::1], t.float32[::1], t.int64[::1], t.float64[::1])
DESK = record(
    Desk, t.int32[::1], t.uint64[::1], t.int32[::1], t.uint64[::1], t.uint64[::1], t.int32[::1], t.uint64[::1],
    t.uint64[::1], t.float32[::1], t.int64[::1], t.int64[::1], t.float64[::1], t.float64[::1], t.float64[::1],
    t.int32[::1],
)  # fmt: skip


@kernel(HELD(t.int64, t.int64, t.boolean))
def room_for(candidates: int, entries: int, weighted: bool) -> Held:
    return Held(
        np.zeros(candidates + 2, np.int64),  # and one that is made up, see `put_pair`
        np.empty(entries + 2, np.int32),
        np.empty(entries if weighted else 0, np.float32),
        np.empty(candidates + 1, np.int64),
        np.empty(candidates + 1, np.float64),
    )


@kernel(t.int64(t.int64))
def tile_for(n: int) -> int:
    """Anchors of a tile: a sixteenth of all, so that of a list more than a few entries are read in a row."""
    return int(min(max(n >> 4, _TILES[0]), _TILES[1]))


@kernel(DESK(t.UniTuple(t.int64, 4), t.boolean, t.int64))
def desk_for(size: tuple[int, int, int, int], weighted: bool, n: int) -> Desk:
    """For n anchors. size: the most features, candidates and walked entries of a target, the table's counts at once."""
    (width, most, entries, cells), tile = size, tile_for(n)
    return Desk(
        np.empty(most + 1, np.int32),
        np.empty(most + 1, np.uint64),
        np.empty(most + 1, np.int32),
        np.empty(most + 1, np.uint64),
        np.zeros(tile, np.uint64),
        np.empty(tile + 1, np.int32),
        np.empty(tile + 1, np.uint64),
        np.empty(entries + 2, np.uint64),
        np.empty(entries + 2 if weighted else 0, np.float32),
        np.empty(width, np.int64),
        np.empty(width, np.int64),
        np.empty(width, np.float64),
        np.empty(width, np.float64),
        np.empty(width, np.float64),
        np.empty(cells, np.int32),
    )


@kernel(t.int64(t.int64, array(t.int32), GRAPH, DESK))
def sweep(low: Any, features: Array, graph: Graph, desk: Desk) -> Any:
    """Sets the heads of the tile's anchors that the features' lists name; how many were touched."""
    high, count, place = low + len(desk.heads), _NONE, _ONE
    lists, heads, touched, links = graph.lists, desk.heads, desk.touched, desk.links
    for back in range(len(features)):
        i = np.uint64(len(features) - 1 - back)
        edge, end = np.uint64(desk.cursor[i]), np.uint64(graph.lists_ptr[np.uint64(features[i]) + _ONE])
        number = i + _ONE
        while edge < end:
            anchor = lists[edge]
            if anchor >= high:
                break
            v = np.uint64(anchor - low)
            before = heads[v]
            touched[count] = v
            count += np.uint64(before == _NONE)
            # Always written, kept where there is something to link to.
            links[place] = before
            several = np.uint64(before != _NONE)
            heads[v] = ((place * several) << HALF) | number
            place += several
            edge += _ONE
        desk.cursor[i] = edge
    return np.int64(count)


@kernel(t.int64(t.int64, array(t.int32), GRAPH, DESK))
def sweep_weighted(low: Any, features: Array, graph: Graph, desk: Desk) -> Any:
    """The same with edge weights: each entry has a link, so that its weight has a place."""
    high, count, place = low + len(desk.heads), _NONE, _ONE
    heads, touched = desk.heads, desk.touched
    for back in range(len(features)):
        i = np.uint64(len(features) - 1 - back)
        edge, end = np.uint64(desk.cursor[i]), np.uint64(graph.lists_ptr[np.uint64(features[i]) + _ONE])
        while edge < end:
            anchor = graph.lists[edge]
            if anchor >= high:
                break
            v = np.uint64(anchor - low)
            touched[count] = v
            count += np.uint64(heads[v] == _NONE)
            desk.links[place], desk.link_values[place] = heads[v], graph.list_values[edge]
            heads[v] = (place << HALF) | (i + _ONE)
            place += _ONE
            edge += _ONE
        desk.cursor[i] = edge
    return np.int64(count)


@kernel(t.int64(array(t.int32), GRAPH, DESK))
def begin(features: Array, graph: Graph, desk: Desk) -> Any:
    """Cursors at the start, desk.common as if the target stood in no list; the largest candidate."""
    last = np.int64(-1)
    for i in range(len(features)):
        first, end = graph.lists_ptr[features[i]], graph.lists_ptr[features[i] + 1]
        desk.cursor[i] = first
        desk.common[i] = 1 + end - first
        if end > first:
            last = max(last, np.int64(graph.lists[end - 1]))
    return last


@kernel(t.void(t.int64, DESK))
def leave_out(at: Any, desk: Desk) -> None:
    """The target, which stands at `at` of this tile: no candidate, and counted before in desk.common."""
    head = desk.heads[at]
    desk.heads[at] = _NONE
    while head != _NONE:
        desk.common[(head & LOW) - _ONE] -= 1
        place = head >> HALF
        head = desk.links[place] if place != _NONE else _NONE


@kernel(t.UniTuple(t.uint64, 3)(t.int64, t.int64, t.boolean, t.UniTuple(t.uint64, 2), DESK))
def part(low: Any, count: int, doubles: bool, sizes: tuple[Any, Any], desk: Desk) -> Any:
    """Candidates of a tile by how many features they have; those with more are left in desk.touched and chains.

    sizes: how many have one, and two, so far. Returns the same now, and how many are left. No branches.
    """
    heads, touched, chains, links = desk.heads, desk.touched, desk.chains, desk.links
    (alone, two), base, several, left, apart = sizes, np.uint64(low), _NONE, _NONE, np.uint64(doubles)
    for c in range(np.uint64(count)):
        v = np.uint64(touched[c])
        head = heads[v]
        heads[v] = _NONE
        desk.single[alone] = ((base + v) << HALF) | ((head - _ONE) & LOW)
        touched[several], chains[several] = v, head
        alone += np.uint64((head != _NONE) & (head <= LOW))
        several += np.uint64(head > LOW)
    for c in range(several):
        head, v = chains[c], np.uint64(touched[c])
        rest = links[head >> HALF]
        is_two = np.uint64((rest != _NONE) & (rest <= LOW)) & apart
        desk.double[two], desk.pairs[two] = base + v, ((rest - _ONE) << HALF) | ((head & LOW) - _ONE)
        touched[left], chains[left] = v, head
        two += is_two
        left += _ONE - is_two
    return alone, two, left


@kernel(t.UniTuple(t.int64, 3)(t.int64, t.boolean, array(t.int32), GRAPH, DESK, HELD))
def gather(target: int, doubles: bool, features: Array, graph: Graph, desk: Desk, room: Held) -> Any:
    """Fills desk.candidates, single, double, pairs and common, room.starts, held and values.

    Returns how many candidates have several features, one, and, with `doubles`, two (else these count as several).
    """
    weighted = len(graph.list_values) > 0
    links, held, found, alone, two, filled, low = desk.links, room.held, _NONE, _NONE, _NONE, _NONE, np.int64(0)
    last, tile = begin(features, graph, desk), len(desk.heads)
    while low <= last:
        count = sweep_weighted(low, features, graph, desk) if weighted else sweep(low, features, graph, desk)
        if low <= target < low + tile:
            leave_out(target - low, desk)
        alone, two, left = part(low, count, doubles and not weighted, (alone, two), desk)
        for c in range(left):
            head = desk.chains[c]
            desk.candidates[found], room.starts[found] = low + desk.touched[c], filled
            found += _ONE
            while head != _NONE:
                place, number = head >> HALF, (head & LOW) - _ONE
                held[filled] = number
                if weighted:
                    room.values[filled] = desk.link_values[place]
                filled += _ONE
                head = links[place] if place != _NONE else _NONE
        low += tile
    room.starts[found] = filled
    return np.int64(found), np.int64(alone), np.int64(two)


@kernel(t.void(t.int64, t.int64, DESK, HELD))
def put_pair(number: int, at: int, desk: Desk, room: Held) -> None:
    """A candidate of desk.double as candidate `at` of `room`, behind all others."""
    first, pair = room.starts[at], desk.pairs[np.uint64(number)]
    room.held[first], room.held[first + 1] = pair & LOW, pair >> HALF
    room.starts[at + 1], room.done[at], room.totals[at] = first + 2, first, 0.0
