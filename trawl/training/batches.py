"""Batches by index arithmetic: the log as arrays, histories and items before the cut-off sliced from it per batch.

Rows of training users that training must not see (cold items) are left out of the log beforehand, so that a history is
always the last H rows before the sample.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from trawl.config import Config
from trawl.model.lexicon import Array, Ints, Lexicon, ranges
from trawl.model.world import Batch, Seen
from trawl.training.corpus import Tables
from trawl.training.logs import Wanted, index_log, parts_of
from trawl.training.order import Order


@dataclass(frozen=True)
class Rows:
    """Samples: user, item and label, and where the history begins at most and ends in the filtered log."""

    user: Ints
    item: Ints
    label: npt.NDArray[np.float32]
    begin: Ints
    end: Ints

    def __len__(self) -> int:
        return len(self.user)

    def batches(self, size: int, seed: int, epoch: int, first: int = 0) -> Iterator[tuple[int, Ints]]:
        """(step, picks) of an epoch from step `first` on, for `take`."""
        return epoch_batches(len(self), size, seed, epoch, first)

    def close(self) -> None:
        """Nothing is to be given back."""

    def take(self, picks: Array | slice) -> "Rows":
        return Rows(self.user[picks], self.item[picks], self.label[picks], self.begin[picks], self.end[picks])


def kept_rows(tables: Tables) -> npt.NDArray[np.bool_]:
    """(log rows,) false for training users' rows of cold items; a read-only view of one number where there are none."""
    count = len(tables.log_user)
    if tables.cold is None:
        return np.broadcast_to(np.bool_(True), (count,))
    out = np.empty(count, dtype=bool)
    for part in parts_of(count):
        out[part] = ~(tables.train[tables.log_user[part]] & tables.cold[tables.log_item[part]])
    return out


class Behaviour:
    """The filtered log. Memory: some 5 bytes per event, 5 per item seen before a cut-off, 60 per user; or mapped."""

    def __init__(
        self,
        tables: Tables,
        kept: npt.NDArray[np.bool_],
        lexicon: Lexicon,
        cfg: Config,
        arrays: Mapping[str, Array] | None = None,
    ) -> None:
        """`arrays`: of `index_log`, where they are made already."""
        if arrays is None:
            arrays = index_log(tables, kept, lexicon, Wanted(cfg))
        self._offsets, self._before = arrays["offsets"], arrays.get("before")
        self.first = arrays["first"]
        self.item, self.level, self.rate = arrays["item"], arrays["level"], arrays["rate"]
        self.history = cfg.model.history
        self.seen_items: Array | None = arrays.get("seen_items")
        if self.seen_items is not None:
            self.seen_start, self.seen_size = arrays["seen_start"], arrays["seen_size"]

    def rows(self, user: Array, position: Array, item: Array, label: Array) -> Rows:
        """Samples by (user, position in the whole log)."""
        plain = [np.array(a, dtype=np.int64) for a in (user, item)]
        at = self.ends(user, position)
        return Rows(plain[0], plain[1], np.asarray(label, dtype=np.float32), self.first[user], at)

    def ends(self, user: Array, position: Array) -> Ints:
        """The row of the filtered log where the history of (user, position in the whole log) ends."""
        at = self._offsets[user] + position
        return np.asarray(at if self._before is None else self._before[at], dtype=np.int64)

    def batch(self, rows: Rows, dtype: torch.dtype = torch.float32) -> Batch:
        history, levels = self._past(rows)
        return Batch(
            user=torch.from_numpy(rows.user),
            item=torch.from_numpy(rows.item),
            history=torch.from_numpy(history),
            levels=torch.from_numpy(levels),
            rate=torch.from_numpy(self.rate[rows.user]),
            label=torch.from_numpy(rows.label).to(dtype),
            seen=self._seen(rows.user),
        )

    def _past(self, rows: Rows) -> tuple[Ints, Ints]:
        """(B, H) items and rating levels of the histories, padded in front with 0."""
        if torch.is_grad_enabled():  # training, where the model's loops are compiled anyway
            from trawl.model.kernels.ids import last_rows

            found = [np.zeros((len(rows), self.history), dtype=np.int64) for _ in range(2)]
            for values, out in zip((self.item, self.level), found, strict=True):
                last_rows(np.asarray(values), rows.begin, rows.end, out)
            return found[0], found[1]
        at = rows.end[:, None] + np.arange(-self.history, 0)
        there = at >= rows.begin[:, None]
        at = np.where(there, at, 0)
        if not len(self.item):
            return at, at
        return (self.item[at] * there).astype(np.int64), (self.level[at] * there).astype(np.int64)

    def _seen(self, user: Ints) -> Seen | None:
        if self.seen_items is None:
            return None
        distinct, bag = np.unique(user, return_inverse=True)
        sizes = self.seen_size[:, distinct].reshape(-1)
        items = self.seen_items[ranges(self.seen_start[:, distinct].reshape(-1), sizes)]
        offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        return Seen(*(torch.from_numpy(np.asarray(a, dtype=np.int64)) for a in (items, offsets, bag)))


def epoch_batches(count: int, size: int, seed: int, epoch: int, first: int = 0) -> Iterator[tuple[int, Ints]]:
    """(step, picks) of an epoch from step `first` on: slices of a permutation that seed and epoch decide."""
    order = Order(count, seed, epoch).whole()
    for step in range(first, -(-count // size)):
        yield step, order[step * size : (step + 1) * size]
