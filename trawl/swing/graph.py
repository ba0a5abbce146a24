"""The bipartite graph of one side, as plain arrays: the rows of its anchors and the lists of its features."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Indexes = npt.NDArray[np.int32]
LEADERS = 50
_STEP = 1 << 16  # targets whose edges are unfolded at once


@dataclass(frozen=True, kw_only=True)
class Bipartite:
    """n anchors, p features. Arrays may be read-only views (of shared memory, of a file); they are never written.

    A target's features are its whole row; its candidates are those that stand in the lists of these features, and a
    pair of features has in common whoever stands in both lists. Without caps the lists are the rows turned round;
    with caps each is a sample. A target always counts as standing in the lists of its own features.

    rows_ptr (n + 1), rows: features of each anchor, ascending. lists_ptr (p + 1), lists: anchors of each feature,
    ascending. row_values, list_values: edge weights in the same order as rows and lists, both or none (none: all 1).
    """

    rows_ptr: Ints
    rows: Indexes
    lists_ptr: Ints
    lists: Indexes
    row_values: npt.NDArray[np.float32] | None = None
    list_values: npt.NDArray[np.float32] | None = None
    capped: bool = False  # the lists are a sample
    popularity: Ints | None = None  # (p,) anchors of each feature before sampling; None: as listed
    # Rows before sampling, as rows_ptr and rows. With them the lists of a capped graph are taken for what they are,
    # samples of longer ones (see `sampled`); without, the graph is taken as it is.
    full_ptr: Ints | None = None
    full_rows: Indexes | None = None
    full_values: npt.NDArray[np.float32] | None = None
    leaders: int = LEADERS  # candidates of a target that are scored on whole rows; 0: taken as it is all the same

    def __post_init__(self) -> None:
        # No copies where the arrays are as they should be.
        kinds = (("rows_ptr", np.int64), ("rows", np.int32), ("lists_ptr", np.int64), ("lists", np.int32))
        for name, kind in (*kinds, ("full_ptr", np.int64), ("full_rows", np.int32)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=kind))
        for name in ("row_values", "list_values", "full_values"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=np.float32))
        if (self.row_values is None) != (self.list_values is None):
            raise ValueError("edge weights are given for rows and for lists, or for neither")
        for ptr, values in ((self.rows_ptr, self.rows), (self.lists_ptr, self.lists)):
            if not len(ptr) or ptr[0] != 0 or ptr[-1] != len(values):
                raise ValueError("a pointer starts at 0 and ends at the number of its edges")

    @property
    def n(self) -> int:
        return len(self.rows_ptr) - 1

    @property
    def p(self) -> int:
        return len(self.lists_ptr) - 1

    @property
    def degrees(self) -> Ints:
        """(n,) features of each anchor."""
        return np.diff(self.rows_ptr)

    @property
    def lengths(self) -> Ints:
        """(p,) anchors in each feature's list."""
        return np.diff(self.lists_ptr)


def bipartite(anchors: npt.NDArray[Any], features: npt.NDArray[Any], shape: tuple[int, int]) -> Bipartite:
    """The whole graph of `shape` (n, p) from equally long arrays of numbers from 0; a pair counts once."""
    ones = np.ones(len(anchors), dtype=np.int8)
    return from_matrix(sp.csr_array((ones, (anchors, features)), shape=shape))


def from_matrix(matrix: Any) -> Bipartite:
    """The same from any scipy sparse matrix (anchors x features): a stored value that is not 0 is an edge."""
    rows = sp.csr_array(matrix, copy=True)
    rows.eliminate_zeros()
    rows.data = np.ones(rows.nnz, dtype=np.int8)
    rows.sum_duplicates()
    lists = rows.tocsc()
    return Bipartite(
        rows_ptr=rows.indptr.astype(np.int64),
        rows=rows.indices,
        lists_ptr=lists.indptr.astype(np.int64),
        lists=lists.indices,
    )


def walked(graph: Bipartite, targets: Ints) -> Ints:
    """(len(targets),) entries of the lists of each target's features: what it walks through to find its candidates."""
    degrees = graph.rows_ptr[targets + 1] - graph.rows_ptr[targets]
    first = np.cumsum(degrees) - degrees
    edges = np.arange(degrees.sum()) + np.repeat(graph.rows_ptr[targets] - first, degrees)
    features = graph.rows[edges]
    ends = np.concatenate([[0], np.cumsum(graph.lists_ptr[features + 1] - graph.lists_ptr[features])])
    return np.asarray(ends[first + degrees] - ends[first], dtype=np.int64)


def costs(graph: Bipartite, targets: Ints | None = None) -> Floats:
    """(len(targets),) what each target costs: the entries that it walks + d² (its table). None: all anchors."""
    wanted = np.arange(graph.n) if targets is None else targets
    degrees = graph.rows_ptr[wanted + 1] - graph.rows_ptr[wanted]
    steps = [walked(graph, wanted[at : at + _STEP]) for at in range(0, len(wanted), _STEP)]
    return np.asarray(np.concatenate([np.empty(0, np.int64), *steps]) + degrees**2.0)


def cost_ranges(graph: Bipartite, tasks: int) -> Ints:
    """(tasks + 1,) bounds of ranges of anchors of about equal cost, so that one hub does not hold up the rest.

    A range may be empty.
    """
    return cut(costs(graph), tasks)


def cut(cost: Floats, pieces: int) -> Ints:
    """(pieces + 1,) bounds of `pieces` runs of about equal cost."""
    total = np.concatenate([[0.0], np.cumsum(cost)])
    inner = np.searchsorted(total, total[-1] * np.arange(1, pieces) / pieces)
    return np.asarray(np.concatenate([[0], inner, [len(cost)]]), dtype=np.int64)
