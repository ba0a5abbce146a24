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

import numpy as np
from numba import types as t  # type: ignore[import-untyped, unused-ignore]

from trawl.swing.kernels.compiling import Array, array, kernel
from trawl.swing.kernels.keeping import keep, rounded

BLOCKS = 16
_CHUNK = 512
_ROUNDING = 1.2e-7  # of one operation in float32
_ONE = np.uint64(1)


@kernel(t.void(array(t.int64), array(t.int32), array(t.int64), t.int64[::1], t.int32[::1]))
def turn(lists_ptr: Array, lists: Array, order: Array, heads: Array, rows: Array) -> None:
    """rows: the new numbers of each anchor's features, ascending; order: old number by new; heads: starts, are moved."""
    for f in range(len(order)):
        old = order[f]
        for edge in range(lists_ptr[old], lists_ptr[old + 1]):
            v = lists[edge]
            rows[heads[v]] = f
            heads[v] += 1


@kernel(
    t.void(
        array(t.int64), array(t.int32), array(t.int64), array(t.int64), array(t.int32), t.int64[::1], t.int32[:, ::1]
    )
)
def count_common(
    lists_ptr: Array, lists: Array, order: Array, rows_ptr: Array, rows: Array, heads: Array, common: Array
) -> None:
    """Upper triangle of the anchors in common, by new numbers. heads: where each anchor's row starts; are moved."""
    for f in range(len(order)):
        old = order[f]
        line = common[f]
        for edge in range(lists_ptr[old], lists_ptr[old + 1]):
            v = np.uint64(lists[edge])
            for at in range(np.uint64(heads[v]), np.uint64(rows_ptr[v + _ONE])):
                line[np.uint64(rows[at])] += 1
            heads[v] += 1


@kernel(t.uint64(t.uint64, t.uint64))
def row_start(i: int, d: int) -> int:
    """Where column 0 of row i would stand in the packed upper triangle of a (d, d) table."""
    return i * d - ((i * (i + _ONE)) >> _ONE)


@kernel(
    t.void(
        array(t.int32), t.int64[::1], t.int8[::1], t.boolean, array(t.int32, 2), t.float64[::1], t.float32[::1],
        t.float64, t.float64, t.int32[::1], t.float32[::1], t.float64[::1], t.float32[:, ::1],
    )
)  # fmt: skip
def weigh(
    features: Array, cuts: Array, inside: Array, capped: bool, common: Array, node: Array, inverse: Array,
    alpha: float, diagonal: float, line: Array, highest: Array, table: Array, most: Array,
) -> None:  # fmt: skip
    """table: the target's packed upper triangle of weights, off the diagonal twice; most: M of the bound, a <= b.

    By features of the target: cuts: where each block begins; node: weights; inverse: 1 / g; inside: whether the target
    stands in the feature's list, read when capped.
    """
    d = len(features)
    most[:] = 0.0
    for a in range(BLOCKS):
        highest[:d] = 0.0
        for i in range(cuts[a], cuts[a + 1]):
            row, offset, after = common[features[i]], row_start(np.uint64(i), np.uint64(d)), np.uint64(i + 1)
            for j in range(np.uint64(i), np.uint64(d)):
                line[j] = row[np.uint64(features[j])]
            if capped:
                for j in range(np.uint64(i), np.uint64(d)):
                    line[j] += 1 - inside[i] * inside[j]
            mine, factor = node[i], inverse[i]
            weight = diagonal * mine * mine / (alpha + line[i])
            table[offset + np.uint64(i)] = weight
            if line[i] > 1:
                highest[i] = max(highest[i], np.float32(weight) * factor * factor)
            for j in range(after, np.uint64(d)):
                weight = mine * node[j] / (alpha + line[j])
                table[offset + j] = 2.0 * weight
                ratio = np.float32(weight) * factor * inverse[j]
                ratio = ratio if line[j] > 1 else np.float32(0.0)
                highest[j] = ratio if ratio > highest[j] else highest[j]
        for b in range(a, BLOCKS):
            for j in range(cuts[b], cuts[b + 1]):
                most[a, b] = max(most[a, b], highest[j])


@kernel(
    t.void(
        t.int64, array(t.int32), t.int64[::1], array(t.int64), array(t.int64), array(t.int32), t.float32[::1],
        t.int8[::1], t.float32[:, ::1],
    )
)  # fmt: skip
def walk(
    target: int, features: Array, cuts: Array, order: Array, lists_ptr: Array, lists: Array, g: Array, inside: Array,
    reach: Array,
) -> None:  # fmt: skip
    """reach[b, v]: the sum of g over the features of block b that target and v share; and whose list the target is in."""
    for b in range(BLOCKS):
        if cuts[b] < cuts[b + 1]:
            line = reach[b]
            line[:] = 0.0
            for i in range(cuts[b], cuts[b + 1]):
                old, mine = order[features[i]], g[i]
                before = line[target]
                for edge in range(np.uint64(lists_ptr[old]), np.uint64(lists_ptr[old + 1])):
                    line[np.uint64(lists[edge])] += mine
                inside[i] = line[target] > before


@kernel(t.void(t.int64[::1], t.float32[:, ::1], t.float32[:, ::1], t.float32[::1], t.float32[::1]), fast=True)
def bound(cuts: Array, most: Array, reach: Array, mixed: Array, bounds: Array) -> None:
    """bounds[v] = sum over blocks a <= b of (twice off the diagonal) M_ab reach_a reach_b."""
    n = len(bounds)
    bounds[:] = 0.0
    for low in range(0, n, _CHUNK):
        begin, count = np.uint64(low), np.uint64(min(_CHUNK, n - low))
        for b in range(BLOCKS):
            if cuts[b] == cuts[b + 1]:
                continue
            factor, line = most[b, b], reach[b]
            for v in range(count):
                mixed[v] = factor * line[begin + v]
            for a in range(b):
                if cuts[a] < cuts[a + 1] and most[a, b] > 0:
                    factor, other = np.float32(2.0) * most[a, b], reach[a]
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


