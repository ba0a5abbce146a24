"""Similarity of the target to what the user had before, from frozen item vectors (no parameters) or adapted ones.

Vectors of the items at hand are gathered and multiplied; there is no item x item table.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from trawl.model.world import Seen

Kept = Callable[[Tensor], Tensor] | None  # places among the N -> bool of the same shape: whether their rows count


def principal(vectors: npt.NDArray[np.floating], size: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean (d,) and the first `size` principal axes (d, min(size, d)) of the rows (n, d)."""
    rows = np.asarray(vectors, dtype=np.float64)
    mean = rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
    _, axes = np.linalg.eigh((rows - mean).T @ (rows - mean))
    axes = axes[:, ::-1][:, :size]
    signs = np.sign(
        axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    )  # eigenvectors have no sign of their own
    return mean, axes * signs


def unit_rows(vectors: Tensor, text: Tensor, mean: Tensor, axes: Tensor) -> Tensor:
    """(n + 1, s) unit vectors in the principal axes; zero without text."""
    out = torch.zeros(len(vectors), axes.shape[1], dtype=axes.dtype)
    for start in range(0, len(vectors), 1 << 16):
        block = vectors[start : start + (1 << 16)].to(axes.dtype)
        out[start : start + len(block)] = functional.normalize((block - mean) @ axes)
    return out * text.unsqueeze(-1)


def shared_values(codes: Tensor, values: int, dtype: torch.dtype) -> Tensor:
    """(n + 1, values) unit rows with an equal weight on each known value of a field; zero without any.

    `codes`: (n + 1, m), 0 pads, 1 = unknown or none, then the values.
    """
    flags = torch.zeros(len(codes), values + 2, dtype=dtype).scatter_(1, codes, 1.0)
    return functional.normalize(flags[:, 2:])


def to_history(near_NS: Tensor, target_B: Tensor, history_BH: Tensor, kept: Kept = None) -> Tensor:
    """(B, H) cosine of the target and each item of its history; 0 where either has no text, or is not kept."""
    history = functional.embedding(history_BH, near_NS)
    cosines = torch.bmm(history, functional.embedding(target_B, near_NS).unsqueeze(-1)).squeeze(-1)
    return cosines if kept is None else cosines * (kept(target_B).unsqueeze(1) & kept(history_BH))


def history_features(near_BH: Tensor, levels_BH: Tensor, levels: int) -> Tensor:
    """(B, levels + 2): the sum per rating level, the largest and the mean similarity."""
    there = levels_BH > 0
    near = near_BH * there
    sums = near.new_zeros(len(near), levels + 1).scatter_add_(1, levels_BH, near)[:, 1:]
    largest = near.masked_fill(~there, -1.0).amax(dim=1).masked_fill(~there.any(dim=1), 0.0)
    mean = near.sum(dim=1) / there.sum(dim=1).clamp(min=1)
    return torch.cat([sums, largest.unsqueeze(1), mean.unsqueeze(1)], dim=1)


def to_seen(unit_NS: Tensor, target_B: Tensor, seen: Seen, seen_items: Tensor, kept: Kept = None) -> Tensor:
    """(B, 2): cosine of the target and the mean of the liked, of the disliked items before the cut-off; 0 if none.

    `unit_NS`: unit rows; `target_B` and `seen_items` are places among those N. What is not kept counts as zero.
    """
    weights = None if kept is None else kept(seen_items).to(unit_NS.dtype)
    mode = "mean" if weights is None else "sum"
    means = functional.embedding_bag(seen_items, unit_NS, seen.offsets, mode=mode, per_sample_weights=weights)
    liked, disliked = functional.normalize(means).chunk(2)
    target = functional.embedding(target_B, unit_NS)
    both = [(target * functional.embedding(seen.bag, side)).sum(dim=1) for side in (liked, disliked)]
    out = torch.stack(both, dim=1)
    return out if kept is None else out * kept(target_B).unsqueeze(1)
