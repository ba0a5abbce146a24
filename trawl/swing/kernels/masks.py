"""Sparse graphs, targets of at most 64 features: a word of bits for each candidate, one bit for each feature.

The anchors are gone through in tiles of `TILE`, so that the words at work stay in the second-level cache: every list is
sorted, and is read up to the end of the tile before the next list is. A tile's candidates with one bit (most of them,
in a sparse graph) add nothing to the target's pair counts and are kept apart from those with several.
"""

import numpy as np
from numba import types as t  # type: ignore[import-untyped, unused-ignore]

from trawl.swing.kernels.compiling import Array, array, kernel, lowest_bit
from trawl.swing.kernels.keeping import keep, rounded

WORD = 64
TILE = 1 << 14
_ONE = np.uint64(1)
_SLACK = 1.0 + 1e-9  # far above what rounding to 40 bits can add


@kernel(t.int64(t.uint64, t.uint64[::1]))
def positions(word: int, out: Array) -> int:
    """The numbers of a word's bits, ascending; how many."""
    count = np.uint64(0)
    while word != 0:
        out[count] = lowest_bit(word)
        word = word & (word - _ONE)
        count += _ONE
    return np.int64(count)


@kernel(
    t.UniTuple(t.int64, 2)(
        t.int64, array(t.int32), array(t.int64), array(t.int32), t.int64[::1], t.uint64[::1], t.int32[::1],
        t.int32[::1], t.uint64[::1], t.int64[::1], t.uint64[::1], t.int32[::1],
    )
)  # fmt: skip
def gather(
    target: int, features: Array, lists_ptr: Array, lists: Array, cursor: Array, words: Array, touched: Array,
    several: Array, masks: Array, single: Array, at: Array, counts: Array,
) -> tuple[int, int]:  # fmt: skip
    """Candidates with several features (several, masks) and with one (single: 64 v + i); the target's pair counts.

    counts: packed lower triangle; the target itself is counted once everywhere. Returns how many candidates of either.
    Indexes are unsigned where the loops are hot: numba tests signed ones for being negative.
    """
    d = len(features)
    counts[: d * (d + 1) // 2] = 1
    last = np.int64(-1)
    for i in range(d):
        cursor[i] = lists_ptr[features[i]]
        end = lists_ptr[features[i] + 1]
        counts[i * (i + 1) // 2 + i] += end - cursor[i]
        if end > cursor[i]:
            last = max(last, np.int64(lists[end - 1]))
    found, alone, low = np.uint64(0), np.uint64(0), np.int64(0)
    while low <= last:
        high, count = low + TILE, np.uint64(0)
        for i in range(d):
            edge, end, bit = np.uint64(cursor[i]), np.uint64(lists_ptr[features[i] + 1]), _ONE << np.uint64(i)
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
            cursor[i] = edge
        for c in range(np.int64(count)):
            v = np.uint64(touched[np.uint64(c)])
            word = words[v]
            words[v] = 0
            anchor = np.int64(v) + low
            if anchor == target:
                for a in range(positions(word, at)):
                    counts[at[a] * (at[a] + _ONE) // np.uint64(2) + at[a]] -= 1
            elif word & (word - _ONE) == 0:
                single[alone] = anchor * WORD + lowest_bit(word)
                alone += _ONE
            else:
                several[found], masks[found] = anchor, word
                found += _ONE
                o = positions(word, at)
                for a in range(1, o):
                    i = at[np.uint64(a)]
                    base = (i * (i + _ONE)) >> _ONE
                    for b in range(a):
                        counts[base + at[np.uint64(b)]] += 1
        low = high
    return np.int64(found), np.int64(alone)


@kernel(t.float64(t.int64, t.uint64[::1], t.int32[::1], array(t.float64), t.float64[::1], t.float64))
def total(o: int, at: Array, counts: Array, weight: Array, node: Array, diagonal: float) -> float:
    """The double sum over a candidate's o features, in their order."""
    out = 0.0
    for a in range(o):
        i = at[np.uint64(a)]
        base, inner, other = (i * (i + _ONE)) >> _ONE, 0.0, 0.0
        for b in range(a):
            j = at[np.uint64(b)]
            inner, other = other, inner + node[j] * weight[np.uint64(counts[base + j])]  # as in `lists`
        out += node[i] * (2.0 * (inner + other) + diagonal * node[i] * weight[np.uint64(counts[base + i])])
    return out


@kernel(
    t.void(
        array(t.int64), array(t.int64), array(t.int64), array(t.int32), array(t.int64), array(t.int32), t.int64,
        array(t.float64), array(t.float64), t.float64, t.boolean, array(t.float64), t.float64[::1],
        t.float64[:, ::1], t.int32[:, ::1], t.int32[:, ::1], t.int64[::1],
    )
)  # fmt: skip
def search(
    targets: Array, slots: Array, rows_ptr: Array, rows: Array, lists_ptr: Array, lists: Array, room: int,
    weight: Array, nodes: Array, diagonal: float, inverted: bool, scale: Array, own_scores: Array,
    scores: Array, partners: Array, shared: Array, sizes: Array,
) -> None:  # fmt: skip
    """The best partners of each target, or (scores without columns) its self score, written to its slot.

    room: the most candidates that a target here can have. weight[c]: of a pair of features with c in common.
    scale: of each anchor; a score is multiplied with its two anchors'.
    """
    several, masks, single = np.empty(room, np.int32), np.empty(room, np.uint64), np.empty(room, np.int64)
    words, touched = np.zeros(TILE, dtype=np.uint64), np.empty(TILE + 1, dtype=np.int32)
    cursor, at = np.empty(WORD, dtype=np.int64), np.empty(WORD, dtype=np.uint64)
    counts, node = np.empty(WORD * (WORD + 1) // 2, dtype=np.int32), np.empty(WORD)
    diagonals, top_k = np.empty(WORD), scores.shape[1]
    ceiling = scale.max() if top_k and len(scale) else 0.0
    for n in range(len(targets)):
        u, slot = targets[n], slots[n]
        features = rows[rows_ptr[u] : rows_ptr[u + 1]]
        d = len(features)
        found, alone = gather(u, features, lists_ptr, lists, cursor, words, touched, several, masks, single, at, counts)
        for i in range(d):
            node[i], at[i] = nodes[features[i]], i
        if top_k == 0:
            own = total(d, at, counts, weight, node, diagonal)
            own_scores[slot] = 1.0 / own if inverted and own > 0 else own
            continue
        most = 0.0
        for i in range(d):
            score = node[i] * (diagonal * node[i] * weight[counts[i * (i + 1) // 2 + i]])
            diagonals[i] = (1.0 / score if inverted and score > 0 else score) * scale[u]
            most = max(most, diagonals[i])
        size, need = 0, 0.0
        for c in range(found):
            o = positions(masks[c], at)
            score = total(o, at, counts, weight, node, diagonal)
            if inverted and score > 0:
                score = 1.0 / score
            score = rounded(score * scale[u] * scale[several[c]])
            if score >= need:
                size = keep(size, score, several[c], o, scores[slot], partners[slot], shared[slot])
                need = scores[slot, top_k - 1] if size == top_k else 0.0
        if rounded(most * ceiling) >= need:
            for c in range(alone):
                v = single[c] // WORD
                score = diagonals[single[c] % WORD] * scale[v]
                if score * _SLACK >= need:
                    size = keep(size, rounded(score), v, 1, scores[slot], partners[slot], shared[slot])
                    need = scores[slot, top_k - 1] if size == top_k else 0.0
        sizes[slot] = size
