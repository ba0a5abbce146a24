"""Rows of several tables by codes, side by side or summed; and the sums of their gradients."""

from trawl.model.kernels.compiling import Array, compiled


@compiled
def add(table: Array, codes: Array, out: Array, at: int) -> None:
    """out (N, W), from column `at` on: plus the rows of the table by codes (N,)."""
    width = table.shape[1]
    for n in range(len(codes)):
        row, found = out[n, at : at + width], table[codes[n]]
        for d in range(width):
            row[d] += found[d]


@compiled
def collect(gradient: Array, codes: Array, to_table: Array, at: int) -> None:
    """to_table, zeros: the sums of the gradients (N, W) of its rows, from column `at` on."""
    width = to_table.shape[1]
    for n in range(len(codes)):
        row, found = to_table[codes[n]], gradient[n, at : at + width]
        for d in range(width):
            row[d] += found[d]
