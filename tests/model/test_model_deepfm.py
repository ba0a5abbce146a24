"""DeepFM: its formula written out, a world that only a pair of fields explains, no leak between samples of a batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from trawl.config import Config
from trawl.model.backbones.base import Encoded, Shape
from trawl.model.backbones.deepfm import DeepFm, second_order

CFG = Config().override("model.backbone=deepfm", "model.embedding=4", "model.hidden=[6]").model
SHAPE = Shape(user_parts=(4, 3), item_parts=(4, 5, 4), rating=2, levels=2, extra=3, near=False)


def encoded(shape: Shape = SHAPE) -> Encoded:
    """Two samples; the second one's history is shorter."""
    generator = torch.Generator().manual_seed(3)
    return Encoded(
        user=torch.randn(2, shape.user, generator=generator),
        items=torch.randn(6, shape.item, generator=generator),
        target=torch.tensor([1, 4]),
        history=torch.tensor([[3, 2, 3], [5, 1, 0]]),
        levels=torch.tensor([[0, 2, 1], [0, 0, 2]]),
        ratings=torch.randn(3, shape.rating, generator=generator) if shape.rating else None,
        extra=torch.randn(2, shape.extra, generator=generator),
        near=None,
    )


def pairwise(fields: list[torch.Tensor]) -> torch.Tensor:
    """Sum over pairs of inner products, pair by pair."""
    return sum((a @ b for i, a in enumerate(fields) for b in fields[i + 1 :]), torch.tensor(0.0))


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 4), st.integers(0, 100))
def test_the_second_order_is_the_sum_over_pairs(batch: int, fields: int, width: int, seed: int) -> None:
    x = torch.randn(batch, fields, width, generator=torch.Generator().manual_seed(seed))
    expected = torch.stack([pairwise(list(sample)) for sample in x])
    torch.testing.assert_close(second_order(x), expected, atol=1e-5, rtol=1e-5)


def by_hand(net: DeepFm, x: Encoded) -> torch.Tensor:
    """First order + pairs of fields + deep part, sample by sample, history position by position."""
    assert net.level is not None
    assert net.dense is not None
    assert x.ratings is not None
    out = []
    for b in range(len(x.target)):
        there = [h for h in range(3) if x.levels[b, h] > 0]
        items = [x.items[x.history[b, h]] for h in there]
        weights = [net.level[x.levels[b, h]] for h in there]
        ratings = [x.ratings[x.levels[b, h]] for h in there]
        mean = sum(items) / len(there)
        weighed = sum(w * i for w, i in zip(weights, items, strict=True)) / len(there)
        rated = sum(ratings) / len(there)
        target = x.items[x.target[b]]
        assert isinstance(mean, torch.Tensor)
        assert isinstance(weighed, torch.Tensor)
        assert isinstance(rated, torch.Tensor)
        fields = []
        for side, vector in ((net.user, x.user[b]), (net.item, target), (net.item, mean), (net.item, weighed)):
            pieces = torch.split(vector, list(side.parts))
            fields += [layer(piece) for layer, piece in zip(side.layers, pieces, strict=True)]
        fields += [net.rating.layers[0](rated), x.extra[b] @ net.dense.weight.T]
        whole = torch.cat([x.user[b], target, mean, weighed, rated, x.extra[b]])
        out.append(net.first(whole) + net.head(whole) + pairwise(fields))
    return torch.cat(out)


def test_deepfm_is_the_formula_of_its_paper() -> None:
    torch.manual_seed(1)
    net = DeepFm(SHAPE, CFG)
    torch.testing.assert_close(net(encoded()), by_hand(net, encoded()))


@pytest.mark.parametrize(
    "shape",
    [
        Shape(user_parts=(4,), item_parts=(4,), rating=0, levels=5, extra=0, near=False),
        Shape(user_parts=(4,), item_parts=(4, 9), rating=4, levels=1, extra=0, near=False),
    ],
    ids=["bare", "one-level"],
)
def test_parts_that_are_not_there_are_no_fields(shape: Shape) -> None:
    net, x = DeepFm(shape, CFG), encoded(shape)
    assert net.dense is None
    assert net.level is None
    assert net(x).shape == (2,)
    empty = Encoded(x.user, x.items, x.target, x.history, torch.zeros_like(x.levels), x.ratings, x.extra, None)
    assert torch.isfinite(net(empty)).all()  # a mean over nothing is zero


def test_what_only_a_pair_of_fields_tells_is_learned() -> None:
    """Label = (kind of user == kind of item): no single field tells anything, and the deep part is linear here."""
    cfg = Config().override("model.backbone=deepfm", "model.embedding=4", "model.hidden=[]").model
    torch.manual_seed(0)
    shape = Shape(user_parts=(4,), item_parts=(4,), rating=0, levels=1, extra=0, near=False)
    net, tables = DeepFm(shape, cfg), torch.nn.ParameterList([torch.randn(20, 4) * 0.1 for _ in range(2)])
    user, item = torch.cartesian_prod(torch.arange(20), torch.arange(20)).unbind(1)
    label = (user % 2 == item % 2).float()
    held_out = torch.rand(400) < 0.25
    none = torch.zeros(len(user), 1, dtype=torch.int64)

    def logits() -> torch.Tensor:
        out: torch.Tensor = net(Encoded(tables[0][user], tables[1], item, none, none, None, torch.zeros(400, 0), None))
        return out

    optimizer = torch.optim.Adam([*net.parameters(), *tables], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(logits()[~held_out], label[~held_out])
        loss.backward()
        optimizer.step()
    assert ((logits() > 0).float() == label)[held_out].float().mean() > 0.95
    with torch.no_grad():  # and without the pairs it is lost
        first = logits() - second_order(torch.stack([tables[0][user], tables[1][item], torch.zeros(400, 4)], dim=1))
    assert ((first > 0).float() == label).float().mean() < 0.7


def test_level_weights_begin_in_the_order_of_the_ratings_and_learn() -> None:
    net = DeepFm(Shape(user_parts=(4,), item_parts=(4,), rating=4, levels=5, extra=0, near=False), CFG)
    assert net.level is not None
    assert net.level.flatten().tolist() == [0.0, -1.0, -0.5, 0.0, 0.5, 1.0]
    net = DeepFm(SHAPE, CFG)
    net(encoded()).sum().backward()
    assert net.level is not None
    assert net.level.grad is not None
    assert net.level.grad[0] == 0  # padding
    assert (net.level.grad[1:] != 0).all()
