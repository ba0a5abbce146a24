"""First order and pairs of fields of a factorisation machine: <w, x> + (|sum of fields|^2 - sum of |field|^2) / 2.

B samples x (B, W), whose first columns are F fields of width K; one more field, of dense features (B, K), stands apart,
or is (B, 0): there is none. w is (W,).
"""

from trawl.model.kernels.compiling import Array, compiled

Read = tuple[Array, Array, Array]  # x, w, dense


@compiled
def machine(read: Read, fields: int, out: Array, totals: Array) -> None:
    """out (B,), and totals (B, K): the sums of the fields."""
    x, first, dense = read
    width, k = x.shape[1], totals.shape[1]
    zero = x.dtype.type(0)
    for b in range(len(x)):
        row, total = x[b], totals[b]
        for d in range(k):
            total[d] = dense[b, d] if dense.shape[1] else 0
        linear = squares = pairs = zero
        for d in range(width):
            linear += first[d] * row[d]
        for d in range(dense.shape[1]):
            squares += dense[b, d] * dense[b, d]
        for f in range(fields):
            part = row[f * k : (f + 1) * k]
            for d in range(k):
                total[d] += part[d]
                squares += part[d] * part[d]
        for d in range(k):
            pairs += total[d] * total[d]
        out[b] = linear + (pairs - squares) / 2


@compiled
def unmachine(read: Read, fields: int, totals: Array, gradient: Array, rest: Array, found: Read) -> None:
    """found: the gradients of x, of w (zeros before) and of dense. That of a field in the pairs: the other fields.
    rest (B, W): the gradient of x from elsewhere, which is added."""
    x, first, dense = read
    to_x, to_first, to_dense = found
    width, k = x.shape[1], totals.shape[1]
    for b in range(len(x)):
        row, total, to_row, own = x[b], totals[b], to_x[b], gradient[b]
        for d in range(width):
            to_row[d] = rest[b, d] + own * first[d]
            to_first[d] += own * row[d]
        for f in range(fields):
            part, to_part = row[f * k : (f + 1) * k], to_row[f * k : (f + 1) * k]
            for d in range(k):
                to_part[d] += own * (total[d] - part[d])
        for d in range(dense.shape[1]):
            to_dense[b, d] = own * (total[d] - dense[b, d])
