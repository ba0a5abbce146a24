"""First order and pairs of fields of a factorisation machine: <w, x> + (|sum of fields|^2 - sum of |field|^2) / 2.

B samples x (B, W), whose first columns are F fields of width K; one more field, of dense features, stands apart.
"""

from trawl.model.kernels.compiling import Array, compiled


@compiled
def machine(
    x: Array,  # (B, W)
    first: Array,  # (W,)
    dense: Array,  # (B, K), or (B, 0): there is none
    fields: int,
    out: Array,  # (B,)
    totals: Array,  # (B, K): the sums of the fields
) -> None:
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
def unmachine(
    x: Array,
    first: Array,
    dense: Array,
    fields: int,
    totals: Array,
    gradient: Array,  # (B,) of `out`
    to_x: Array,  # (B, W)
    to_first: Array,  # (W,) zeros
    to_dense: Array,  # as dense
) -> None:
    """The gradient of a field in the pairs is the sum of the other fields."""
    width, k = x.shape[1], totals.shape[1]
    for b in range(len(x)):
        row, total, to_row, own = x[b], totals[b], to_x[b], gradient[b]
        for d in range(width):
            to_row[d] = own * first[d]
            to_first[d] += own * row[d]
        for f in range(fields):
            part, to_part = row[f * k : (f + 1) * k], to_row[f * k : (f + 1) * k]
            for d in range(k):
                to_part[d] += own * (total[d] - part[d])
        for d in range(dense.shape[1]):
            to_dense[b, d] = own * (total[d] - dense[b, d])
