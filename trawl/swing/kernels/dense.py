"""Dense graphs: the counts of all pairs of features stand in memory, most candidates are dropped by an upper bound.

Features are renumbered by popularity and cut into B blocks of about equal edges. A pair of features in the overlap of
two *different* anchors has both in common, so pairs with one common anchor (the largest weights) never count. With
g = 1 / sqrt(popularity + 10), W the weights and, over the features of target u alone,
M_ab = max over p in a, q in b of W_pq / (g_p g_q),

    s(u, v) <= sum over blocks a, b of M_ab h_a h_b,   h_a = sum of g over the overlap's features in a.

The bounds of all anchors take one pass over the lists of u's features. Candidates are then scored in the order of their
bounds until a bound is under the k-th best score. Bounds are in float32 with slack for their rounding, scores in
float64: y_j = sum over i <= j of the overlap of W_ij (off the diagonal twice), then the sum of y_j, by rows of the
target's triangle of weights.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types as t  # type: ignore[import-untyped, unused-ignore]

from trawl.swing.kernels.compiling import Array, array, kernel, record
from trawl.swing.kernels.keeping import keep, rounded
from trawl.swing.kernels.records import BEST, SUMS, Best, Sums

BLOCKS = 16
_CHUNK = 512
_ROUNDING = 1.2e-7  # of one operation in float32
_ONE = np.uint64(1)


class Tables(NamedTuple):
    """Features by their new numbers, but for lists_ptr and lists: order gives the old number by the new."""

    rows_ptr: Array
    rows: Array  # each target's features, ascending
    seen_ptr: Array
    seen: Array  # the features in whose lists each anchor stands, ascending; the rows, where the lists are whole
    lists_ptr: Array
    lists: Array
    order: Array
    block: Array
    g: Array
    common: Array  # (p, p) upper triangle of the anchors in common
    alpha: float
    capped: bool


class Desk(NamedTuple):
    """Working memory of a target; its features are numbered 0..d."""

    node: Array
    g: Array
    inside: Array  # whether the target stands in the feature's list
    place: Array  # (p,) a feature's number among the target's, or -1
    cuts: Array  # (B + 1,) where each block begins
    line: Array  # counts of one row
    highest: Array  # of W / (g g), by column
    table: Array  # packed upper triangle of the weights, off the diagonal twice
    most: Array  # (B, B) M of the bound, a <= b
    reach: Array  # (B, n) h of the bound
    mixed: Array
    bounds: Array  # (n,)
    heap: Array  # anchors, the largest bound first
    overlap: Array
    sums: Array


TABLES = record(
    Tables, array(t.int64), array(t.int32), array(t.int64), array(t.int32), array(t.int64), array(t.int32),
    array(t.int64), array(t.int64), array(t.float32), array(t.int32, 2), t.float64, t.boolean,
)  # fmt: skip
DESK = record(
    Desk, t.float64[::1], t.float32[::1], t.int8[::1], t.int32[::1], t.int64[::1], t.int32[::1], t.float32[::1],
    t.float64[::1], t.float32[:, ::1], t.float32[:, ::1], t.float32[::1], t.float32[::1], t.int32[::1], t.int32[::1],
    t.float64[::1],
)  # fmt: skip


@kernel(DESK(t.int64, t.int64, t.int64))
def desk_for(n: int, p: int, width: int) -> Desk:
    """For targets of at most `width` features."""
    return Desk(
        np.empty(width, np.float64),
        np.empty(width, np.float32),
        np.zeros(width, np.int8),
        np.full(p, -1, np.int32),
        np.zeros(BLOCKS + 1, np.int64),
        np.empty(width, np.int32),
        np.empty(width, np.float32),
        np.empty(width * (width + 1) // 2, np.float64),
        np.empty((BLOCKS, BLOCKS), np.float32),
        np.empty((BLOCKS, n), np.float32),
        np.empty(_CHUNK, np.float32),
        np.empty(n, np.float32),
        np.empty(n, np.int32),
        np.empty(width, np.int32),
        np.empty(width, np.float64),
    )


@kernel(t.uint64(t.uint64, t.uint64))
def row_start(i: Any, d: Any) -> Any:
    """Where column 0 of row i would stand in the packed upper triangle of a (d, d) table."""
    return i * d - ((i * (i + _ONE)) >> _ONE)


@kernel(t.void(array(t.int32), TABLES, SUMS, DESK))
def take(features: Array, tables: Tables, sums: Sums, desk: Desk) -> None:
    """Sets a target's features on the desk."""
    desk.cuts[:] = 0
    for i in range(len(features)):
        f = features[i]
        desk.node[i], desk.g[i], desk.place[f], desk.overlap[i] = sums.nodes[f], tables.g[f], i, i
        desk.cuts[tables.block[f] + 1] = i + 1
    for b in range(BLOCKS):
        desk.cuts[b + 1] = max(desk.cuts[b + 1], desk.cuts[b])


