"""Graphs whose lists are samples: pair counts scaled up to whole lists, and the best candidates scored on whole rows.

With r_i the share of feature i's anchors that stand in its list, and c others in both lists of a pair i, j of the
target's features, the pair has 1 + (c + 1/2) / (r_i r_j) anchors in common, at most all of either; the half keeps a
pair of which none was sampled from counting as one without any. Whole lists give their counts, a feature alone the
number of its anchors.

Two steps for each target. Candidates are found and ranked by what the lists hold of them; of the best ones (leaders)
the whole rows are walked, so that all that they share with the target counts.
"""

import numpy as np
from numba import types as t  # type: ignore[import-untyped, unused-ignore]

from trawl.swing.kernels.compiling import Array, array, kernel
from trawl.swing.kernels.keeping import keep, rounded
from trawl.swing.kernels.lists import TILE, block_end, count_pairs, gather

_LONG = 16  # times the target's features: a longer row is searched for each of them


@kernel(
    t.void(
        t.int64, t.int64, array(t.int32), array(t.float64), array(t.float64), t.int32[::1], t.float64[::1], t.float64,
        t.float64, t.boolean, t.float64[::1],
    )
)  # fmt: skip
def weigh(
    begin: int, end: int, features: Array, rates: Array, whole: Array, counts: Array, node: Array, alpha: float,
    diagonal: float, inverted: bool, table: Array,
) -> None:  # fmt: skip
    """Rows begin..end of the target's weights from its pair counts, node weights in them. whole: anchors by feature."""
    offset = begin * (begin + 1) // 2
    for i in range(begin, end):
        mine, base = rates[features[i]], i * (i + 1) // 2 - offset
        for j in range(i + 1):
            rate = mine * rates[features[j]]
            common = float(counts[base + j])
            if i == j:
                common = whole[features[i]]
            elif rate < 1.0:
                common = min(1.0 + (common - 0.5) / rate, whole[features[i]], whole[features[j]])
            weight = alpha + common if inverted else 1.0 / (alpha + common)
            table[base + j] = node[i] * node[j] * (diagonal * weight if i == j else 2.0 * weight)


@kernel(
    t.void(
        t.int64, t.int64, t.int64, t.int64[::1], t.int32[::1], t.float32[::1], t.boolean, t.int64[::1],
        t.float64[::1], t.float64[::1],
    )
)  # fmt: skip
def add(
    begin: int, end: int, count: int, starts: Array, held: Array, values: Array, weighted: bool, done: Array,
    table: Array, totals: Array,
) -> None:  # fmt: skip
    """Adds what rows begin..end of the table give to each of `count` double sums, in the order of the features."""
    offset = begin * (begin + 1) // 2
    for c in range(count):
        first, stop, at = np.uint64(starts[c]), np.uint64(starts[c + 1]), np.uint64(done[c])
        while at < stop and held[at] < end:
            i = np.int64(held[at])
            base, inner = i * (i + 1) // 2 - offset, 0.0
            if weighted:
                for b in range(first, at + np.uint64(1)):
                    inner += table[np.uint64(base + held[b])] * values[b]
                inner *= values[at]
            else:
                for b in range(first, at + np.uint64(1)):
                    inner += table[np.uint64(base + held[b])]
            totals[c] += inner
            at += np.uint64(1)
        done[c] = at


@kernel(
    t.int64(array(t.int32), t.int32[::1], array(t.int32), array(t.float32), t.int64, t.int32[::1], t.float32[::1])
)
def overlap(
    features: Array, place: Array, row: Array, values: Array, at: int, held: Array, held_values: Array
) -> int:
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


@kernel(
    t.int64(
        t.int64, t.int64, t.float64[::1], t.int32[::1], t.int64[::1], t.boolean, array(t.float64), t.float64[::1],
        t.int32[::1], t.int32[::1],
    )
)  # fmt: skip
def rank(
    target: int, count: int, totals: Array, candidates: Array, starts: Array, inverted: bool, scale: Array,
    scores: Array, partners: Array, shared: Array,
) -> int:  # fmt: skip
    """The best of `count` candidates but the target, as many as there is room for; how many."""
    size, most, need = 0, len(scores), 0.0
    for c in range(count):
        score = totals[c]
        if inverted and score > 0:
            score = 1.0 / score
        score = rounded(score * scale[target] * scale[candidates[c]])
        if score >= need and candidates[c] != target:
            size = keep(size, score, candidates[c], starts[c + 1] - starts[c], scores, partners, shared)
            need = scores[most - 1] if size == most else 0.0
    return size


