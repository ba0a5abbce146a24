"""The elementwise part of DIN's attention unit: relu(P (k * q) + K[k] + Q[q] + R[rating] + near V), some samples at a time.

S samples, H positions, N items of width D, U units. The matrix products between these loops are torch's.
"""

from trawl.model.kernels.compiling import Array, compiled


@compiled
def products(items: Array, target: Array, history: Array, out: Array) -> None:
    """out (S H, D) = item of each position * target. `items`: (N, D); `target`: (S,); `history`: (S, H)."""
    positions = history.shape[1]
    for s in range(len(target)):
        own = items[target[s]]
        for h in range(positions):
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
def activate(
    units: Array,  # (S H, U) P (k * q), and the result
    keys: Array,  # (N, U)
    queries: Array,  # (S, U)
    ratings: Array,  # (levels + 1, U), or (1, U): one for all levels
    near: Array,  # (S, H), or (S, 0): there are none
    slope: Array,  # (U,) V
    history: Array,
    levels: Array,  # (S, H)
) -> None:
    positions, zero, last = history.shape[1], units.dtype.type(0), len(ratings) - 1
    for s in range(len(history)):
        query = queries[s]
        for h in range(positions):
            row, key, rating = units[s * positions + h], keys[history[s, h]], ratings[min(levels[s, h], last)]
            if near.shape[1]:
                close = near[s, h]
                for u in range(len(row)):
                    row[u] += close * slope[u]
            for u in range(len(row)):
                total = row[u] + key[u] + query[u] + rating[u]
                row[u] = total if total > zero else zero


@compiled
def unactivate(
    units: Array,  # (S H, U) the result
    near: Array,
    slope: Array,
    history: Array,
    levels: Array,
    gradient: Array,  # (S H, U) of the result
    to_units: Array,  # (S H, U): the gradient of P (k * q)
    to_keys: Array,  # (N, U), as the next four what is added to
    to_queries: Array,  # (S, U)
    to_ratings: Array,  # (levels + 1, U), or (1, U)
    to_near: Array,  # (S, H), or (S, 0)
    to_slope: Array,  # (U,)
) -> None:
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
    for s in range(count if near.shape[1] else 0):
        for h in range(positions):
            total, close, place = zero, near[s, h], s * positions + h
            for u in range(width):
                total += to_units[place, u] * slope[u]
            to_near[s, h] = total
            for u in range(width):
                to_slope[u] += to_units[place, u] * close
