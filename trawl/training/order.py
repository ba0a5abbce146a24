"""The order of an epoch's samples: a uniform permutation that seed and epoch decide, in pieces that fit in memory.

A small data set is one bucket, shuffled at once. A larger one sends each sample to a bucket at random and then shuffles
every bucket, which gives each permutation the same chance; so the order can be written to disk bucket by bucket, and a
training that streams reads the very batches of one that holds all samples in memory.
"""

from collections.abc import Iterator

import numpy as np

from trawl.model.lexicon import Ints

BUCKET = 1 << 21  # samples of a bucket, about
_CHUNK = 1 << 16  # samples whose buckets are drawn at once


class Order:
    """Places 0..count-1 of an epoch, by bucket."""

    def __init__(self, count: int, seed: int, epoch: int, bucket: int = BUCKET) -> None:
        self.count, self.seed, self.epoch = count, seed, epoch
        self.buckets = max(1, -(-count // bucket))

    def chunks(self) -> Iterator[tuple[int, Ints]]:
        """(first sample, bucket of it and of those after it) of each chunk of the samples in table order."""
        for number, start in enumerate(range(0, self.count, _CHUNK)):
            size = min(_CHUNK, self.count - start)
            if self.buckets == 1:
                yield start, np.zeros(size, dtype=np.int64)
            else:
                yield start, self._rng(1, number).integers(0, self.buckets, size)

    def shuffled(self, bucket: int, size: int) -> Ints:
        """(size,) order of a bucket's samples, which come in table order."""
        rng = np.random.default_rng([self.seed, self.epoch]) if self.buckets == 1 else self._rng(2, bucket)
        return rng.permutation(size)

    def sizes(self) -> Ints:
        """(buckets,) samples of each."""
        total = np.zeros(self.buckets, dtype=np.int64)
        for _, bucket in self.chunks():
            total += np.bincount(bucket, minlength=self.buckets)
        return total

    def whole(self) -> Ints:
        """(count,) all samples in the order of the epoch."""
        if self.buckets == 1:
            return self.shuffled(0, self.count)
        bucket = np.concatenate([found for _, found in self.chunks()])
        order = np.argsort(bucket, kind="stable")
        ends = np.cumsum(self.sizes())
        pieces = zip(ends - self.sizes(), ends, strict=True)
        return np.concatenate([order[a:b][self.shuffled(n, b - a)] for n, (a, b) in enumerate(pieces)])

    def _rng(self, *words: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.epoch, 0, 0, *words])
