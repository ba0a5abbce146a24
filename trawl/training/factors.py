"""Item vectors from behaviour alone: the SVD of the users x items matrix of likes. The control without any text.

The right singular vectors V S of a matrix too large to keep come from subspace iteration on A'A: one pass over the log
for each product, users in blocks, so that memory is a few vectors per item. The log is ordered by user.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Array = npt.NDArray[Any]
_MORE = 8  # dimensions beside those asked for, so that the last ones settle too
_PASSES = 6
_BLOCK = 1 << 22  # log rows of a block, about


@dataclass(frozen=True)
class Likes:
    """Likes of training users in a log, ordered by user; as blocks of a sparse matrix, row = user, column = item."""

    user: Array  # (log rows,), all of them may be memory-mapped
    item: Array
    liked: Array  # (log rows,) bool
    kept: Array  # (log rows,) bool: false for what training must not see
    train: Array  # (users + 1,) bool: training users
    vocabulary: Array  # indexes of items, ascending; all that count are among them

    def blocks(self) -> Iterator[sp.csr_array]:
        """(users of a block, items); a block is of whole users."""
        cuts = np.searchsorted(self.user, self.user[np.arange(_BLOCK, len(self.user), _BLOCK)])
        edges = np.unique([0, *cuts.tolist(), len(self.user)])
        for start, stop in pairwise(edges.tolist()):
            part = slice(start, stop)
            rows = start + np.flatnonzero(self.liked[part] & self.kept[part] & self.train[self.user[part]])
            if len(rows):
                number = np.unique(self.user[rows], return_inverse=True)[1]
                place = np.searchsorted(self.vocabulary, self.item[rows])
                shape = (int(number[-1]) + 1, len(self.vocabulary))
                yield sp.csr_array((np.ones(len(rows)), (number, place)), shape=shape)

    def product(self, basis: Array) -> Array:
        """A'(A basis), where A has a 1 for each like."""
        out = np.zeros_like(basis)
        for block in self.blocks():
            out += block.T @ (block @ basis)
        return out


def factors(likes: Likes, size: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """(len(vocabulary), min(size, items)) unit rows of V S; zero for items that nobody liked."""
    items = len(likes.vocabulary)
    size = min(size, items)
    basis = np.random.default_rng(seed).normal(size=(items, min(items, size + _MORE)))
    known = likes.product(np.ones((items, 1)))[:, 0] > 0
    if not size or not known.any():
        return np.zeros((items, size), dtype=np.float32)
    for _ in range(_PASSES):
        basis, _ = np.linalg.qr(likes.product(basis))
    values, vectors = np.linalg.eigh(basis.T @ likes.product(basis))
    largest = np.argsort(values)[::-1][:size]
    found = (basis @ vectors[:, largest]) * np.sqrt(np.maximum(values[largest], 0.0))
    found[~known] = 0.0  # exactly, not up to rounding
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(np.divide(found, length, out=np.zeros_like(found), where=length > 0), dtype=np.float32)