@kernel(t.void(t.int64, array(t.int32), TABLES, DESK))
def walk(target: int, features: Array, tables: Tables, desk: Desk) -> None:
    """reach[b, v]: the sum of g over the features of block b that target and v share; and in which lists it stands."""
    for b in range(BLOCKS):
        begin, end = desk.cuts[b], desk.cuts[b + 1]
        if begin < end:
            line, lists = desk.reach[b], tables.lists
            line[:] = 0.0
            for i in range(begin, end):
                old, g = tables.order[features[i]], desk.g[i]
                line[target] = 0.0
                for edge in range(np.uint64(tables.lists_ptr[old]), np.uint64(tables.lists_ptr[old + 1])):
                    line[np.uint64(lists[edge])] += g
                desk.inside[i] = line[target] > 0


@kernel(t.void(t.int64, t.int64, array(t.int32), TABLES, SUMS, DESK))
def weigh_row(i: int, d: int, features: Array, tables: Tables, sums: Sums, desk: Desk) -> None:
    """Row i of the target's weights, and what it adds to `highest`."""
    row, line, node, g = tables.common[features[i]], desk.line, desk.node, desk.g
    table, highest = desk.table, desk.highest
    begin, end = np.uint64(i), np.uint64(d)
    for j in range(begin, end):
        line[j] = row[np.uint64(features[j])]
    if tables.capped:
        for j in range(begin, end):
            line[j] += 1 - desk.inside[i] * desk.inside[j]
    offset, mine, factor, alpha = row_start(begin, end), node[i], np.float32(1.0) / g[i], tables.alpha
    weight = sums.diagonal * mine * mine / (alpha + line[i])
    table[offset + begin] = weight
    if line[i] > 1:
        highest[i] = max(highest[i], np.float32(weight) * factor * factor)
    for j in range(begin + _ONE, end):
        weight = mine * node[j] / (alpha + line[j])
        table[offset + j] = 2.0 * weight
        ratio = np.float32(weight) * factor / g[j]
        ratio = ratio if line[j] > 1 else np.float32(0.0)
        highest[j] = ratio if ratio > highest[j] else highest[j]


@kernel(t.void(array(t.int32), TABLES, SUMS, DESK))
def weigh(features: Array, tables: Tables, sums: Sums, desk: Desk) -> None:
    """The target's table of weights, and M of the bound."""
    d, cuts = len(features), desk.cuts
    for a in range(BLOCKS):
        desk.highest[:d] = 0.0
        for i in range(cuts[a], cuts[a + 1]):
            weigh_row(i, d, features, tables, sums, desk)
        for b in range(a, BLOCKS):
            most = np.float32(0.0)
            for j in range(cuts[b], cuts[b + 1]):
                most = max(most, desk.highest[j])
            desk.most[a, b] = most


@kernel(t.void(DESK), fast=True)
def bound(desk: Desk) -> None:
    """bounds[v] = sum over blocks a <= b of (twice off the diagonal) M_ab reach_a reach_b."""
    cuts, most, mixed, bounds, n = desk.cuts, desk.most, desk.mixed, desk.bounds, len(desk.bounds)
    bounds[:] = 0.0
    for low in range(0, n, _CHUNK):
        begin, count = np.uint64(low), np.uint64(min(_CHUNK, n - low))
        for b in range(BLOCKS):
            if cuts[b] == cuts[b + 1]:
                continue
            factor, line = most[b, b], desk.reach[b]
            for v in range(count):
                mixed[v] = factor * line[begin + v]
            for a in range(b):
                if cuts[a] < cuts[a + 1] and most[a, b] > 0:
                    factor, other = np.float32(2.0) * most[a, b], desk.reach[a]
                    for v in range(count):
                        mixed[v] += factor * other[begin + v]
            for v in range(count):
                bounds[begin + v] += mixed[v] * line[begin + v]


