"""Factors of likes: the singular vectors, whatever the blocks."""

from dataclasses import replace

import numpy as np
import pytest

from trawl.training import factors as module
from trawl.training.factors import Likes, factors


def likes(seed: int = 0, users: int = 300, items: int = 40) -> tuple[Likes, np.ndarray]:
    """Users of two tastes; the log also holds dislikes, and items 7 and 8 that nobody liked or rated."""
    rng = np.random.default_rng(seed)
    user, item, liked = [], [], []
    for u in range(1, users + 1):
        for i in rng.permutation(items)[:15] + 1:
            if i in (7, 8):
                continue
            user.append(u)
            item.append(int(i))
            liked.append(bool(rng.random() < (0.9 if u % 2 == i % 2 else 0.1)) and i != 9)
    vocabulary = np.array([i for i in range(1, items + 1) if i != 8])
    matrix = np.zeros((users + 1, items + 1))
    for u, i, like in zip(user, item, liked, strict=True):
        matrix[u, i] = like
    kept, train = np.array(user) != 6, np.arange(users + 1) != 5  # user 6 has no row that counts, user 5 is scored
    matrix[5:7] = 0
    return Likes(np.array(user), np.array(item), np.array(liked), kept, train, vocabulary), matrix[:, vocabulary]


def test_they_are_the_singular_vectors() -> None:
    log, matrix = likes()
    found = factors(log, 2)
    _, values, vectors = np.linalg.svd(matrix, full_matrices=False)
    expected = vectors[:2].T * values[:2]
    length = np.linalg.norm(expected, axis=1, keepdims=True)
    expected = np.divide(expected, length, out=np.zeros_like(expected), where=length > 1e-9)
    assert found.shape == (39, 2)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-4)
    np.testing.assert_allclose(np.abs(found[:, 0]), np.abs(expected[:, 0]), atol=1e-4)
    unliked = np.isin(log.vocabulary, (7, 9))
    assert not found[unliked].any()
    np.testing.assert_allclose(np.linalg.norm(found[~unliked], axis=1), 1.0, atol=1e-5)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = likes()
    whole = factors(log, 3)
    monkeypatch.setattr(module, "_BLOCK", 50)
    assert len(list(log.blocks())) > 50
    assert sum(block.sum() for block in log.blocks()) == (log.liked & (log.user != 5) & (log.user != 6)).sum()
    np.testing.assert_allclose(factors(log, 3), whole, atol=1e-5)


def test_few_items_and_no_likes() -> None:
    log, _ = likes()
    assert factors(log, 64).shape == (39, 39)
    assert not factors(replace(log, liked=np.zeros_like(log.liked)), 3).any()
    empty, none = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)
    for vocabulary in (np.array([1, 2]), empty):
        nothing = Likes(empty, empty, none, none, log.train, vocabulary)
        assert factors(nothing, 2).shape == (len(vocabulary), len(vocabulary))
