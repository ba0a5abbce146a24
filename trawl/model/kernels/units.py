"""The elementwise part of DIN's attention unit, relu(P (k * q) + K[k] + Q[q] + R[rating] + near V), of some samples.

S samples, H positions, N items of width D, U units. The matrix products between these loops are torch's.
"""

from trawl.model.kernels.compiling import Array, compiled

# keys (N, U), queries (S, U), ratings (levels + 1, U) or (1, U): one for all levels
Read = tuple[Array, Array, Array]


@compiled
def products(items: Array, target: Array, history: Array, out: Array) -> None:
    """out (S H, D) = item of each position * target. `items`: (N, D); `target`: (S,); `history`: (S, H)."""
    positions = history.shape[1]
    for s in range(len(target)):
        if target[s] < 0 or target[s] >= len(items):
            raise IndexError("a target that the table of items does not have")
        own = items[target[s]]
        for h in range(positions):
            if history[s, h] < 0 or history[s, h] >= len(items):
                raise IndexError("an item of a history that the table of items does not have")
            row, item = out[s * positions + h], items[history[s, h]]
            for d in range(len(own)):
                row[d] = item[d] * own[d]


@compiled
def unproducts(items: Array, target: Array, history: Array, gradient: Array, to_items: Array) -> None:
    """to_items (N, D) += what reaches the items from the gradient (S H, D) of their products."""
    positions = history.shape[1]
    for s in range(len(target)):
        own, to_own = items[target[s]], to_items[target[s]]
        for h in range(positions):
            row, item, to_item = gradient[s * positions + h], items[history[s, h]], to_items[history[s, h]]
            for d in range(len(own)):
                to_item[d] += row[d] * own[d]
            for d in range(len(own)):
                to_own[d] += row[d] * item[d]


@compiled
def activate(units: Array, read: Read, near: tuple[Array, Array], history: Array, levels: Array) -> None:
    """units (S H, U): P (k * q), and the result. near: (S, H) and V (U,), or (S, 0): there are none."""
    keys, queries, ratings = read
    near_SH, slope = near
    positions, zero, last = history.shape[1], units.dtype.type(0), len(ratings) - 1
    for s in range(len(history)):
        query = queries[s]
        for h in range(positions):
            row, key, rating = units[s * positions + h], keys[history[s, h]], ratings[min(levels[s, h], last)]
            if near_SH.shape[1]:
                close = near_SH[s, h]
                for u in range(len(row)):
                    row[u] += close * slope[u]
            for u in range(len(row)):
                total = row[u] + key[u] + query[u] + rating[u]
                row[u] = total if total > zero else zero


@compiled
def unactivate(units: Array, gradient: Array, history: Array, levels: Array, to_units: Array, found: Read) -> None:
    """to_units (S H, U): the gradient of P (k * q), from that of the result; added to found: those of what was read."""
    to_keys, to_queries, to_ratings = found
    zero, last, (count, positions), width = units.dtype.type(0), len(to_ratings) - 1, history.shape, units.shape[1]
    for p in range(len(units)):
        for u in range(width):
            own = gradient[p, u]  # read in any case: what is read on a condition keeps a loop out of vector registers
            to_units[p, u] = own if units[p, u] > zero else zero
    for s in range(count):  # a pass for each sum: together they take five times as long
        for h in range(positions):
            key = history[s, h]
            for u in range(width):
                to_keys[key, u] += to_units[s * positions + h, u]
    for s in range(count):
        for h in range(positions):
            for u in range(width):
                to_queries[s, u] += to_units[s * positions + h, u]
    for s in range(count):
        for h in range(positions):
            level = min(levels[s, h], last)
            for u in range(width):
                to_ratings[level, u] += to_units[s * positions + h, u]


@compiled
def unnear(to_units: Array, near_SH: Array, slope: Array, to_near: Array, to_slope: Array) -> None:
    """to_near (S, H) is written, to_slope (U,) is added to."""
    positions, zero = near_SH.shape[1], to_units.dtype.type(0)
    for s in range(len(near_SH)):
        for h in range(positions):
            row, total, close = to_units[s * positions + h], zero, near_SH[s, h]
            for u in range(len(row)):
                total += row[u] * slope[u]
            to_near[s, h] = total
            for u in range(len(row)):
                to_slope[u] += row[u] * close