@kernel(t.void(t.float32[::1], t.int32[::1], t.int64, t.int64))
def sink(bounds: Array, heap: Array, at: int, size: int) -> None:
    """Restore the heap (the largest bound first) below `at`."""
    who = heap[at]
    value = bounds[who]
    child = 2 * at + 1
    while child < size:
        if child + 1 < size and bounds[heap[child + 1]] > bounds[heap[child]]:
            child += 1
        if bounds[heap[child]] <= value:
            break
        heap[at] = heap[child]
        at, child = child, 2 * child + 1
    heap[at] = who


@kernel(t.int64(t.int64, t.float32, array(t.float32), DESK))
def rank(target: int, factor: Any, scale: Array, desk: Desk) -> int:
    """Scales the bounds and heaps up the candidates that have one; how many."""
    bounds, heap, size = desk.bounds, desk.heap, 0
    for v in range(len(bounds)):
        bounds[v] *= factor * scale[v]
        heap[size] = v
        size += bounds[v] > 0 and v != target
    for at in range(size // 2 - 1, -1, -1):
        sink(bounds, heap, at, size)
    return size


@kernel(t.int64(t.int64, TABLES, DESK))
def meet(anchor: int, tables: Tables, desk: Desk) -> Any:
    """desk.overlap: the target's numbers of the features that it shares with an anchor, ascending; how many."""
    o, seen, place, overlap = np.uint64(0), tables.seen, desk.place, desk.overlap
    for at in range(np.uint64(tables.seen_ptr[anchor]), np.uint64(tables.seen_ptr[anchor + 1])):
        i = place[np.uint64(seen[at])]
        overlap[o] = i  # one place too many where d = o, see `search`
        o += np.uint64(i >= 0)
    return np.int64(o)


@kernel(t.float64(t.int64, t.int64, DESK))
def total(d: int, o: int, desk: Desk) -> float:
    """The double sum over the o features of desk.overlap, of the target's d."""
    line, table, overlap = desk.sums, desk.table, desk.overlap
    line[:d] = 0.0
    width, a, rest = np.uint64(d), np.uint64(0), np.uint64(o % 4)
    # Four rows at a time: a quarter of the passes over the line, the order of its additions being the same.
    for _ in range(o // 4):
        i, k = np.uint64(overlap[a]), np.uint64(overlap[a + _ONE])
        m, n = np.uint64(overlap[a + np.uint64(2)]), np.uint64(overlap[a + np.uint64(3)])
        first, second, third, fourth = (
            row_start(i, width),
            row_start(k, width),
            row_start(m, width),
            row_start(n, width),
        )
        for j in range(i, n):
            line[j] += table[first + j]
        for j in range(k, n):
            line[j] += table[second + j]
        for j in range(m, n):
            line[j] += table[third + j]
        for j in range(n, width):
            line[j] = line[j] + table[first + j] + table[second + j] + table[third + j] + table[fourth + j]
        a += np.uint64(4)
    for b in range(a, a + rest):
        i = np.uint64(overlap[b])
        first = row_start(i, width)
        for j in range(i, width):
            line[j] += table[first + j]
    out = 0.0
    for b in range(np.uint64(o)):
        out += line[np.uint64(overlap[b])]
    return out


@kernel(t.void(TABLES, SUMS, t.int64, BEST))
def search(tables: Tables, sums: Sums, width: int, best: Best) -> None:
    """The best partners of each target, or its self score. width: the most features that a target here has."""
    n, only_self, scale = len(tables.rows_ptr) - 1, best.scores.shape[1] == 0, sums.scale
    desk, rough = desk_for(n, tables.common.shape[0], width + 1), scale.astype(np.float32)
    for m in range(len(best.targets)):
        u, slot = best.targets[m], best.slots[m]
        features = tables.rows[tables.rows_ptr[u] : tables.rows_ptr[u + 1]]
        d, need = len(features), 0.0
        take(features, tables, sums, desk)
        if tables.capped or not only_self:
            walk(u, features, tables, desk)
        weigh(features, tables, sums, desk)
        if only_self:
            best.own[slot] = total(d, d, desk)
        else:
            bound(desk)
            size = rank(u, np.float32(scale[u] * (1.0 + _ROUNDING * (4 * d + 8 * BLOCKS + 16))), rough, desk)
            while size > 0 and desk.bounds[desk.heap[0]] >= need:
                v = desk.heap[0]
                size -= 1
                desk.heap[0] = desk.heap[size]
                sink(desk.bounds, desk.heap, 0, size)
                o = meet(v, tables, desk)
                score = rounded(total(d, o, desk) * scale[u] * scale[v])
                if score >= need and score > 0:
                    need = keep(slot, score, v, o, best)
        for i in range(d):
            desk.place[features[i]] = -1
