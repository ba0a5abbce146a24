"""Exact nearest neighbours by cosine: blocked matrix products, so that memory does not grow with the catalogue."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_ANCHORS, _CANDIDATES = 512, 4096  # rows and columns of a block: 16 MiB of similarities
_DECIMALS = 9  # cosines that agree so far are ties: the last bits depend on where a row stands in a block


def nearest(
    items: npt.NDArray[np.int64], matrix: npt.NDArray[np.floating], there: npt.NDArray[np.bool_], top: int
) -> pa.Table:
    """item, rank (from 0), neighbour, similarity: the `top` nearest of each item, itself left out.

    `matrix`: (n + 1, d) unit rows, row = index, may be memory-mapped; `there`: (n + 1,) which rows take part, as
    neighbours too. Ties go to the smaller index. Fewer than `top` rows where there are fewer others.
    """
    pieces = [_block(items[at : at + _ANCHORS], matrix, there, top) for at in range(0, len(items), _ANCHORS)]
    names = ("item", "rank", "neighbour", "similarity")
    if not pieces:
        pieces = [tuple(np.zeros(0, dtype=kind) for kind in (np.int64, np.int64, np.int64, np.float64))]
    return pa.table({name: np.concatenate([p[i] for p in pieces]) for i, name in enumerate(names)})


def _block(
    items: npt.NDArray[np.int64], matrix: npt.NDArray[np.floating], there: npt.NDArray[np.bool_], top: int
) -> tuple[npt.NDArray[np.generic], ...]:
    """Columns item, rank, neighbour, similarity of some anchors: the best so far against block after block."""
    anchors = matrix[items].astype(np.float64)
    least = np.full(len(items), -2.0)  # an anchor's last place so far, a little less: below it nothing gets in
    row = np.zeros(0, dtype=np.int64)  # the best so far: anchor's place, neighbour, cosine
    who, cosine = row, np.zeros(0)
    for start in range(1, len(matrix), _CANDIDATES):
        index = np.arange(start, min(start + _CANDIDATES, len(matrix)))
        index = index[there[index]]
        if not len(index):
            continue
        found = anchors @ matrix[index].astype(np.float64).T
        at = np.minimum(np.searchsorted(index, items), len(index) - 1)
        found[index[at] == items, at[index[at] == items]] = -np.inf  # itself
        if not len(row) and len(index) > top:
            least = np.maximum(np.partition(found, -top, axis=1)[:, -top] - 10.0**-_DECIMALS, least)
        rows, columns = np.nonzero(found >= least[:, None])
        row, who = np.concatenate([row, rows]), np.concatenate([who, index[columns]])
        cosine = np.concatenate([cosine, np.round(found[rows, columns], _DECIMALS)])
        order = np.lexsort((who, -cosine, row))
        row, who, cosine = row[order], who[order], cosine[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        row, who, cosine = (a[rank < top] for a in (row, who, cosine))
        last = rank[rank < top] == top - 1
        least[row[last]] = np.maximum(least[row[last]], cosine[last] - 10.0**-_DECIMALS)
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    return items[row], rank, who, cosine
