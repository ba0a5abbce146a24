"""Sparse graphs, targets of at most 64 features: a word of bits for each candidate, one bit for each feature.

The anchors are gone through in tiles, so that the words at work stay in the second-level cache: every list is sorted,
and is read up to the end of the tile before the next list is. A tile's candidates with one bit (most of them, in a
sparse graph) add nothing to the target's pair counts and are kept apart from those with several.

Indexes are unsigned where the loops are hot: numba tests signed ones for being negative.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types as t  # type: ignore[import-untyped, unused-ignore]

from trawl.swing.kernels.compiling import Array, array, kernel, lowest_bit, record
from trawl.swing.kernels.gathering import tile_for
from trawl.swing.kernels.keeping import keep, rounded
from trawl.swing.kernels.records import BEST, GRAPH, SUMS, Best, Graph, Sums

WORD = 64
_ONE = np.uint64(1)
_TOP = np.uint64(1 << 63)
_SLACK = 1.0 + 1e-9  # far above what rounding to 40 bits can add


class Desk(NamedTuple):
    """Working memory. By candidate: several and masks (more than one feature), single (64 v + i: one feature)."""

    several: Array
    masks: Array
    single: Array
    words: Array  # of a tile, 0 between the targets
    touched: Array
    cursor: Array  # by feature of the target, as the following are
    at: Array
    counts: Array  # packed lower triangle of the pair counts
    node: Array
    diagonals: Array


DESK = record(
    Desk, t.int32[::1], t.uint64[::1], t.int64[::1], t.uint64[::1], t.int32[::1], t.int64[::1], t.uint64[::1],
    t.int32[::1], t.float64[::1], t.float64[::1],
)  # fmt: skip


@kernel(DESK(t.int64, t.int64))
def desk_for(room: int, n: int) -> Desk:
    """For targets of at most `room` candidates among n anchors."""
    tile = tile_for(n)
    return Desk(
        np.empty(room + 1, np.int32),
        np.empty(room + 1, np.uint64),
        np.empty(room + 1, np.int64),
        np.zeros(tile, np.uint64),
        np.empty(tile + 1, np.int32),
        np.empty(WORD, np.int64),
        np.empty(WORD, np.uint64),
        np.empty(WORD * (WORD + 1) // 2, np.int32),
        np.empty(WORD, np.float64),
        np.empty(WORD, np.float64),
    )


@kernel(t.uint64(t.uint64, t.uint64))
def cell(i: Any, j: Any) -> Any:
    """Where the count of features j <= i stands."""
    return ((i * (i + _ONE)) >> _ONE) + j


@kernel(t.int64(t.uint64, t.uint64[::1]))
def positions(word: Any, out: Array) -> Any:
    """The numbers of a word's bits, ascending; how many."""
    count = np.uint64(0)
    while word != 0:
        out[count] = lowest_bit(word)
        word = word & (word - _ONE)
        count += _ONE
    return np.int64(count)


@kernel(t.int64(t.int64, t.int64, array(t.int32), GRAPH, DESK))
def sweep(low: Any, high: Any, features: Array, graph: Graph, desk: Desk) -> Any:
    """Sets the words of the anchors low..high that the features' lists name; how many were touched."""
    lists, words, touched, count = graph.lists, desk.words, desk.touched, np.uint64(0)
    for i in range(len(features)):
        edge, end = np.uint64(desk.cursor[i]), np.uint64(graph.lists_ptr[features[i] + 1])
        bit = _ONE << np.uint64(i)
        while edge < end:
            anchor = lists[edge]
            if anchor >= high:
                break
            v = np.uint64(anchor - low)
            word = words[v]
            touched[count] = v
            count += np.uint64(word == 0)
            words[v] = word | bit
            edge += _ONE
        desk.cursor[i] = edge
    return np.int64(count)


