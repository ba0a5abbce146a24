"""The order of an epoch: one permutation, whole or by buckets."""

from collections import Counter

import numpy as np
import pytest

from trawl.training import order as module
from trawl.training.order import Order


@pytest.mark.parametrize(("count", "bucket"), [(0, 8), (1, 8), (1000, 4096), (1000, 64)])
def test_each_sample_comes_once(count: int, bucket: int) -> None:
    found = Order(count, 3, 1, bucket).whole()
    assert sorted(found.tolist()) == list(range(count))


def test_seed_and_epoch_decide() -> None:
    orders = [Order(5000, seed, epoch, 512).whole() for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert np.array_equal(orders[0], orders[3])
    assert not any(np.array_equal(orders[0], other) for other in orders[1:3])


def test_one_bucket_is_numpys_permutation() -> None:
    """What recipes of all sizes up to a bucket were trained with before there were buckets."""
    assert np.array_equal(Order(100, 7, 2).whole(), np.random.default_rng([7, 2]).permutation(100))


def test_every_permutation_is_as_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 samples in two buckets, drawn in two chunks: 24 orders, 4800 epochs, chi-square far below its 1e-6 tail."""
    monkeypatch.setattr(module, "_CHUNK", 3)
    counts = Counter(tuple(Order(4, 0, epoch, 2).whole().tolist()) for epoch in range(4800))
    assert len(counts) == 24
    assert sum((n - 200) ** 2 / 200 for n in counts.values()) < 72
