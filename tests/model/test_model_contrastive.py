"""InfoNCE against a plain loop, with every mask."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trawl.model.contrastive import info_nce, negatives


def reference(
    vectors: tuple[torch.Tensor, torch.Tensor], anchor: list[int], positive: list[int], t: float
) -> list[float]:
    """The loss of each anchor, written out."""
    a, p = (torch.nn.functional.normalize(v) for v in vectors)
    out = []
    for i in range(len(anchor)):
        own = math.exp(float(a[i] @ p[i]) / t)
        total = own
        for j in range(len(anchor)):
            shared = positive[j] == positive[i]
            itself = positive[j] == anchor[i]
            partner = anchor[j] == positive[i]
            if j != i and not (shared or itself or partner):
                total += math.exp(float(a[i] @ p[j]) / t)
        out.append(-math.log(own / total))
    return out


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=9, unique=True), st.randoms(use_true_random=False))
def test_the_loss_is_that_of_a_plain_loop(anchor: list[int], random: object) -> None:
    positive = [random.choice([k for k in range(1, 10) if k != a]) for a in anchor]  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(len(anchor))
    vectors = tuple(torch.randn(len(anchor), 4, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = reference(vectors, anchor, positive, 0.15)  # type: ignore[arg-type]
    ids = (torch.tensor(anchor), torch.tensor(positive))
    mean = info_nce(vectors, *ids, temperature=0.15)  # type: ignore[arg-type]
    total = info_nce(vectors, *ids, temperature=0.15, reduction="sum")  # type: ignore[arg-type]
    assert float(mean) == pytest.approx(sum(expected) / len(expected))
    assert float(total) == pytest.approx(sum(expected))


def test_shared_positives_and_partners_are_no_negatives() -> None:
    anchor, positive = torch.tensor([1, 2, 3, 4]), torch.tensor([9, 9, 1, 8])
    allowed = negatives(anchor, positive)
    assert not allowed[0, 1]  # 2 has the positive of 1
    assert not allowed[1, 0]
    assert not allowed[0, 2]  # the positive of 3 is 1 itself
    assert not allowed[2, 0]  # 1 is the positive of 3
    assert allowed[0, 3]
    assert allowed[3, 0]


def test_no_anchor_gives_zero_with_a_gradient() -> None:
    vectors = torch.zeros(0, 4, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    loss = info_nce((vectors, vectors), none, none, temperature=0.1)
    loss.backward()
    assert float(loss.detach()) == 0.0


def test_the_loss_falls_when_positives_come_nearer() -> None:
    anchor, positive = torch.tensor([1, 2]), torch.tensor([3, 4])
    near = torch.eye(2)
    far = near.flip(0)
    assert float(info_nce((near, near), anchor, positive, 0.1)) < float(info_nce((near, far), anchor, positive, 0.1))


def test_logits_are_at_least_float32() -> None:
    half = torch.randn(3, 4).to(torch.bfloat16)
    loss = info_nce((half, half), torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6]), 0.1)
    assert loss.dtype == torch.float32
