"""One side's adjacency in the form in which mining tasks share it, and the ranges of targets of these tasks.

Two forms give the same partners to the last bit:

- `Whole`: the graph as one object, which a node's workers read in place.
- `Parted`, where it does not fit a node's shared memory: the segments stay where they are, and a task fetches the
  lists that its targets touch, block after block (trawl/swing/shuffle.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from trawl.pool import Handle, Pool
from trawl.swing import adjacency
from trawl.swing.adjacency import Adjacency, Segment, Side
from trawl.swing.cap_plan import Caps
from trawl.swing.graph import LEADERS, Bipartite, Floats, Ints

Shuffle = Literal["auto", "never", "always"]
BLOCK_BYTES = 512 << 20  # of a task's fetched lists and the graph that is made of them
_FIT = 0.5  # share of a node's shared memory that one side's graph may take
_TASK_EDGES = 250_000  # of a task, about
_TASKS = 4096


@dataclass(frozen=True, kw_only=True)
class Whole:
    """bounds (tasks + 1,): task t mines the targets bounds[t] to bounds[t + 1] - 1."""

    graph: Bipartite
    bounds: Ints
    degrees: Ints  # (n,) features of each anchor before caps


@dataclass(frozen=True, kw_only=True)
class Parted:
    """n anchors, p features; handles of rows (by anchor) and lists (by feature); lengths (p,) of the lists.

    Before caps: degrees (n,) of the anchors; where lists are samples, popularity (p,) of the features and full_rows.
    """

    shape: tuple[int, int]
    rows: tuple[Handle, ...]
    lists: tuple[Handle, ...]
    lengths: Handle
    popularity: Handle | None
    full_rows: tuple[Handle, ...] | None
    degrees: Handle
    bounds: Handle
    capped: bool
    pool: Pool
    block_bytes: int = BLOCK_BYTES
    leaders: int = LEADERS


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What mining tasks are given, and what is known of them. `value`: a handle of a Whole, or a Parted."""

    value: Any
    costs: Sequence[float]  # of each task
    edges: tuple[int, int]  # in the rows, in the lists
    graph_bytes: int  # of the whole graph
    shuffled: bool


def tasks(edges: int, least: int = 1) -> int:
    """How many ranges to cut the targets into: many more than workers, so that the last ones end together.

    It depends on the data alone, so that a run that goes on with other workers finds the same parts.
    """
    return max(least, min(_TASKS, -(-edges // _TASK_EDGES)))


def prepare(
    pool: Pool,
    whole: Adjacency,
    side: Side,
    count: int,
    *,
    caps: Caps | None = None,
    keys: tuple[Handle, Handle] | None = None,
    shuffle: Shuffle = "auto",
    block_bytes: int = BLOCK_BYTES,
) -> Prepared:
    """One side of an adjacency, capped, for `count` tasks of about equal cost.

    keys: handles of what the caps hash of users and of items (by number where there are none). shuffle: whether the
    graph stays in partitions; auto: when it does not fit half of the smallest node's shared memory.
    """
    caps = caps or Caps()
    other: Side = "item" if side == "user" else "user"
    rows = _capped(pool, whole.of(side), side, caps.rows, caps.seed, keys)
    lists = _capped(pool, whole.of(other), other, caps.lists, caps.seed, keys)
    shape = (whole.count(side), whole.count(other))
    lengths = pool.call(list_lengths, shape[1], *lists)
    costs = pool.calls(_costs, [(segment, lengths) for segment in rows])
    bounds, told = pool.call(_ranges, shape[0], count, lengths, *costs, returns=2)
    weights, *edges = pool.get(told)
    size = 8 * (sum(shape) + 2) + (8 if whole.weighted else 4) * sum(edges)
    parted = shuffle == "always" or (shuffle == "auto" and size > _FIT * pool.capacity())
    popularity = pool.call(list_lengths, shape[1], *whole.of(other)) if caps.lists else None
    degrees = pool.call(list_lengths, shape[0], *whole.of(side))
    value: Any
    if parted:
        value = Parted(
            shape=shape,
            rows=rows,
            lists=lists,
            lengths=lengths,
            popularity=popularity,
            full_rows=whole.of(side) if caps.lists else None,
            degrees=degrees,
            bounds=bounds,
            capped=caps.any,
            leaders=caps.leaders,
            pool=pool,
            block_bytes=block_bytes,
        )
    else:
        full = whole.of(side) if caps.lists and caps.rows else ()
        value = pool.call(_whole, shape, caps, popularity, degrees, bounds, len(rows), *rows, *lists, *full)
    return Prepared(value=value, costs=weights, edges=(edges[0], edges[1]), graph_bytes=size, shuffled=parted)


def _capped(
    pool: Pool, segments: tuple[Handle, ...], owner: Side, limit: int, seed: int, keys: tuple[Handle, Handle] | None
) -> tuple[Handle, ...]:
    if not limit:
        return segments
    named = () if keys is None else (keys if owner == "user" else keys[::-1])
    return tuple(pool.calls(adjacency.capped, [(segment, owner, limit, seed, *named) for segment in segments]))


def _whole(
    shape: tuple[int, int],
    caps: Caps,
    popularity: Ints | None,
    degrees: Ints,
    bounds: Ints,
    count: int,
    *segments: Segment,
) -> Whole:
    """segments: `count` of rows, as many of lists; as many of rows before caps, where rows and lists are capped."""
    graph = replace(adjacency.assemble(shape, caps.any, *segments[: 2 * count]), popularity=popularity)
    if caps.lists:
        full = (graph.rows_ptr, graph.rows, graph.row_values)
        if caps.rows:
            full = adjacency.joined(shape[0], segments[2 * count :])
        graph = replace(graph, full_ptr=full[0], full_rows=full[1], full_values=full[2], leaders=caps.leaders)
    return Whole(graph=graph, bounds=bounds, degrees=degrees)


def list_lengths(p: int, *lists: Segment) -> Ints:
    """(p,) entries of each list."""
    out = np.zeros(p, dtype=np.int64)
    for segment in lists:
        out[segment.start :: segment.step] = np.diff(segment.ptr)
    return out


def _costs(rows: Segment, lengths: Ints) -> tuple[Ints, Floats, int]:
    """(numbers, costs, edges): a target of degree d costs the sum of its features' lists + d² (its table)."""
    per_edge = np.concatenate([[0], np.cumsum(lengths[rows.columns])])
    degrees = np.diff(rows.ptr)
    found = per_edge[rows.ptr[1:]] - per_edge[rows.ptr[:-1]] + degrees * degrees
    return rows.rows, found.astype(np.float64), len(rows.columns)


def _ranges(
    n: int, count: int, lengths: Ints, *costs: tuple[Ints, Floats, int]
) -> tuple[Ints, tuple[list[float], int, int]]:
    """Bounds of ranges of about equal cost (some may be empty), and (their costs, edges of rows, of lists)."""
    total = np.zeros(n + 1)
    for numbers, found, _ in costs:
        total[numbers + 1] = found
    np.cumsum(total, out=total)
    inner = np.searchsorted(total, total[-1] * np.arange(1, count) / count)
    bounds = np.concatenate([[0], inner, [n]]).astype(np.int64)
    edges = sum(size for _, _, size in costs)
    return bounds, (np.diff(total[bounds]).tolist(), edges, int(lengths.sum()))
