"""Samples that are streamed from a node's disk instead of held: the same batches in the same order, in bounded memory.

The published Parquet parts are read once per node, one after another, into a file of fixed-width records. Before each
epoch its order (`order.Order`) is written as a second such file, by buckets: two sequential passes, some 50 bytes of
disk traffic per sample. Workers then read that file front to back, each its slice of every batch; a resumed epoch
begins at its step without replaying those before it. Ray Data's iterators give neither: their order depends on timing,
they shuffle within a window only, and a row costs them several times what it costs here.
"""

import fcntl
import mmap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trawl.digests import digest_json
from trawl.inputs import node_file, node_folder
from trawl.model.lexicon import Array, Ints
from trawl.training.batches import Rows
from trawl.training.order import BUCKET, Order

RECORD = np.dtype([("user", "<i4"), ("item", "<i4"), ("end", "<i8"), ("label", "?")])
_AHEAD = 1 << 22  # bytes that the kernel is asked to read ahead of the batch at hand
_BLOCK = 1 << 18  # records copied at a time

Records = npt.NDArray[np.void]


def once_per_node(key: str, suffix: str, build: Callable[[Path], None]) -> Path:
    """`inputs.node_file`, where a node's workers wait for the one that builds it."""
    with (node_folder() / f"{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return node_file(key, suffix, build)


def write_records(path: Path, tables: Iterable[tuple[Array, Array, Ints, Array]]) -> None:
    """(user, item, end of the history, label) columns, block by block."""
    with path.open("wb") as file:
        for user, item, end, label in tables:
            block = np.empty(len(user), dtype=RECORD)
            block["user"], block["item"], block["end"], block["label"] = user, item, end, label
            file.write(block.tobytes())


@dataclass
class Streamed:
    """Samples of one split; `user`, `item`, `label` and `take` read the order of the epoch that `batches` began.

    Raises nothing of its own; a full disk is a StoreError that names the node's cache.
    """

    path: Path  # records in the order of the table
    key: str  # names the epochs' files: of one training, as it removes them
    first: Ints  # (users + 2,) first row of each user in the filtered log
    bucket: int = BUCKET

    def __post_init__(self) -> None:
        self._base, self._map = _mapped(self.path)
        self._now = self._base
        self._file: Path | None = None

    def __len__(self) -> int:
        return len(self._base)

    @property
    def user(self) -> Array:
        return np.asarray(self._now["user"])

    @property
    def item(self) -> Array:
        return np.asarray(self._now["item"])

    @property
    def label(self) -> Array:
        return np.asarray(self._now["label"])

    def take(self, picks: Array | slice) -> Rows:
        found = self._now[picks]
        user, item = (found[name].astype(np.int64) for name in ("user", "item"))
        label, end = found["label"].astype(np.float32), found["end"].astype(np.int64)
        return Rows(user, item, label, np.asarray(self.first[user], dtype=np.int64), end)

    def batches(self, size: int, seed: int, epoch: int, first: int = 0) -> Iterator[tuple[int, Ints]]:
        """(step, picks) of an epoch from step `first` on; writes the epoch's file where the node has none yet."""
        self._turn(seed, epoch)
        count, asked = len(self), 0
        for step in range(first, -(-count // size)):
            at, stop = step * size, min(count, (step + 1) * size)
            if stop * RECORD.itemsize > asked - _AHEAD // 2 and self._map is not None:
                asked = stop * RECORD.itemsize + _AHEAD
                _read_ahead(self._map, at * RECORD.itemsize, asked)
            yield step, np.arange(at, stop)

    def _turn(self, seed: int, epoch: int) -> None:
        """Open the epoch's file and remove the one before it: all workers have opened theirs by now."""
        order = Order(len(self), seed, epoch, self.bucket)
        key = digest_json([self.key, self.path.name, seed, epoch, self.bucket])
        path = once_per_node(key, ".rows", lambda to: _write_order(self._base, order, to))
        self._now, self._map = _mapped(path)
        if self._file is not None and self._file != path:
            self._file.unlink(missing_ok=True)
        self._file = path

    def close(self) -> None:
        """Remove the last epoch's file."""
        self._now = self._base
        if self._file is not None:
            self._file.unlink(missing_ok=True)
            self._file = None


def _write_order(base: Records, order: Order, path: Path) -> None:
    """The records in the order of an epoch: each block's to their buckets, then every bucket shuffled."""
    if not len(base):
        path.touch()
        return
    sizes = order.sizes()
    at = np.cumsum(sizes) - sizes
    starts = at.copy()
    with path.open("wb") as file:
        file.truncate(len(base) * RECORD.itemsize)
    out = np.memmap(path, dtype=RECORD, mode="r+")
    for start, bucket in order.chunks():
        block = base[start : start + len(bucket)]
        place = np.argsort(bucket, kind="stable")
        many = np.bincount(bucket, minlength=order.buckets)
        pieces = np.split(block[place], np.cumsum(many)[:-1])
        for number in np.flatnonzero(many):
            out[at[number] : at[number] + many[number]] = pieces[number]
        at += many
    for number, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        region = out[start : start + size]
        region[:] = np.array(region)[order.shuffled(number, size)]
    out.flush()


def _mapped(path: Path) -> tuple[Records, mmap.mmap | None]:
    if not path.stat().st_size:
        return np.zeros(0, dtype=RECORD), None
    found = np.memmap(path, dtype=RECORD, mode="r")
    return np.asarray(found), found._mmap  # type: ignore[attr-defined]


def _read_ahead(file: mmap.mmap, start: int, stop: int) -> None:
    """The kernel reads while the batch is computed."""
    start -= start % mmap.PAGESIZE
    file.madvise(mmap.MADV_WILLNEED, start, min(stop, len(file)) - start)
