"""InfoNCE against a plain loop; every mask changes the loss."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trawl.model.contrastive import info_nce, info_nce_drawn, negatives

Pair = tuple[torch.Tensor, torch.Tensor]


def reference(vectors: Pair, anchor: list[int], positive: list[int], t: float, masks: str = "sipd") -> list[float]:
    """The loss of each anchor, written out. `masks`: s(hared), i(tself), p(artner), d(uplicate anchor)."""
    a, p = (torch.nn.functional.normalize(v) for v in vectors)
    out = []
    for i in range(len(anchor)):
        own = math.exp(float(a[i] @ p[i]) / t)
        total = own
        for j in range(len(anchor)):
            shared = "s" in masks and positive[j] == positive[i]
            itself = "i" in masks and positive[j] == anchor[i]
            partner = "p" in masks and anchor[j] == positive[i]
            same = "d" in masks and anchor[j] == anchor[i]
            if j != i and not (shared or itself or partner or same):
                total += math.exp(float(a[i] @ p[j]) / t)
        out.append(-math.log(own / total))
    return out


def drawn(count: int, *shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *shape, 4, generator=generator, dtype=torch.float64)


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_the_loss_is_that_of_a_plain_loop(anchor: list[int], random: object) -> None:
    positive = [random.choice([k for k in range(1, 10) if k != a]) for a in anchor]  # type: ignore[attr-defined]
    vectors = (drawn(len(anchor)), drawn(len(anchor), seed=1))
    expected = reference(vectors, anchor, positive, 0.15)
    ids = (torch.tensor(anchor), torch.tensor(positive))
    mean = info_nce(vectors, *ids, temperature=0.15)
    total = info_nce(vectors, *ids, temperature=0.15, reduction="sum")
    assert float(mean) == pytest.approx(sum(expected) / len(expected))
    assert float(total) == pytest.approx(sum(expected))


# What each mask is for, and rows in which it alone is at work.
ALONE = {
    "s": ([1, 2, 3], [9, 9, 8]),  # 1 and 2 share a positive
    "i": ([1, 2, 3], [7, 1, 8]),  # the positive of 2 is the anchor 1
    "p": ([1, 7, 3], [7, 5, 8]),  # 7 is an anchor itself, and the positive of 1
    "d": ([1, 1, 3], [7, 5, 8]),  # 1 stands twice
}


@pytest.mark.parametrize("mask", ALONE)
def test_each_mask_changes_the_loss(mask: str) -> None:
    anchor, positive = ALONE[mask]
    vectors = (drawn(3), drawn(3, seed=1))
    loss = info_nce(vectors, torch.tensor(anchor), torch.tensor(positive), 0.15, "sum")
    assert float(loss) == pytest.approx(sum(reference(vectors, anchor, positive, 0.15)))
    without = sum(reference(vectors, anchor, positive, 0.15, "sipd".replace(mask, "")))
    assert float(loss) < without - 1e-3


def test_other_known_partners_are_no_negatives() -> None:
    vectors, ids = (drawn(3), drawn(3, seed=1)), (torch.tensor([1, 2, 3]), torch.tensor([7, 8, 9]))
    known = torch.zeros(3, 3, dtype=torch.bool)
    plain = info_nce(vectors, *ids, 0.15, "sum")
    assert float(info_nce(vectors, *ids, 0.15, "sum", known)) == float(plain)
    known[0, 2] = True  # 9 is a partner of 1 too
    masked = info_nce(vectors, *ids, 0.15, "sum", known)
    a, p = (torch.nn.functional.normalize(v) for v in vectors)
    row = torch.exp(a[0] @ p.T / 0.15)
    expected = torch.log(row.sum() / row[0]) - torch.log((row[0] + row[1]) / row[0])
    assert float(plain - masked) == pytest.approx(float(expected)) != 0
    known.fill_diagonal_(True)  # an anchor's own positive stays its positive
    assert float(info_nce(vectors, *ids, 0.15, "sum", known)) == pytest.approx(float(masked))


@pytest.mark.parametrize("side", ["anchor", "positive"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_rows_without_a_pair_are_neither_anchor_nor_negative(side: str, reduction: str) -> None:
    anchor, positive = torch.tensor([1, 2, 3, 4]), torch.tensor([6, 7, 8, 9])
    (anchor if side == "anchor" else positive)[1] = 0
    vectors, keep = (drawn(4), drawn(4, seed=1)), torch.tensor([0, 2, 3])
    found = info_nce(vectors, anchor, positive, 0.15, reduction)  # type: ignore[arg-type]
    rest = info_nce((vectors[0][keep], vectors[1][keep]), anchor[keep], positive[keep], 0.15, reduction)  # type: ignore[arg-type]
    assert float(found) == pytest.approx(float(rest))


def test_shared_positives_and_partners_are_no_negatives() -> None:
    anchor, positive = torch.tensor([1, 2, 3, 4]), torch.tensor([9, 9, 1, 8])
    allowed = negatives(anchor, positive)
    assert not allowed[0, 1]  # 2 has the positive of 1
    assert not allowed[1, 0]
    assert not allowed[0, 2]  # the positive of 3 is 1 itself
    assert not allowed[2, 0]  # 1 is the positive of 3
    assert allowed[0, 3]
    assert allowed[3, 0]


def test_drawn_negatives_are_those_of_a_plain_loop() -> None:
    vectors, negative = (drawn(3), drawn(3, seed=1), drawn(3, 2, seed=2)), torch.tensor([[4, 5], [0, 6], [0, 0]])
    a, p, n = (torch.nn.functional.normalize(v, dim=-1) for v in vectors)
    expected = []
    for i in range(3):
        own = math.exp(float(a[i] @ p[i]) / 0.2)
        rest = sum(math.exp(float(a[i] @ n[i, m]) / 0.2) for m in range(2) if negative[i, m] > 0)
        expected.append(math.log((own + rest) / own))
    positive = torch.tensor([7, 8, 9])
    assert float(info_nce_drawn(vectors, positive, negative, 0.2, "sum")) == pytest.approx(sum(expected))
    assert float(info_nce_drawn(vectors, positive, negative, 0.2)) == pytest.approx(sum(expected) / 3)
    positive[0] = 0
    assert float(info_nce_drawn(vectors, positive, negative, 0.2, "sum")) == pytest.approx(sum(expected[1:]))
    assert expected[2] == 0  # without a negative there is nothing to push away


def test_no_anchor_gives_zero_with_a_gradient() -> None:
    vectors = torch.zeros(0, 4, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    for loss in (
        info_nce((vectors, vectors), none, none, temperature=0.1),
        info_nce_drawn((vectors, vectors, vectors.view(0, 2, 4)), none, none.view(0, 2), temperature=0.1),
    ):
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
