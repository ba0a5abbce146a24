"""Sparse graphs, any target: for each candidate the list of the target's features it has, sorted by counting.

As in `masks` the anchors are gone through in tiles. The target's table of pair counts is a packed lower triangle; where
it would be larger than allowed, it is made and used in blocks of rows, which changes no sum.

Memory of one call: `room` entries of 4 bytes (8 with edge weights), 28 bytes a candidate, and the table.
"""

import numpy as np
from numba import types as t  # type: ignore[import-untyped, unused-ignore]

from trawl.swing.kernels.compiling import Array, array, kernel
from trawl.swing.kernels.keeping import keep, rounded

TILE = 1 << 14
_ONE = np.uint64(1)


@kernel(
    t.int64(
        array(t.int32), array(t.int64), array(t.int32), array(t.float32), t.int64[:, ::1], t.int32[::1], t.int32[::1],
        t.int32[::1], t.int64[::1], t.int32[::1], t.float32[::1],
    )
)  # fmt: skip
def gather(
    features: Array, lists_ptr: Array, lists: Array, values: Array, cursor: Array, heads: Array, touched: Array,
    candidates: Array, starts: Array, held: Array, held_values: Array,
) -> int:  # fmt: skip
    """held[starts[c] : starts[c + 1]]: the numbers of the features of candidate c, ascending. How many candidates.

    heads: a tile of zeros, and again when done. values: of the lists' edges, or empty: then held_values is not written.
    """
    d, weighted, last = len(features), len(values) > 0, np.int64(-1)
    for i in range(d):
        begin, end = lists_ptr[features[i]], lists_ptr[features[i] + 1]
        cursor[0, i] = begin
        if end > begin:
            last = max(last, np.int64(lists[end - 1]))
    found, filled, low = np.int64(0), np.int64(0), np.int64(0)
    while low <= last:
        high, count = low + TILE, np.uint64(0)
        for i in range(d):
            edge, end = np.uint64(cursor[0, i]), np.uint64(lists_ptr[features[i] + 1])
            cursor[1, i] = edge
            while edge < end:
                anchor = lists[edge]
                if anchor >= high:
                    break
                v = np.uint64(anchor - low)
                touched[count] = v
                count += np.uint64(heads[v] == 0)
                heads[v] += 1
                edge += _ONE
            cursor[0, i] = edge
        first = filled
        for c in range(np.int64(count)):
            v = np.uint64(touched[np.uint64(c)])
            candidates[found], starts[found] = np.int64(v) + low, filled
            found += 1
            held_here = np.int64(heads[v])
            heads[v] = filled - first  # from here on the place of its next feature, counted from the tile's first
            filled += held_here
        for i in range(d):
            for edge in range(np.uint64(cursor[1, i]), np.uint64(cursor[0, i])):
                v = np.uint64(np.int64(lists[edge]) - low)
                place = np.uint64(first + heads[v])
                held[place] = i
                if weighted:
                    held_values[place] = values[edge]
                heads[v] += 1
        for c in range(np.int64(count)):
            heads[np.uint64(touched[np.uint64(c)])] = 0
        low = high
    starts[found] = filled
    return found


@kernel(t.int64(t.int64, t.int64, t.int64))
def block_end(start: int, d: int, cells: int) -> int:
    """The last row + 1 of the block that starts at row `start`: its rows of the triangle fit `cells`; one row always."""
    stop, used = start + 1, 2 * start + 3
    while stop < d and used <= cells:
        stop += 1
        used += stop + 1
    return stop


