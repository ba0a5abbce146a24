"""Mining without the whole graph in one place: the lists that a block of targets touches, as a graph of their own.

A score needs the target's row and the lists of its features alone. So a block of targets fetches these lists from the
partitions that hold them; anchors and features are numbered anew in their old order, and so sums keep the order of
their terms and ties go to the same anchor. A block ends before its lists pass a bound of memory; a target whose lists
pass it alone is a block of its own. What is fetched is at most all lists and rows once for each block.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from trawl.pool import Handle
from trawl.swing.adjacency import Weights, places, taken
from trawl.swing.graph import Bipartite, Indexes, Ints
from trawl.swing.sharing import Parted

_ENTRY_BYTES = 40  # of memory for each fetched entry of a list: itself, its key, its place in lists and rows


@dataclass(frozen=True, kw_only=True)
class Block:
    """A graph over some anchors. anchors, features: their numbers, ascending; targets: their places among anchors."""

    graph: Bipartite
    anchors: Ints
    features: Ints
    targets: Ints
    fetched: int  # bytes


def blocks(parted: Parted, low: int, high: int) -> Iterator[Block]:
    """The blocks of the targets low to high - 1, in their order."""
    yield from blocks_of(parted, np.arange(low, high, dtype=np.int64))


def blocks_of(parted: Parted, numbers: Ints) -> Iterator[Block]:
    """The blocks of some targets, given by ascending numbers."""
    lengths: Ints = parted.pool.get(parted.lengths)
    rows = fetch(parted, parted.rows, numbers)
    ptr = np.concatenate([[0], np.cumsum(rows.sizes)])
    for first, last in _cuts(ptr, rows.entries, lengths, parted.block_bytes // _ENTRY_BYTES):
        some = slice(ptr[first], ptr[last])
        values = None if rows.values is None else rows.values[some]
        yield _block(parted, numbers[first:last], Lists(rows.sizes[first:last], rows.entries[some], values))


def _cuts(ptr: Ints, rows: Indexes, lengths: Ints, room: int) -> Iterator[tuple[int, int]]:
    """Runs of targets whose lists, each counted once, have at most `room` entries, or of a single target."""
    seen = np.full(len(lengths), -1, dtype=np.int64)  # the first target of the run that touched a feature last
    first = entries = 0
    for t in range(len(ptr) - 1):
        features = rows[ptr[t] : ptr[t + 1]]
        more = int(lengths[features[seen[features] != first]].sum())
        if entries + more > room and t > first:
            yield first, t
            first, entries, more = t, 0, int(lengths[features].sum())
        seen[features] = first
        entries += more
    if len(ptr) > 1:
        yield first, len(ptr) - 1


class Lists(NamedTuple):
    """Some lists one after another: their sizes, their entries, and the weights of these."""

    sizes: Ints
    entries: Indexes
    values: Weights | None


def with_rows(parted: Parted, block: Block, some: Ints) -> Block:
    """The block with the whole rows of some of its anchors (places), as far as they are of its features."""
    assert parted.full_rows is not None
    sizes, entries, values = fetch(parted, parted.full_rows, block.anchors[some])
    place = np.full(parted.shape[1], -1, dtype=np.int32)
    place[block.features] = np.arange(len(block.features), dtype=np.int32)
    columns, owner = place[entries], np.repeat(some, sizes)
    inside = columns >= 0
    pointer = np.concatenate([[0], np.cumsum(np.bincount(owner[inside], minlength=len(block.anchors)))])
    graph = replace(
        block.graph,
        full_ptr=pointer.astype(np.int64),
        full_rows=columns[inside],
        full_values=None if values is None else values[inside],
    )
    return replace(block, graph=graph, fetched=block.fetched + 4 * len(entries))


def fetch(parted: Parted, segments: tuple[Handle, ...], numbers: Ints) -> Lists:
    """The lists of ascending numbers, from wherever their segments are."""
    step = len(segments)
    where = [np.flatnonzero(numbers % step == k) for k in range(step)]
    used = [k for k in range(step) if len(where[k])]
    found = parted.pool.calls(taken, [(segments[k], numbers[where[k]]) for k in used])
    sizes = np.zeros(len(numbers), dtype=np.int64)
    pieces = [parted.pool.get(some) for some in found]
    for k, (some, _, _) in zip(used, pieces, strict=True):
        sizes[where[k]] = some
    starts = np.cumsum(sizes) - sizes
    entries = np.empty(int(sizes.sum()), dtype=np.int32)
    weighted = any(weights is not None for _, _, weights in pieces)
    values = np.empty(len(entries), dtype=np.float32) if weighted else None
    for k, (some, columns, weights) in zip(used, pieces, strict=True):
        to = places(starts[where[k]], some)
        entries[to] = columns
        if values is not None and weights is not None:
            values[to] = weights
    return Lists(sizes, entries, values)


def _block(parted: Parted, targets: Ints, whole: Lists) -> Block:
    degrees, rows, row_values = whole
    features = np.unique(rows).astype(np.int64)
    sizes, entries, list_values = fetch(parted, parted.lists, features)
    there = np.zeros(parted.shape[0], dtype=bool)
    there[entries] = there[targets] = True
    anchors = np.flatnonzero(there)
    n, p = len(anchors), len(features)
    place = np.empty(parted.shape[0], dtype=np.int32)
    place[anchors] = np.arange(n, dtype=np.int32)
    lists, own = place[entries], place[targets].astype(np.int64)
    # Rows of the targets as they are, where lists and rows are samples too; of others what stands in these lists.
    other = np.ones(n, dtype=bool)
    other[own] = False
    turned = lists * np.int64(p) + np.repeat(np.arange(p), sizes)
    others = other[lists]
    keys = np.concatenate([turned[others], np.repeat(own * p, degrees) + np.searchsorted(features, rows)])
    if list_values is None or row_values is None:
        keys.sort()
    else:
        order = np.argsort(keys)
        keys, row_values = keys[order], np.concatenate([list_values[others], row_values])[order]
    rows_ptr = np.searchsorted(keys, np.arange(n + 1, dtype=np.int64) * p)
    keys -= np.repeat(np.arange(n, dtype=np.int64) * p, np.diff(rows_ptr))
    graph = Bipartite(
        rows_ptr=rows_ptr,
        rows=keys.astype(np.int32),
        lists_ptr=np.concatenate([[0], np.cumsum(sizes)]),
        lists=lists,
        row_values=row_values,
        list_values=list_values,
        capped=parted.capped,
        popularity=None if parted.popularity is None else parted.pool.get(parted.popularity)[features],
        full_ptr=None if parted.full_rows is None else np.zeros(n + 1, dtype=np.int64),
        full_rows=None if parted.full_rows is None else np.empty(0, dtype=np.int32),
        leaders=parted.leaders,
    )
    return Block(graph=graph, anchors=anchors, features=features, targets=own, fetched=4 * (len(entries) + len(rows)))