@kernel(t.UniTuple(t.int64, 2)(t.int64, array(t.int32), GRAPH, DESK))
def gather(target: int, features: Array, graph: Graph, desk: Desk) -> Any:
    """The candidates and the target's pair counts, in which the target itself is counted once everywhere.

    Returns how many candidates have several features, and how many one.
    """
    d, last, low = len(features), np.int64(-1), np.int64(0)
    counts, words, at, tile = desk.counts, desk.words, desk.at, len(desk.words)
    counts[: d * (d + 1) // 2] = 1
    for i in range(d):
        begin, end = graph.lists_ptr[features[i]], graph.lists_ptr[features[i] + 1]
        desk.cursor[i] = begin
        counts[cell(i, i)] += end - begin
        if end > begin:
            last = max(last, np.int64(graph.lists[end - 1]))
    found, alone = np.uint64(0), np.uint64(0)
    while low <= last:
        count, counted = sweep(low, low + tile, features, graph, desk), found
        if low <= target < low + tile:
            for a in range(positions(words[target - low], at)):
                counts[cell(at[a], at[a])] -= 1
            words[target - low] = 0
        for c in range(np.uint64(count)):  # no branches: which candidates have several, the processor can't guess
            v = np.uint64(desk.touched[c])
            word, anchor = words[v], np.uint64(low) + v
            words[v] = 0
            several = np.uint64(word & (word - _ONE) != 0)
            desk.single[alone] = anchor * np.uint64(WORD) + np.uint64(lowest_bit(word | _TOP))
            desk.several[found], desk.masks[found] = anchor, word
            alone += np.uint64(word != 0) & (several ^ _ONE)
            found += several
        for c in range(counted, found):
            word = desk.masks[c]
            rest = word & (word - _ONE)
            counts[cell(np.uint64(lowest_bit(rest)), np.uint64(lowest_bit(word)))] += 1
            if rest & (rest - _ONE) == 0:
                continue
            for a in range(2, positions(word, at)):
                base = cell(at[np.uint64(a)], 0)
                for b in range(a):
                    counts[base + at[np.uint64(b)]] += 1
        low += tile
    return np.int64(found), np.int64(alone)


@kernel(t.float64(t.int64, SUMS, DESK))
def total(o: int, sums: Sums, desk: Desk) -> float:
    """The double sum over the o features in desk.at, in their order."""
    at, node, weight, counts, out = desk.at, desk.node, sums.weight, desk.counts, 0.0
    for a in range(o):
        i = at[np.uint64(a)]
        base, inner, other = cell(i, 0), 0.0, 0.0
        for b in range(a):
            j = at[np.uint64(b)]
            inner, other = other, inner + node[j] * weight[np.uint64(counts[base + j])]  # as in `lists`
        out += node[i] * (2.0 * (inner + other) + sums.diagonal * node[i] * weight[np.uint64(counts[base + i])])
    return 1.0 / out if sums.inverted and out > 0 else out


@kernel(t.void(t.int64, t.int64, t.int64, t.UniTuple(t.int64, 2), t.float64, SUMS, DESK, BEST))
def choose(
    target: int, slot: int, d: int, candidates: tuple[int, int], ceiling: float, sums: Sums, desk: Desk, best: Best
) -> None:
    """The best of the candidates that `gather` counted. ceiling: of sums.scale."""
    scale, need, most = sums.scale, 0.0, 0.0
    found, alone = candidates
    mine = scale[target]
    for i in range(d):
        desk.at[0] = i
        desk.diagonals[i] = total(1, sums, desk) * mine
        most = max(most, desk.diagonals[i])
    pair = np.inf if sums.inverted or d == 0 else desk.node[:d].max() ** 2 * sums.weight[1] * mine  # fewest in common
    for c in range(found):
        v, rest = desk.several[c], desk.masks[c] & (desk.masks[c] - _ONE)
        if rest & (rest - _ONE) == 0 and 2.0 * (pair + most) * scale[v] * _SLACK < need:
            continue
        o = positions(desk.masks[c], desk.at)
        score = rounded(total(o, sums, desk) * mine * scale[v])
        if score >= need and score > 0:
            need = keep(slot, score, v, o, best)
    if most * ceiling * _SLACK < need:
        return
    for c in range(alone):
        v = desk.single[c] // WORD
        score = desk.diagonals[desk.single[c] % WORD] * scale[v]
        if score * _SLACK >= need and score > 0:
            need = keep(slot, rounded(score), v, 1, best)


@kernel(t.void(GRAPH, SUMS, t.int64, BEST))
def search(graph: Graph, sums: Sums, room: int, best: Best) -> None:
    """The best partners of each target, or its self score. room: the most candidates that a target here can have."""
    desk, top_k, ceiling = desk_for(room, len(graph.rows_ptr) - 1), best.scores.shape[1], 0.0
    if top_k > 0:
        ceiling = sums.scale.max()
    for m in range(len(best.targets)):
        u, slot = best.targets[m], best.slots[m]
        features = graph.rows[graph.rows_ptr[u] : graph.rows_ptr[u + 1]]
        d = len(features)
        candidates = gather(u, features, graph, desk)
        for i in range(d):
            desk.node[i], desk.at[i] = sums.nodes[features[i]], i
        if top_k == 0:
            best.own[slot] = total(d, sums, desk)
        else:
            choose(u, slot, d, candidates, ceiling, sums, desk, best)
