"""Masked InfoNCE between adapted vectors of anchors and of their positives (T eq. 2, K eq. 3).

As printed the exponential stands outside the sum and no negative pair appears; taken literally that drives positives
apart. This is the standard form. Masks: with few hubs as positives, in-batch "negatives" would often be true positives.

Negatives are the other rows' positives (`info_nce`), or drawn pairs of low similarity (`info_nce_drawn`, K 3.3).
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Reduction = Literal["mean", "sum"]


def negatives(anchor_A: Tensor, positive_A: Tensor) -> Tensor:
    """(A, A) bool: [i, j] is true where positive j may serve as a negative of anchor i.

    Not so where row j has the anchor of i, or the positive of i, where the positive of j is i itself, where j is the
    positive of i, and where row j is none (an index is 0).
    """
    same = anchor_A.unsqueeze(1) == anchor_A.unsqueeze(0)
    shared = positive_A.unsqueeze(1) == positive_A.unsqueeze(0)
    itself = anchor_A.unsqueeze(1) == positive_A.unsqueeze(0)
    partner = positive_A.unsqueeze(1) == anchor_A.unsqueeze(0)
    return ~(same | shared | itself | partner) & _rows(anchor_A, positive_A)


def info_nce(
    vectors: tuple[Tensor, Tensor],
    anchor_A: Tensor,
    positive_A: Tensor,
    temperature: float | Tensor,
    reduction: Reduction = "mean",
    known_AA: Tensor | None = None,
) -> Tensor:
    """Scalar: mean or sum over anchors of -log(exp(a·p / t) / sum over p and its negatives); 0 without anchors.

    `vectors`: adapted vectors of anchors and of positives, (A, a) each. The indexes tell who is whose positive; an
    anchor may stand in several rows, with a positive in each. A row with an index 0 (no positive, no text) is left out.
    `known_AA`: bool, positive j is another known partner of anchor i, so no negative of it.
    Logits are float32 or wider.
    """
    anchors, positives = (_unit(v) for v in vectors)
    there_A = _rows(anchor_A, positive_A)
    logits_AA = anchors @ positives.T / temperature
    allowed = negatives(anchor_A, positive_A)
    if known_AA is not None:
        allowed &= ~known_AA
    own_A = logits_AA.diagonal()
    losses = torch.logsumexp(logits_AA.masked_fill(~allowed.fill_diagonal_(True), -torch.inf), dim=1) - own_A
    return _reduced(losses, there_A, reduction)


def info_nce_drawn(
    vectors: tuple[Tensor, Tensor, Tensor],
    positive_A: Tensor,
    negative_AM: Tensor,
    temperature: float | Tensor,
    reduction: Reduction = "mean",
) -> Tensor:
    """The same with negatives of each anchor's own: -log(exp(a·p / t) / (exp(a·p / t) + sum over m exp(a·n_m / t))).

    `vectors`: of anchors and positives (A, a) and of negatives (A, M, a). `negative_AM`: their indexes; 0 is none.
    """
    anchors, positives, others = (_unit(v) for v in vectors)
    own_A = (anchors * positives).sum(dim=1) / temperature
    far_AM = torch.bmm(others, anchors.unsqueeze(-1)).squeeze(-1) / temperature
    far_AM = far_AM.masked_fill(negative_AM == 0, -torch.inf)
    losses = torch.logsumexp(torch.cat([own_A.unsqueeze(1), far_AM], dim=1), dim=1) - own_A
    return _reduced(losses, positive_A > 0, reduction)


def _rows(anchor_A: Tensor, positive_A: Tensor) -> Tensor:
    """(A,) bool: rows that are a pair."""
    return (anchor_A > 0) & (positive_A > 0)


def _unit(vectors: Tensor) -> Tensor:
    return functional.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=-1)


def _reduced(losses_A: Tensor, there_A: Tensor, reduction: Reduction) -> Tensor:
    total = (losses_A * there_A).sum()  # a sum over no rows is 0 and has a gradient
    return total if reduction == "sum" else total / there_A.sum().clamp(min=1)
