"""Masked InfoNCE between adapted vectors of anchors and of their positives (T eq. 2, K eq. 3).

As printed the exponential stands outside the sum and no negative pair appears; taken literally that drives positives
apart. This is the standard form. Masks: with few hubs as positives, in-batch "negatives" would often be true positives.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


def negatives(anchor_A: Tensor, positive_A: Tensor) -> Tensor:
    """(A, A) bool: [i, j] is true where positive j may serve as a negative of anchor i.

    Not so where j has the positive of i, where the positive of j is i itself, and where j is the positive of i.
    """
    shared = positive_A.unsqueeze(1) == positive_A.unsqueeze(0)
    itself = anchor_A.unsqueeze(1) == positive_A.unsqueeze(0)
    partner = positive_A.unsqueeze(1) == anchor_A.unsqueeze(0)
    return ~(shared | itself | partner)


def info_nce(
    vectors: tuple[Tensor, Tensor],
    anchor_A: Tensor,
    positive_A: Tensor,
    temperature: float,
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """Scalar: mean or sum over anchors of -log(exp(a·p / t) / sum over p and its negatives); 0 without anchors.

    `vectors`: adapted vectors of anchors and of positives, (A, a) each. The indexes tell who is whose positive;
    anchors are distinct and have text, and so have the positives. Logits are float32 or wider.
    """
    anchors, positives = (functional.normalize(v.to(torch.promote_types(v.dtype, torch.float32))) for v in vectors)
    if not len(anchors):
        return anchors.sum() + positives.sum()
    logits_AA = anchors @ positives.T / temperature
    allowed = negatives(anchor_A, positive_A).fill_diagonal_(True)
    losses = torch.logsumexp(logits_AA.masked_fill(~allowed, -torch.inf), dim=1) - logits_AA.diagonal()
    return losses.mean() if reduction == "mean" else losses.sum()
