"""Interactions in any number of parts -> the adjacency of both sides, in hash partitions of compressed lists.

    parts --scatter--> P pieces by user, P by item --gather--> P segments of users' items, P of items' users

A part and a partition are all that a process holds. Each function is called through a pool (trawl/pool.py): in
process, or as a Ray task whose result stays in the object store, so that nothing but counts passes through the driver.
Partition k of P holds the numbers k, k + P, k + 2 P, ...: neighbours in an order by popularity stand apart.

Shapes: n rows of a side, m of the other; a pair of row r and column c travels as the int64 (r // P) m + c. Where edges
have weights, these come in L levels, the newer the larger, and level l makes it ((r // P) m + c) L + l: of a pair that
stands twice the newest counts.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from trawl.errors import ConfigError
from trawl.pool import Handle, Pool
from trawl.swing.caps import cap_lists
from trawl.swing.graph import Bipartite, Indexes, Ints

Side = Literal["user", "item"]
Read = Callable[..., Iterable[tuple[npt.NDArray[Any], ...]]]  # arguments of a part -> (users, items) or with levels
Weights = npt.NDArray[np.float32]
Keys = npt.NDArray[np.uint64]

_EDGES = 4_000_000  # of a partition, about: 100 MB while it is sorted
_MOST = 256  # partitions


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The compressed lists of the rows start, start + step, ...: ptr (rows + 1,), columns ascending in each list.

    values: the weights of its edges; None: all 1.
    """

    start: int
    step: int
    ptr: Ints
    columns: Indexes
    values: Weights | None = None

    @property
    def rows(self) -> Ints:
        """The number of each row."""
        return np.arange(len(self.ptr) - 1, dtype=np.int64) * self.step + self.start


@dataclass(frozen=True, kw_only=True)
class Adjacency:
    """Both orientations of the deduplicated interactions, as handles of segments; plain counts beside them."""

    shape: tuple[int, int]  # users, items
    edges: int
    by_user: tuple[Handle, ...]
    by_item: tuple[Handle, ...]
    weighted: bool = False  # edges have weights

    def of(self, owner: Side) -> tuple[Handle, ...]:
        return self.by_user if owner == "user" else self.by_item

    def count(self, side: Side) -> int:
        return self.shape[0 if side == "user" else 1]


