"""A sample's row: its target, weighted sums of its history's items, and of its history's ratings.

B samples, H positions, P sums, N items of width D, ratings of width R. Read are items (N, D), target (B,), history and
levels (B, H), weights (B, P, H) and ratings (levels + 1, R), whose sum is under the first of the P weights. A position
of level 0 is none: its weights are not read, and their gradients are 0.
"""

from trawl.model.kernels.compiling import Array, compiled

Read = tuple[Array, Array, Array, Array, Array, Array]


@compiled
def pool(read: Read, out: Array, at: int, stars: int) -> None:
    """out (B, W), zeros where this writes: target from column `at` on, the sums after it, ratings from `stars`."""
    items, target, history, levels, weights, ratings = read
    width, pools, rating = items.shape[1], weights.shape[1], ratings.shape[1]
    for b in range(len(target)):
        if target[b] < 0 or target[b] >= len(items):
            raise IndexError("a target that the table of items does not have")
        row, own = out[b], items[target[b]]
        for d in range(width):
            row[at + d] = own[d]
        for h in range(history.shape[1]):
            level = levels[b, h]
            if level == 0:
                continue
            if history[b, h] < 0 or history[b, h] >= len(items) or (rating and level >= len(ratings)):
                raise IndexError("an item or a rating of a history that its table does not have")
            item, rated = items[history[b, h]], ratings[level]
            for p in range(pools):
                part, weight = row[at + (1 + p) * width : at + (2 + p) * width], weights[b, p, h]
                for d in range(width):
                    part[d] += weight * item[d]
            part, weight = row[stars : stars + rating], weights[b, 0, h]
            for d in range(rating):
                part[d] += weight * rated[d]


@compiled
def unpool(read: Read, gradient: Array, at: int, stars: int, found: tuple[Array, Array, Array]) -> None:
    """found, zeros: what the gradient of `out` means for items, weights and ratings."""
    items, target, history, levels, weights, ratings = read
    to_items, to_weights, to_ratings = found
    width, pools, rating = items.shape[1], weights.shape[1], ratings.shape[1]
    zero = items.dtype.type(0)
    for b in range(len(target)):
        row, own = gradient[b], to_items[target[b]]
        for d in range(width):
            own[d] += row[at + d]
        for h in range(history.shape[1]):
            level = levels[b, h]
            if level == 0:
                continue
            item, to_item = items[history[b, h]], to_items[history[b, h]]
            for p in range(pools):
                part, weight = row[at + (1 + p) * width : at + (2 + p) * width], weights[b, p, h]
                total = zero
                for d in range(width):
                    to_item[d] += weight * part[d]
                    total += item[d] * part[d]
                to_weights[b, p, h] = total
            rated, to_rated, weight = ratings[level], to_ratings[level], weights[b, 0, h]
            total, part = zero, row[stars : stars + rating]
            for d in range(rating):
                to_rated[d] += weight * part[d]
                total += rated[d] * part[d]
            to_weights[b, 0, h] += total


@compiled
def average(levels: Array, level: Array, out: Array) -> None:
    """out (B, P, H), zeros: the weights of the mean over the positions, and with P = 2 those times level (L + 1,)."""
    for b in range(len(levels)):
        there = 0
        for h in range(levels.shape[1]):
            there += levels[b, h] > 0
        for h in range(levels.shape[1]):
            if levels[b, h] > 0:
                out[b, 0, h] = 1 / there
                if out.shape[1] > 1:
                    out[b, 1, h] = out[b, 0, h] * level[levels[b, h]]


@compiled
def unaverage(levels: Array, weights: Array, gradient: Array, to_level: Array) -> None:
    """to_level (L + 1,), zeros: the gradient of the numbers of the levels."""
    for b in range(len(levels)):
        for h in range(levels.shape[1]):
            to_level[levels[b, h]] += weights[b, 0, h] * gradient[b, 1, h]
