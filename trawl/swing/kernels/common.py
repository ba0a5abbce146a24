"""Dense graphs: features renumbered by popularity, and how many anchors each two of them have in common."""

import numpy as np
from numba import types as t  # type: ignore[import-untyped, unused-ignore]

from trawl.swing.kernels.compiling import Array, array, kernel

_ONE = np.uint64(1)


@kernel(t.void(array(t.int64), array(t.int32), array(t.int64), t.int64[::1], t.int32[::1]))
def turn(lists_ptr: Array, lists: Array, order: Array, heads: Array, rows: Array) -> None:
    """rows: the new numbers of each anchor's features, ascending. heads: where each anchor's row starts; are moved."""
    for f in range(len(order)):
        old = order[f]
        for edge in range(lists_ptr[old], lists_ptr[old + 1]):
            v = lists[edge]
            rows[heads[v]] = f
            heads[v] += 1


@kernel(
    t.void(
        array(t.int64), array(t.int32), array(t.int64), array(t.int64), array(t.int32), t.int64[::1], t.int32[:, ::1]
    )
)
def count_common(
    lists_ptr: Array, lists: Array, order: Array, rows_ptr: Array, rows: Array, heads: Array, common: Array
) -> None:
    """Upper triangle of the anchors in common, by new numbers. heads: where each anchor's row starts; are moved."""
    for f in range(len(order)):
        old = order[f]
        line = common[f]
        for edge in range(lists_ptr[old], lists_ptr[old + 1]):
            v = np.uint64(lists[edge])
            for at in range(np.uint64(heads[v]), np.uint64(rows_ptr[v + _ONE])):
                line[np.uint64(rows[at])] += 1
            heads[v] += 1