def partitions(edges: int) -> int:
    """How many partitions hold about so many edges; the answer depends on it nowhere."""
    return max(1, min(_MOST, -(-edges // _EDGES)))


def build(
    pool: Pool,
    read: Read,
    parts: Sequence[Sequence[Any]],
    shape: tuple[int, int],
    *,
    count: int = 1,
    weights: Weights | None = None,
) -> Adjacency:
    """The adjacency of all pairs that `read(*part)` gives for each of `parts`; a pair counts once.

    read: module-level; yields equally long arrays of users (0 <= u < shape[0]) and items, and with `weights` of the
    level of each, whose weight is weights[level]. count: of partitions. What `read` raises comes back.
    """
    levels = 1 if weights is None else len(weights)
    if shape[0] * shape[1] * levels >= 2**63:
        raise ConfigError(f"{levels} days of weights are too many for {shape} users and items; set swing.window_days")
    sent = pool.calls(_scatter, [(read, shape, count, levels, *part) for part in parts], returns=2 * count)
    sides = []
    for side, (n, m) in enumerate((shape, shape[::-1])):
        given = [(n, m, k, count, weights, *(pieces[side * count + k] for pieces in sent)) for k in range(count)]
        sides.append(pool.calls(_gather, given, returns=2))
        if side:
            sent.clear()
    by_user, by_item = (tuple(segment for segment, _ in found) for found in sides)
    edges = sum(int(pool.get(size)) for _, size in sides[0])
    return Adjacency(shape=shape, edges=edges, by_user=by_user, by_item=by_item, weighted=weights is not None)


def _scatter(read: Read, shape: tuple[int, int], count: int, levels: int, *part: Any) -> list[Any]:
    """The part's pairs by user in `count` pieces, then by item; each ascending, each pair once."""
    pieces: list[list[Ints]] = [[] for _ in range(2 * count)]
    for users, items, *more in read(*part):
        for side, (a, b, (n, m)) in enumerate(((users, items, shape), (items, users, shape[::-1]))):
            columns = b.astype(np.int64) * levels + more[0] if more else b
            for k, piece in enumerate(_cut(a, columns, (n, m * levels), count)):
                pieces[side * count + k].append(piece)
    return [once(some, levels) for some in pieces]


def _cut(rows: npt.NDArray[Any], columns: npt.NDArray[Any], shape: tuple[int, int], count: int) -> list[Ints]:
    """The pairs of each partition as sorted keys."""
    room = -(-shape[0] // count) * shape[1]  # keys of a partition
    rows = rows.astype(np.int64)
    keys = rows % count * room + rows // count * shape[1] + columns
    keys.sort()
    cuts = np.searchsorted(keys, np.arange(count + 1) * room)
    return [keys[cuts[k] : cuts[k + 1]] - k * room for k in range(count)]


def once(pieces: list[Ints], levels: int = 1) -> Ints:
    """Sorted, each key once, and of the keys of one pair that of the largest level; the copy owns its memory."""
    keys = pieces[0].copy() if len(pieces) == 1 else np.concatenate([np.empty(0, np.int64), *pieces])
    if len(pieces) > 1:
        keys.sort()
    new = np.ones(len(keys), dtype=bool)
    pairs = keys if levels == 1 else keys // levels
    np.not_equal(pairs[1:], pairs[:-1], out=new[:-1])
    return keys if new.all() else keys[new]


def _gather(n: int, m: int, start: int, step: int, weights: Weights | None, *pieces: Ints) -> tuple[Segment, int]:
    """A partition's segment and how many edges it holds."""
    levels = 1 if weights is None else len(weights)
    keys = once(list(pieces), levels)
    values = None if weights is None else weights[keys % levels]
    if levels > 1:
        keys //= levels
    rows = max(0, -(-(n - start) // step))
    ptr = np.searchsorted(keys, np.arange(rows + 1, dtype=np.int64) * m).astype(np.int64)
    keys -= np.repeat(np.arange(rows, dtype=np.int64) * m, np.diff(ptr))
    return Segment(start=start, step=step, ptr=ptr, columns=keys.astype(np.int32), values=values), len(keys)


def capped(
    segment: Segment, owner: Side, limit: int, seed: int, owner_keys: Keys | None = None, entry_keys: Keys | None = None
) -> Segment:
    """At most `limit` columns of each row, those of the smallest hash; 0: all. Keys: by number, as in `cap_lists`."""
    if not limit or not (np.diff(segment.ptr) > limit).any():
        return segment
    keys = segment.rows if owner_keys is None else owner_keys[segment.rows]
    ptr, kept = cap_lists(
        segment.ptr, segment.columns, limit, owner=owner, seed=seed, owner_keys=keys, entry_keys=entry_keys
    )
    values = None if segment.values is None else segment.values[kept]
    return Segment(start=segment.start, step=segment.step, ptr=ptr, columns=segment.columns[kept], values=values)


def assemble(shape: tuple[int, int], capped: bool, *segments: Segment) -> Bipartite:
    """One graph: the first half of the segments are the anchors' rows, the second the features' lists."""
    half = len(segments) // 2
    rows_ptr, rows, row_values = joined(shape[0], segments[:half])
    lists_ptr, lists, list_values = joined(shape[1], segments[half:])
    return Bipartite(
        rows_ptr=rows_ptr,
        rows=rows,
        lists_ptr=lists_ptr,
        lists=lists,
        row_values=row_values,
        list_values=list_values,
        capped=capped,
    )


def joined(n: int, segments: Sequence[Segment]) -> tuple[Ints, Indexes, Weights | None]:
    """All rows of n in one CSR: pointer, columns, weights."""
    ptr = np.zeros(n + 1, dtype=np.int64)
    for s in segments:
        ptr[1 + s.start :: s.step] = np.diff(s.ptr)
    np.cumsum(ptr, out=ptr)
    columns = np.empty(int(ptr[-1]), dtype=np.int32)
    values = np.empty(int(ptr[-1]), dtype=np.float32) if any(s.values is not None for s in segments) else None
    for s in segments:
        where = places(ptr[s.start : -1 : s.step], np.diff(s.ptr))
        columns[where] = s.columns
        if values is not None and s.values is not None:
            values[where] = s.values
    return ptr, columns, values


def places(starts: Ints, sizes: Ints) -> Ints:
    """(sum of sizes,) start, start + 1, ... of one run after another."""
    ends = np.cumsum(sizes)
    return np.repeat(starts - ends + sizes, sizes) + np.arange(ends[-1] if len(ends) else 0)


def taken(segment: Segment, rows: Ints) -> tuple[Ints, Indexes, Weights | None]:
    """(sizes, columns, weights) of some of a segment's rows, given by their numbers, one after another."""
    own = (rows - segment.start) // segment.step
    sizes = segment.ptr[own + 1] - segment.ptr[own]
    where = places(segment.ptr[own], sizes)
    return sizes, segment.columns[where], None if segment.values is None else segment.values[where]