@kernel(
    t.void(
        array(t.int64), array(t.int64), array(t.int32), array(t.float32), array(t.int64), array(t.int32),
        array(t.float32), array(t.int64), array(t.int32), array(t.float32), t.int64, t.int64, t.int64, t.int64,
        array(t.float64), array(t.float64), array(t.float64), t.float64, t.float64, t.boolean, array(t.float64),
        t.int64, array(t.int32, 2), t.float64[::1], t.float64[:, ::1], t.int32[:, ::1], t.int32[:, ::1], t.int64[::1],
    )
)  # fmt: skip
def search(
    targets: Array, rows_ptr: Array, rows: Array, row_values: Array, lists_ptr: Array, lists: Array,
    list_values: Array, full_ptr: Array, full_rows: Array, full_values: Array, width: int, room: int, most: int,
    cells: int, rates: Array, whole: Array, nodes: Array, alpha: float, diagonal: float, inverted: bool, scale: Array,
    leaders: int, given: Array, own_scores: Array, scores: Array, partners: Array, shared: Array, sizes: Array,
) -> None:  # fmt: skip
    """The best partners of each target, or (scores without columns) its self score.

    width, room, most: the most features, walked entries and candidates that a target here has; cells: of a table at
    once. leaders: how many candidates are scored on whole rows, 0: none, the answer is by the lists alone. given (m, g):
    leaders that are known already, -1 behind the last; without columns they are looked for.
    """
    weighted, top_k = len(list_values) > 0, scores.shape[1]
    cursor, heads = np.empty((2, width), dtype=np.int64), np.zeros(TILE, dtype=np.int32)
    touched, candidates = np.empty(TILE + 1, dtype=np.int32), np.empty(most, dtype=np.int32)
    starts, held = np.empty(most + 1, dtype=np.int64), np.empty(room, dtype=np.int32)
    held_values = np.empty(room if weighted else 0, dtype=np.float32)
    done, totals, node = np.empty(most, dtype=np.int64), np.empty(most), np.empty(width)
    counts, table = np.empty(cells, dtype=np.int32), np.empty(cells)
    few = max(1, leaders, given.shape[1])
    lead, lead_scores = np.empty(few, dtype=np.int32), np.empty(few)
    lead_starts, lead_done = np.empty(few + 1, dtype=np.int64), np.empty(few, dtype=np.int64)
    unused, lead_held = np.empty(few, dtype=np.int32), np.empty(few * width, dtype=np.int32)
    place = np.zeros(len(nodes), dtype=np.int32)
    lead_values, lead_totals = np.empty(few * width if weighted else 0, dtype=np.float32), np.empty(few)
    for n in range(len(targets)):
        u, begin = targets[n], rows_ptr[targets[n]]
        d = rows_ptr[u + 1] - begin
        features = rows[begin : begin + d]
        found = gather(
            features, lists_ptr, lists, list_values, cursor, heads, touched, candidates, starts, held, held_values
        )
        for i in range(d):
            node[i] = nodes[features[i]] * (row_values[begin + i] if weighted else 1.0)
            place[features[i]] = i + 1
        # Steps: 0 candidates by their lists, 1 leaders by their rows. A self score is a leader of its own row.
        first = 1 if top_k == 0 or given.shape[1] > 0 else 0
        last = 1 if top_k == 0 or leaders > 0 or given.shape[1] > 0 else 0
        chosen, made, own = 0, -1, top_k == 0
        for step in range(first, last + 1):
            if step == 1:
                if own:
                    chosen = 1
                    for i in range(d):
                        lead_held[i] = i
                        if weighted:
                            lead_values[i] = row_values[begin + i]
                    lead_starts[0], lead_starts[1] = 0, d
                else:
                    if given.shape[1] > 0:
                        chosen = 0
                        while chosen < given.shape[1] and given[n, chosen] >= 0:
                            lead[chosen] = given[n, chosen]
                            chosen += 1
                    lead_starts[0] = 0
                    for c in range(chosen):
                        a, b = full_ptr[lead[c]], full_ptr[lead[c] + 1]
                        values = full_values[a:b] if weighted else full_values
                        lead_starts[c + 1] = overlap(
                            features, place, full_rows[a:b], values, lead_starts[c], lead_held, lead_values
                        )
                lead_totals[:chosen], lead_done[:chosen] = 0.0, lead_starts[:chosen]
            else:
                totals[:found] = 0.0
            done[:found] = starts[:found]
            start = 0
            while start < d:
                stop = block_end(start, d, cells)
                if made != start:  # a table of one block is made once for both steps
                    count_pairs(u, start, stop, found, d, features, lists_ptr, candidates, starts, held, done, counts)
                    weigh(start, stop, features, rates, whole, counts, node, alpha, diagonal, inverted, table)
                    made = start
                if step == 0:
                    add(start, stop, found, starts, held, held_values, weighted, done, table, totals)
                else:
                    add(
                        start, stop, chosen, lead_starts, lead_held, lead_values, weighted, lead_done, table,
                        lead_totals,
                    )  # fmt: skip
                    for c in range(found if stop < d else 0):
                        while done[c] < starts[c + 1] and held[done[c]] < stop:
                            done[c] += 1
                start = stop
            if step == 0 and last == 0:
                sizes[n] = rank(
                    u, found, totals, candidates, starts, inverted, scale, scores[n], partners[n], shared[n]
                )
            elif step == 0:
                chosen = rank(
                    u, found, totals, candidates, starts, inverted, scale, lead_scores[:leaders], lead[:leaders],
                    unused[:leaders],
                )  # fmt: skip
            elif own:
                own_scores[n] = 1.0 / lead_totals[0] if inverted and lead_totals[0] > 0 else lead_totals[0]
            else:
                sizes[n] = rank(
                    u, chosen, lead_totals, lead, lead_starts, inverted, scale, scores[n], partners[n], shared[n]
                )
        for i in range(d):
            place[features[i]] = 0