@kernel(
    t.void(
        t.int64, t.int64, t.int64, t.int64, t.int64, array(t.int32), array(t.int64), t.int32[::1], t.int64[::1],
        t.int32[::1], t.int64[::1], t.int32[::1],
    )
)  # fmt: skip
def count_pairs(
    target: int, begin: int, end: int, found: int, d: int, features: Array, lists_ptr: Array, candidates: Array,
    starts: Array, held: Array, done: Array, counts: Array,
) -> None:  # fmt: skip
    """Rows begin..end of the target's pair counts; the target itself is counted once everywhere."""
    offset = begin * (begin + 1) // 2
    counts[: end * (end + 1) // 2 - offset] = 1
    for i in range(begin, end):
        counts[i * (i + 1) // 2 + i - offset] += lists_ptr[features[i] + 1] - lists_ptr[features[i]]
    for c in range(found):
        first, stop = np.uint64(starts[c]), np.uint64(starts[c + 1])
        at = np.uint64(done[c])
        if candidates[c] == target:
            while at < stop and held[at] < end:
                i = np.int64(held[at])
                counts[i * (i + 1) // 2 + i - offset] -= 1
                at += _ONE
            continue
        while at < stop and held[at] < end:
            i = np.int64(held[at])
            base = i * (i + 1) // 2 - offset
            for b in range(first, at):
                counts[np.uint64(base + held[b])] += 1
            at += _ONE


@kernel(
    t.void(
        t.int64, t.int64, t.int64, t.int64[::1], t.int32[::1], t.float32[::1], t.boolean, t.int64[::1], t.int32[::1],
        array(t.float64), t.float64[::1], t.float64, t.float64[::1],
    )
)  # fmt: skip
def add_scores(
    begin: int, end: int, found: int, starts: Array, held: Array, held_values: Array, weighted: bool, done: Array,
    counts: Array, weight: Array, node: Array, diagonal: float, totals: Array,
) -> None:  # fmt: skip
    """Adds what rows begin..end of the table give to each candidate's double sum, in the order of its features."""
    offset = begin * (begin + 1) // 2
    for c in range(found):
        first, stop, at = np.uint64(starts[c]), np.uint64(starts[c + 1]), np.uint64(done[c])
        out = totals[c]
        while at < stop and held[at] < end:
            i = np.int64(held[at])
            base = i * (i + 1) // 2 - offset
            # Two sums that take turns, so that an addition does not wait for the one before.
            inner, other = 0.0, 0.0
            if weighted:
                for b in range(first, at):
                    j = np.uint64(held[b])
                    term = node[j] * held_values[b] * weight[np.uint64(counts[np.uint64(base + held[b])])]
                    inner, other = other, inner + term
            else:
                for b in range(first, at):
                    j = np.uint64(held[b])
                    inner, other = other, inner + node[j] * weight[np.uint64(counts[np.uint64(base + held[b])])]
            mine = node[i] * held_values[at] if weighted else node[i]
            out += mine * (2.0 * (inner + other) + diagonal * mine * weight[counts[base + i]])
            at += _ONE
        totals[c], done[c] = out, at


@kernel(
    t.void(
        array(t.int64), array(t.int64), array(t.int64), array(t.int32), array(t.float32), array(t.int64),
        array(t.int32), array(t.float32), t.int64, t.int64, t.int64, t.int64, array(t.float64), array(t.float64),
        t.float64, t.boolean, array(t.float64), t.float64[::1], t.float64[:, ::1], t.int32[:, ::1], t.int32[:, ::1],
        t.int64[::1],
    )
)  # fmt: skip
def search(
    targets: Array, slots: Array, rows_ptr: Array, rows: Array, row_values: Array, lists_ptr: Array, lists: Array,
    list_values: Array, width: int, room: int, most: int, cells: int, weight: Array, nodes: Array, diagonal: float,
    inverted: bool, scale: Array, own_scores: Array, scores: Array, partners: Array, shared: Array, sizes: Array,
) -> None:  # fmt: skip
    """As `masks.search`. width, room, most: the most features, walked entries and candidates that a target here has.

    cells: the table's counts at once.
    """
    weighted, top_k = len(list_values) > 0, scores.shape[1]
    cursor, heads = np.empty((2, width), dtype=np.int64), np.zeros(TILE, dtype=np.int32)
    touched, candidates = np.empty(TILE + 1, dtype=np.int32), np.empty(most, dtype=np.int32)
    starts, held = np.empty(most + 1, dtype=np.int64), np.empty(room, dtype=np.int32)
    held_values = np.empty(room if weighted else 0, dtype=np.float32)
    done, totals, node = np.empty(most, dtype=np.int64), np.empty(most), np.empty(width)
    all_starts, all_held = np.array([0, width], dtype=np.int64), np.arange(width).astype(np.int32)
    own_values = np.empty(width if weighted else 0, dtype=np.float32)
    own_done, own_total = np.empty(1, dtype=np.int64), np.empty(1)
    counts = np.empty(cells, dtype=np.int32)
    for n in range(len(targets)):
        u, slot = targets[n], slots[n]
        begin = rows_ptr[u]
        d = rows_ptr[u + 1] - begin
        features = rows[begin : begin + d]
        found = gather(
            features, lists_ptr, lists, list_values, cursor, heads, touched, candidates, starts, held, held_values
        )
        for i in range(d):
            node[i] = nodes[features[i]]
            if weighted:
                own_values[i] = row_values[begin + i]
                node[i] *= own_values[i]
        totals[:found], own_total[0], own_done[0], all_starts[1] = 0.0, 0.0, 0, d
        done[:found] = starts[:found]
        start = 0
        while start < d:
            stop = block_end(start, d, cells)
            count_pairs(u, start, stop, found, d, features, lists_ptr, candidates, starts, held, done, counts)
            if top_k == 0:
                add_scores(
                    start, stop, 1, all_starts, all_held, own_values, weighted, own_done, counts, weight, node,
                    diagonal, own_total,
                )  # fmt: skip
                for c in range(found):
                    while done[c] < starts[c + 1] and held[done[c]] < stop:
                        done[c] += 1
            else:
                add_scores(
                    start, stop, found, starts, held, held_values, weighted, done, counts, weight, node, diagonal,
                    totals,
                )  # fmt: skip
            start = stop
        if top_k == 0:
            own_scores[slot] = 1.0 / own_total[0] if inverted and own_total[0] > 0 else own_total[0]
            continue
        size, need = 0, 0.0
        for c in range(found):
            score = totals[c]
            if inverted and score > 0:
                score = 1.0 / score
            score = rounded(score * scale[u] * scale[candidates[c]])
            if score >= need and candidates[c] != u:
                o = starts[c + 1] - starts[c]
                size = keep(size, score, candidates[c], o, scores[slot], partners[slot], shared[slot])
                need = scores[slot, top_k - 1] if size == top_k else 0.0
        sizes[slot] = size