@kernel(t.float64(t.int64, t.int64, t.int32[::1], t.float64[::1], t.float64[::1]))
def total(d: int, o: int, overlap: Array, table: Array, line: Array) -> float:
    """The double sum over the o features of an overlap, whose numbers among the target's d ascend."""
    line[:d] = 0.0
    width, a = np.uint64(d), 0
    # Four rows at a time: a quarter of the passes over the line, the order of its additions being the same.
    while a + 4 <= o:
        i, k, m, n = (
            np.uint64(overlap[a]),
            np.uint64(overlap[a + 1]),
            np.uint64(overlap[a + 2]),
            np.uint64(overlap[a + 3]),
        )
        first, second, third = row_start(i, width), row_start(k, width), row_start(m, width)
        fourth = row_start(n, width)
        for j in range(i, n):
            line[j] += table[first + j]
        for j in range(k, n):
            line[j] += table[second + j]
        for j in range(m, n):
            line[j] += table[third + j]
        for j in range(n, width):
            line[j] = line[j] + table[first + j] + table[second + j] + table[third + j] + table[fourth + j]
        a += 4
    while a < o:
        i = np.uint64(overlap[a])
        first = row_start(i, width)
        for j in range(i, width):
            line[j] += table[first + j]
        a += 1
    out = 0.0
    for a in range(o):
        out += line[np.uint64(overlap[a])]
    return out


@kernel(
    t.void(
        array(t.int64), array(t.int64), array(t.int64), array(t.int32), array(t.int64), array(t.int32), array(t.int64),
        array(t.int32), array(t.int64), array(t.int64), array(t.int32, 2), array(t.float64), array(t.float32), t.boolean, t.int64,
        t.float64, t.float64, array(t.float64), t.float64[::1], t.float64[:, ::1], t.int32[:, ::1], t.int32[:, ::1],
        t.int64[::1],
    )
)  # fmt: skip
def search(
    targets: Array, slots: Array, rows_ptr: Array, rows: Array, seen_ptr: Array, seen: Array, lists_ptr: Array, lists: Array,
    order: Array, block: Array, common: Array, nodes: Array, gs: Array, capped: bool, width: int,
    alpha: float, diagonal: float, scale: Array, own_scores: Array, scores: Array, partners: Array, shared: Array,
    sizes: Array,
) -> None:  # fmt: skip
    n, top_k = len(rows_ptr) - 1, scores.shape[1]
    node, inverse, g = np.empty(width), np.empty(width, dtype=np.float32), np.empty(width, dtype=np.float32)
    line, highest = np.empty(width, dtype=np.int32), np.empty(width, dtype=np.float32)
    table, most = np.empty(width * (width + 1) // 2), np.empty((BLOCKS, BLOCKS), dtype=np.float32)
    cuts, inside = np.empty(BLOCKS + 1, dtype=np.int64), np.zeros(width, dtype=np.int8)
    reach, mixed = np.empty((BLOCKS, n), dtype=np.float32), np.empty(_CHUNK, dtype=np.float32)
    bounds, heap = np.empty(n, dtype=np.float32), np.empty(n, dtype=np.int32)
    place, overlap, sums = (
        np.full(common.shape[0], -1, dtype=np.int32),
        np.empty(width, dtype=np.int32),
        np.empty(width),
    )
    scale_32 = scale.astype(np.float32)
    for m in range(len(targets)):
        u, slot = targets[m], slots[m]
        features = rows[rows_ptr[u] : rows_ptr[u + 1]]
        d = len(features)
        cuts[:] = 0
        for i in range(d):
            f = features[i]
            node[i], g[i], inverse[i], place[f] = nodes[f], gs[f], np.float32(1.0) / gs[f], i
            cuts[block[f] + 1] = i + 1
        for b in range(BLOCKS):
            cuts[b + 1] = max(cuts[b + 1], cuts[b])
        if top_k > 0 or capped:
            walk(u, features, cuts, order, lists_ptr, lists, g, inside, reach)
        weigh(features, cuts, inside, capped, common, node, inverse, alpha, diagonal, line, highest, table, most)
        if top_k == 0:
            out = 0.0
            for i in range(d * (d + 1) // 2):
                out += table[i]
            own_scores[slot] = out
        else:
            bound(cuts, most, reach, mixed, bounds)
            slack = np.float32(scale[u] * (1.0 + _ROUNDING * (4 * d + 8 * BLOCKS + 16)))
            size = 0
            for v in range(n):
                bounds[v] *= slack * scale_32[v]
                heap[size] = v
                size += bounds[v] > 0 and v != u
            for at in range(size // 2 - 1, -1, -1):
                sink(bounds, heap, at, size)
            kept, need = 0, 0.0
            while size > 0 and bounds[heap[0]] >= need:
                v = heap[0]
                size -= 1
                heap[0] = heap[size]
                sink(bounds, heap, 0, size)
                o = np.uint64(0)
                for at in range(np.uint64(seen_ptr[v]), np.uint64(seen_ptr[v + 1])):
                    i = place[np.uint64(seen[at])]
                    overlap[o] = i
                    o += np.uint64(i >= 0)
                score = rounded(total(d, o, overlap, table, sums) * scale[u] * scale[v])
                if score >= need:
                    kept = keep(kept, score, v, o, scores[slot], partners[slot], shared[slot])
                    need = scores[slot, top_k - 1] if kept == top_k else 0.0
            sizes[slot] = kept
        for i in range(d):
            place[features[i]] = -1
