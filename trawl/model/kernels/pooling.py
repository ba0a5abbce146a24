"""A sample's row: its target, weighted sums of its history's items, and of its history's ratings.

B samples, H positions, P sums, N items of width D, ratings of width R. A position of level 0 is none: its weights are
not read, and their gradients are 0.
"""

from trawl.model.kernels.compiling import Array, compiled


@compiled
def pool(
    items: Array,  # (N, D)
    target: Array,  # (B,)
    history: Array,  # (B, H)
    levels: Array,  # (B, H)
    weights: Array,  # (B, P, H)
    ratings: Array,  # (levels + 1, R); its sums are under the first of the P weights
    out: Array,  # (B, W) zeros where this writes
    at: int,  # column of the target; the sums follow
    stars: int,  # column of the ratings' sum
) -> None:
    width, pools, rating = items.shape[1], weights.shape[1], ratings.shape[1]
    for b in range(len(target)):
        row, own = out[b], items[target[b]]
        for d in range(width):
            row[at + d] = own[d]
        for h in range(history.shape[1]):
            level = levels[b, h]
            if level == 0:
                continue
            item, rated = items[history[b, h]], ratings[level]
            for p in range(pools):
                part, weight = row[at + (1 + p) * width : at + (2 + p) * width], weights[b, p, h]
                for d in range(width):
                    part[d] += weight * item[d]
            part, weight = row[stars : stars + rating], weights[b, 0, h]
            for d in range(rating):
                part[d] += weight * rated[d]


@compiled
def unpool(
    items: Array,
    target: Array,
    history: Array,
    levels: Array,
    weights: Array,
    ratings: Array,
    gradient: Array,  # of `out`
    at: int,
    stars: int,
    to_items: Array,  # (N, D) zeros, as the next two: the gradients
    to_weights: Array,  # (B, P, H)
    to_ratings: Array,  # (levels + 1, R)
) -> None:
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
