"""Batches by index arithmetic: the log as arrays, histories and items before the cut-off sliced from it per batch.

Rows of training users that training must not see (cold items) are left out of the log beforehand, so that a history is
always the last H rows before the sample.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from trawl.config import Config
from trawl.model import uses
from trawl.model.lexicon import Array, Ints, Lexicon, levels_of, ranges, rate_bins
from trawl.model.world import Batch, Seen
from trawl.training.corpus import Tables


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

    def take(self, picks: Array | slice) -> "Rows":
        return Rows(self.user[picks], self.item[picks], self.label[picks], self.begin[picks], self.end[picks])


def kept_rows(tables: Tables) -> npt.NDArray[np.bool_]:
    """(log rows,) false for training users' rows of cold items."""
    if tables.cold is None:
        return np.ones(len(tables.log_user), dtype=bool)
    return ~(tables.train[tables.log_user] & tables.cold[tables.log_item])


class Behaviour:
    """The filtered log. Memory: some 7 bytes per event and 30 per user, besides the mapped columns."""

    def __init__(self, tables: Tables, kept: npt.NDArray[np.bool_], lexicon: Lexicon, cfg: Config) -> None:
        users = tables.users
        offsets = np.searchsorted(tables.log_user, np.arange(users + 2))  # first log row of each user
        self._offsets = offsets
        self._before = None if kept.all() else np.concatenate([[0], np.cumsum(kept)])
        self.first = self._filtered(offsets)
        cut = np.minimum(offsets[:-1] + tables.cutoff, offsets[1:])
        self.cut = self._filtered(cut)
        self.item = tables.log_item[kept].astype(np.int32)
        self.level = levels_of(tables.log_rating[kept], lexicon.levels)
        self.history = cfg.model.history
        liked = tables.log_label[kept].astype(bool)
        self.rate = self._rates(liked) if cfg.model.rate_feature else np.zeros(users + 1, dtype=np.int64)
        self.seen_items: Array | None = None
        if uses.seen(cfg):
            self._index_seen(liked)

    def rows(self, user: Array, position: Array, item: Array, label: Array) -> Rows:
        """Samples by (user, position in the whole log)."""
        at = self._filtered(self._offsets[user] + position)
        plain = [np.array(a, dtype=np.int64) for a in (user, item)]
        return Rows(plain[0], plain[1], np.asarray(label, dtype=np.float32), self.first[user], at)

    def batch(self, rows: Rows, dtype: torch.dtype = torch.float32) -> Batch:
        at = rows.end[:, None] + np.arange(-self.history, 0)
        there = at >= rows.begin[:, None]
        at = np.where(there, at, 0)
        history = self.item[at] * there if len(self.item) else at
        levels = self.level[at] * there if len(self.item) else at
        return Batch(
            user=torch.from_numpy(rows.user),
            item=torch.from_numpy(rows.item),
            history=torch.from_numpy(history.astype(np.int64)),
            levels=torch.from_numpy(levels.astype(np.int64)),
            rate=torch.from_numpy(self.rate[rows.user]),
            label=torch.from_numpy(rows.label).to(dtype),
            seen=self._seen(rows.user),
        )

    def _filtered(self, log_rows: Array) -> Ints:
        """Rows of the filtered log from rows of the whole one."""
        found = log_rows if self._before is None else self._before[log_rows]
        return np.asarray(found, dtype=np.int64)

    def _rates(self, liked: npt.NDArray[np.bool_]) -> Ints:
        """(users + 1,) bin of the share of liked rows before the cut-off; 0 where there are none."""
        sums = np.concatenate([[0], np.cumsum(liked)])
        start, stop = self.first[:-1], self.cut
        return rate_bins(sums[stop] - sums[start], stop - start)

    def _index_seen(self, liked: npt.NDArray[np.bool_]) -> None:
        """Rows before the cut-off, user by user, the liked ones first."""
        sizes = self.cut - self.first[:-1]
        rows = ranges(self.first[:-1], sizes)
        owner = np.repeat(np.arange(len(sizes)), sizes)
        order = np.lexsort((~liked[rows], owner))
        self.seen_items = self.item[rows[order]]
        start = np.concatenate([[0], np.cumsum(sizes)])
        many = np.bincount(owner, weights=liked[rows], minlength=len(sizes)).astype(np.int64)
        self.seen_start = np.stack([start[:-1], start[:-1] + many])  # (2, users + 1): liked, disliked
        self.seen_size = np.stack([many, sizes - many])

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
    order = np.random.default_rng([seed, epoch]).permutation(count)
    for step in range(first, -(-count // size)):
        yield step, order[step * size : (step + 1) * size]
