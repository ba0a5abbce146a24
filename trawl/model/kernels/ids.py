"""Whole numbers of a batch: distinct ids, dropped ids, histories sliced from the log."""

import numpy as np

from trawl.model.kernels.compiling import Array, compiled

_FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
_THIRD, _30, _27, _32 = np.uint64(0x94D049BB133111EB), np.uint64(30), np.uint64(27), np.uint64(32)


@compiled
def number(ids: Array, found: Array, where: Array) -> None:
    """found (count + 1,) zeros: the distinct ids, ascending, and last how many; where: the place of each among them."""
    count = len(found) - 1
    for i in range(len(ids)):
        if ids[i] < 0 or ids[i] >= count:
            raise IndexError("an index that the table of entities does not have")
        found[ids[i]] = 1
    places = np.empty(count, dtype=np.int64)
    last = 0
    for i in range(count):
        places[i] = last
        if found[i]:
            found[last] = i
            last += 1
    found[count] = last
    for i in range(len(ids)):
        where[i] = places[ids[i]]


@compiled
def keep(rows: Array, bound: int, salt: int, out: Array) -> None:
    """out: the row, or 0 where the hash of row and salt (splitmix64) is below the bound, of 2^32."""
    for i in range(len(rows)):
        z = np.uint64(rows[i]) * _FIRST + np.uint64(salt)
        z = (z ^ (z >> _30)) * _SECOND
        z = (z ^ (z >> _27)) * _THIRD
        out[i] = 0 if z >> _32 < np.uint64(bound) else rows[i]


@compiled
def last_rows(values: Array, begin: Array, end: Array, out: Array) -> None:
    """out (B, H), zeros: the values of the last H rows of the log before each end, none before its begin."""
    positions = out.shape[1]
    for b in range(len(end)):
        for h in range(max(0, positions - (end[b] - begin[b])), positions):
            out[b, h] = values[end[b] - positions + h]
