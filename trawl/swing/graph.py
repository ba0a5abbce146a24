"""The bipartite graph of one side: a canonical 0/1 CSR matrix (anchors x features) from pairs of row numbers."""

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def graph(anchors: npt.NDArray[Any], features: npt.NDArray[Any], shape: tuple[int, int]) -> sp.csr_array:
    """0/1 float64 CSR of `shape` from equally long arrays of row and column numbers (from 0); a pair counts once."""
    matrix = sp.csr_array((np.ones(len(anchors)), (anchors, features)), shape=shape)
    return canonical(matrix)


def canonical(matrix: sp.csr_array) -> sp.csr_array:
    """The same edges with sorted columns, no duplicates, no stored zeros, all values 1.0."""
    out = sp.csr_array((np.ones(matrix.nnz), matrix.indices.copy(), matrix.indptr.copy()), shape=matrix.shape)
    out.data[matrix.data == 0] = 0.0
    out.eliminate_zeros()
    out.sum_duplicates()
    out.sort_indices()
    out.data[:] = 1.0
    return out


def degrees(matrix: sp.csr_array) -> Ints:
    """(n,) edges of each row."""
    return np.asarray(np.diff(matrix.indptr), dtype=np.int64)


def cost_ranges(matrix: sp.csr_array, tasks: int) -> Ints:
    """(tasks + 1,) bounds of ranges of anchors of about equal cost, so that one hub does not hold up the rest.

    The cost of an anchor of degree d is the sum of its features' degrees (the candidates' lists) + d² (its table).
    A range may be empty.
    """
    own = degrees(matrix).astype(np.float64)
    cost = matrix @ np.diff(matrix.tocsc().indptr).astype(np.float64) + own * own
    total = np.concatenate([[0.0], np.cumsum(cost)])
    inner = np.searchsorted(total, total[-1] * np.arange(1, tasks) / tasks)
    return np.asarray(np.concatenate([[0], inner, [matrix.shape[0]]]), dtype=np.int64)
