"""Caps: of a list that is too long, the entries of the smallest hash of (seed, user, item).

The hash decides alone which entries stay, so the sample is the same on every machine, for any partitioning and any
order of rows, and it is nested: a smaller cap keeps a subset. A sample of samples is the sample of the whole as long
as each kept `cap` entries, and an edge that is added changes at most one entry of a list.

What a cap costs is measured in tests/bench/swing_caps.py and told by `trawl.swing.cap_plan`.
"""

from collections.abc import Callable
from typing import Any, Literal, cast

import numba  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trawl.machine_code import code_in
from trawl.swing.graph import Floats, Ints
from trawl.swing.kernels.compiling import code_folder

Owner = Literal["user", "item"]
Keys = npt.NDArray[np.uint64]

# splitmix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
_GOLDEN, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)
# FNV-1a, 64 bits.
_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """For the types that it is first called with; kept for other processes where the kernels' code is."""
    folder = code_folder()
    if folder is None:
        return cast(Callable[..., Any], numba.njit(nogil=True)(function))
    with code_in(folder):
        return cast(Callable[..., Any], numba.njit(nogil=True, cache=True)(function))


_NONE = np.empty(0, dtype=np.uint64)


@_compiled
def _mixed(x: Any) -> Any:
    x = x + _GOLDEN
    x = (x ^ (x >> _30)) * _FIRST
    x = (x ^ (x >> _27)) * _SECOND
    return x ^ (x >> _31)


@_compiled
def _pair(seed: Any, user: Any, item: Any) -> Any:
    """`seed` is mixed already."""
    return _mixed(_mixed(seed ^ user) ^ item)


@_compiled
def _pairs(seed: Any, users: Any, items: Any) -> Any:
    out = np.empty(len(users), dtype=np.uint64)
    seed = _mixed(seed)
    for e in range(len(users)):
        out[e] = _pair(seed, users[e], items[e])
    return out


def hash_pairs(seed: int, users: npt.NDArray[Any], items: npt.NDArray[Any]) -> Keys:
    """(m,) uint64 hash of each pair of user and item: of whole numbers >= 0, or of keys from `id_keys`."""
    found: Keys = _pairs(np.uint64(seed), users.astype(np.uint64), items.astype(np.uint64))
    return found


def id_keys(ids: pa.Array) -> Keys:
    """(n,) uint64 key of each id as text, so that a sample does not depend on how ids were numbered; no nulls."""
    text = ids.cast(pa.large_string())
    if not len(text):
        return _NONE
    offsets = np.frombuffer(text.buffers()[1], dtype=np.int64)[text.offset : text.offset + len(text) + 1]
    letters = np.frombuffer(text.buffers()[2] or b"", dtype=np.uint8)
    found: Keys = _text_keys(offsets, letters)
    return found


@_compiled
def _text_keys(offsets: Any, letters: Any) -> Any:
    out = np.empty(len(offsets) - 1, dtype=np.uint64)
    for row in range(len(out)):
        key = _OFFSET
        for at in range(offsets[row], offsets[row + 1]):
            key = (key ^ np.uint64(letters[at])) * _PRIME
        out[row] = _mixed(key)
    return out


def cap_lists(
    ptr: Ints,
    idx: npt.NDArray[Any],
    cap: int,
    *,
    owner: Owner,
    seed: int = 0,
    owner_keys: npt.NDArray[Any] | None = None,
    entry_keys: npt.NDArray[Any] | None = None,
) -> tuple[Ints, Ints]:
    """At most `cap` entries of each list of a CSR: (ptr (r + 1,) of the capped lists, kept (m,) ascending positions).

    `ptr` (r + 1,) and `idx` (edges,) are only read. `owner`: whose the lists are, users' or items'. `owner_keys` (r,):
    what is hashed of each list's owner, its number from 0 by default: a partition of a larger CSR names its own.
    `entry_keys`: the same by the values of `idx`. The capped CSR is (ptr, idx[kept]), its lists in the order they had.
    """
    sizes = np.minimum(np.diff(ptr), cap)
    out = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    owners = np.arange(len(sizes)) if owner_keys is None else owner_keys
    entries = _NONE if entry_keys is None else entry_keys.astype(np.uint64)
    kept = np.empty(out[-1], dtype=np.int64)
    _keep(ptr, idx, cap, np.uint64(seed), owners.astype(np.uint64), entries, owner == "user", out, kept)
    return out, kept


def scaled_up(own: Floats, pairs: Floats, kept: Ints, full: Ints) -> Floats:
    """(t,) self scores of targets whose rows are samples, as they would be by whole rows.

    own: of the samples; pairs: the part of it that is sums over two different features; kept, full: how many features
    are in the sample and in the row. A sample holds a feature with chance kept / full, two of them with nearly its
    square. Without this, anchors of many features, which lose the most, would be everybody's best partner by cosine.
    """
    both = full * (full - 1.0) / np.maximum(kept * (kept - 1.0), 1.0)
    return np.asarray(pairs * both + (own - pairs) * (full / np.maximum(kept, 1)))


@_compiled
def _keep(  # noqa: PLR0913, PLR0917 - plain arrays are what compiled code takes
    ptr: Any, idx: Any, cap: Any, seed: Any, owners: Any, entries: Any, of_users: Any, out: Any, kept: Any
) -> None:
    seed = _mixed(seed)
    longest = 0
    for row in range(len(owners)):
        longest = max(longest, ptr[row + 1] - ptr[row])
    room = np.empty(longest, dtype=np.uint64)
    for row in range(len(owners)):
        start, size, at = ptr[row], ptr[row + 1] - ptr[row], out[row]
        if size <= cap:
            for e in range(size):
                kept[at + e] = start + e
            continue
        hashes = room[:size]
        for e in range(size):
            entry = np.uint64(idx[start + e])
            if len(entries):
                entry = entries[idx[start + e]]
            hashes[e] = _pair(seed, owners[row], entry) if of_users else _pair(seed, entry, owners[row])
        most = np.partition(hashes, cap - 1)[cap - 1]
        equal = cap - np.sum(hashes < most)  # entries at the threshold that there is room for: the first ones
        for e in range(size):
            if hashes[e] < most or (hashes[e] == most and equal > 0):
                equal -= hashes[e] == most
                kept[at] = start + e
                at += 1
