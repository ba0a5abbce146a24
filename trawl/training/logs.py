"""The log as training reads it: arrays made block by block, in memory or in files that a node's processes share.

Rows of training users that training must not see (cold items) are left out, so that a history is always the last H rows
before the sample. Nothing but the arrays themselves is as long as the log: a block holds some million rows.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trawl import uses
from trawl.config import Config
from trawl.model.lexicon import Array, Lexicon, levels_of, ranges, rate_bins
from trawl.training.corpus import Tables

_BLOCK = 1 << 22  # log rows of a block, about: a user is never cut in two

Allocate = Callable[[str, type[np.generic], tuple[int, ...]], Array]


def in_memory(name: str, kind: type[np.generic], shape: tuple[int, ...]) -> Array:
    """Arrays of this process."""
    return np.zeros(shape, dtype=kind)


def in_files(folder: Path) -> Allocate:
    """Arrays in a file each of a folder."""
    folder.mkdir()

    def allocate(name: str, kind: type[np.generic], shape: tuple[int, ...]) -> Array:
        path = folder / f"{name}.npy"
        out: Array = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)  # type: ignore[no-untyped-call]
        return out

    return allocate


def read_files(folder: Path) -> dict[str, Array]:
    """The arrays of a folder, memory-mapped."""
    paths = sorted(folder.glob("*.npy"))
    return {path.stem: np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)) for path in paths}


class Wanted:
    """What of the log a recipe's model reads besides the history."""

    def __init__(self, cfg: Config) -> None:
        self.rates = uses.rate(cfg)  # the share of liked items before the cut-off
        self.seen = uses.seen(cfg)  # the items before the cut-off
        self.stars = uses.stars(cfg)  # and which of them were liked; else all count as liked


def index_log(
    tables: Tables, kept: Array, lexicon: Lexicon, wanted: Wanted, allocate: Allocate = in_memory
) -> dict[str, Array]:
    """Arrays by name; u is 0..users, rows of the filtered log are counted from 0.

    offsets (users + 2,) first log row of each user; first (users + 2,) and cut (users + 1,) its first row of the
    filtered log, and the first after the cut-off; item, level (filtered rows,); with rows left out `before` (log
    rows + 1,); where they are wanted rate (users + 1,), and seen_items with seen_start and seen_size (2, users + 1).
    """
    users, out = tables.users, {}
    offsets = out["offsets"] = np.searchsorted(tables.log_user, np.arange(users + 2))
    before = None if _all(kept) else _cumulated(kept, allocate)
    if before is not None:
        out["before"] = before
    cut = np.minimum(offsets[:-1] + tables.cutoff, offsets[1:])
    out["first"] = np.asarray(offsets if before is None else before[offsets], dtype=np.int64)
    out["cut"] = np.asarray(cut if before is None else before[cut], dtype=np.int64)
    rows = int(out["first"][-1])
    out["item"], out["level"] = allocate("item", np.int32, (rows,)), allocate("level", np.uint8, (rows,))
    out["rate"] = np.zeros(users + 1, dtype=np.int64)
    sizes = out["cut"] - out["first"][:-1]
    if wanted.seen:
        out["seen_items"] = allocate("seen_items", np.int32, (int(sizes.sum()),))
        start = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        out["seen_start"], out["seen_size"] = np.stack([start, start]), np.stack([sizes, sizes])
    for block in _blocks(offsets):
        _fill(out, tables, kept, lexicon, block, wanted)
    return out


def _fill(
    out: Mapping[str, Array], tables: Tables, kept: Array, lexicon: Lexicon, block: slice, wanted: Wanted
) -> None:
    """The users of a block."""
    log = slice(int(out["offsets"][block.start]), int(out["offsets"][block.stop]))
    start, stop = (int(out["first"][u]) for u in (block.start, block.stop))
    keep = np.asarray(kept[log])
    item = tables.log_item[log][keep].astype(np.int32)
    liked = tables.log_label[log][keep].astype(bool) if wanted.stars else np.ones(len(item), dtype=bool)
    out["item"][start:stop] = item
    out["level"][start:stop] = levels_of(tables.log_rating[log][keep], lexicon.levels)
    first, cut = out["first"][block] - start, out["cut"][block] - start
    sums = np.concatenate([[0], np.cumsum(liked)])
    many = sums[cut] - sums[first]
    if wanted.rates:
        out["rate"][block] = rate_bins(many, cut - first)
    if "seen_items" in out:  # rows before the cut-off, user by user, the liked ones first
        sizes = cut - first
        rows = ranges(first, sizes)
        order = np.lexsort((~liked[rows], np.repeat(np.arange(len(sizes)), sizes)))
        at = int(out["seen_start"][0, block.start])
        out["seen_items"][at : at + len(rows)] = item[rows[order]]
        out["seen_start"][1, block] += many
        out["seen_size"][:, block] = np.stack([many, sizes - many])


def _blocks(offsets: Array) -> Iterator[slice]:
    """Ranges of users 0..users whose rows together are about a block, or one user of more."""
    start, last = 0, len(offsets) - 1
    while start < last:
        stop = int(np.searchsorted(offsets, offsets[start] + _BLOCK, side="right")) - 1
        stop = min(last, max(stop, start + 1))
        yield slice(start, stop)
        start = stop


def parts_of(rows: int) -> Iterator[slice]:
    """Ranges of log rows."""
    for start in range(0, rows, _BLOCK):
        yield slice(start, min(rows, start + _BLOCK))


def _all(kept: Array) -> bool:
    return all(bool(kept[part].all()) for part in parts_of(len(kept)))


def _cumulated(kept: Array, allocate: Allocate) -> npt.NDArray[np.int64]:
    """(log rows + 1,) rows kept before each row."""
    out: Any = allocate("before", np.int64, (len(kept) + 1,))
    total = 0
    for part in parts_of(len(kept)):
        np.cumsum(kept[part], out=out[part.start + 1 : part.stop + 1])
        out[part.start + 1 : part.stop + 1] += total
        total = int(out[part.stop])
    return out  # type: ignore[no-any-return]
