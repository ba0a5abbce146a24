"""Parts of the model: what reads what, which parameters learn from which loss, unknown ids."""

import numpy as np
import pytest
import torch
from small import REPLACE
from three_rows import batch
from torch.nn import functional

from trawl import uses
from trawl.config import Config
from trawl.errors import ConfigError
from trawl.model import similarity
from trawl.model.adapters import Adapter, MixtureOfExperts, TwoLayers
from trawl.model.backbones import BACKBONES, backbone
from trawl.model.backbones.base import Encoded, Shape
from trawl.model.backbones.din import Din
from trawl.model.contrastive import info_nce
from trawl.model.features import Ids, distinct, dropped
from trawl.model.recommender import Recommender, Sizes
from trawl.model.world import Entities, Frozen, Pairs, Seen, World

USERS, ITEMS, WIDTH = 7, 9, 5


def settings(*more: str) -> Config:
    small = ("model.embedding=4", "model.hidden=[6]", "model.attention=[5]", "model.history=3", "model.adapter_dim=3")
    return Config().override("extraction.source=raw", "model.expert_hidden=4", *REPLACE, *small, *more)


def world() -> World:
    generator = torch.Generator().manual_seed(0)
    sides = []
    for count in (USERS, ITEMS):
        vectors = torch.randn(count + 1, WIDTH, generator=generator)
        text = torch.arange(count + 1) % 4 != 0
        rows = torch.arange(count + 1) * (torch.arange(count + 1) < count)  # the last one is unknown
        near = functional.normalize(vectors) * text.unsqueeze(-1)
        frozen = Frozen(vectors, vectors.mean(0), 1.0)
        sides.append(
            Entities(rows, {"kind": torch.randint(1, 4, (count + 1, 1), generator=generator)}, frozen, text, near)
        )
    return World(*sides)


def model(cfg: Config) -> Recommender:
    torch.manual_seed(0)
    sizes = Sizes(
        user_rows=USERS,
        item_rows=ITEMS,
        user_fields={"kind": 4},
        item_fields={"kind": 4},
        levels=5,
        user_vector=WIDTH,
        item_vector=WIDTH,
    )
    return Recommender(sizes, cfg)


ARMS = [
    ("extraction.source=none",),
    ("model.adapter=linear",),
    ("model.adapter=mlp",),
    ("model.adapter=raw",),
    ("model.injection=add",),
    ("model.side=item",),
    ("model.injection=none", "model.similarity=true"),
    ("model.similarity=true", "model.adapted_similarity=true"),
]


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: "+".join(s.split(".")[1] for s in arm))
def test_every_parameter_learns_from_the_joint_loss(arm: tuple[str, ...], name: str) -> None:
    contrastive = () if "model.adapter=raw" in arm else ("training.w_item=1", "training.w_user=1")
    cfg = settings(*arm, *contrastive, f"model.backbone={name}", "model.id_dropout=0.5")
    net = model(cfg).train()
    pairs = Pairs(torch.tensor([1, 2, 3]), torch.tensor([5, 3, 7]))
    users = Pairs(torch.tensor([1, 2]), torch.tensor([3, 5]))
    given = {"items": pairs} if uses.weight(cfg, "item") else {}
    given |= {"users": users} if uses.weight(cfg, "user") else {}
    output = net(batch(salt=3, **given), world())
    loss = functional.binary_cross_entropy_with_logits(output.logit, batch().label)
    if output.items is not None:
        loss = loss + info_nce(output.items, pairs.anchor, pairs.positive, 0.2)
    if output.users is not None:
        loss = loss + info_nce(output.users, users.anchor, users.positive, 0.2)
    loss.backward()
    for place, parameter in net.named_parameters():
        assert parameter.grad is not None, place
        assert torch.isfinite(parameter.grad.to_dense()).all(), place
    assert (net.item.adapter is not None) == uses.adapts(cfg, "item")


def test_the_contrastive_loss_reaches_the_adapter_alone() -> None:
    net = model(settings("training.w_item=1")).train()
    pairs = Pairs(torch.tensor([1, 2, 3]), torch.tensor([5, 3, 7]))
    output = net(batch(items=pairs), world())
    assert output.items is not None
    info_nce(output.items, pairs.anchor, pairs.positive, 0.2).backward()
    moved = {n for n, p in net.named_parameters() if p.grad is not None and p.grad.to_dense().abs().sum() > 0}
    assert moved
    assert all(name.startswith("item.adapter.body") for name in moved)


@pytest.mark.parametrize("name", BACKBONES)
def test_without_texts_the_model_has_no_knowledge(name: str) -> None:
    net = model(
        settings(f"model.backbone={name}", "extraction.source=none", "model.similarity=true", "training.w_item=1")
    )
    assert net.item.adapter is None
    assert net.user.adapter is None
    bare = World(*(Entities(side.rows, side.fields) for side in (world().users, world().items)))
    assert torch.equal(net.eval()(batch(seen=None), bare).logit, net(batch(), world()).logit)


def test_entities_without_text_share_a_learned_default() -> None:
    adapter = Adapter(WIDTH, settings().model)
    with torch.no_grad():
        adapter.default.fill_(2.0)
    out = adapter(torch.randn(3, WIDTH), torch.tensor([True, False, False]))
    assert (out[1:] == 2.0).all()
    assert (out[0] != 2.0).any()


def test_the_mixture_is_the_gated_sum_of_its_experts() -> None:
    moe = MixtureOfExperts(WIDTH, settings("model.experts=3").model)
    experts = moe.experts
    with torch.no_grad():
        experts.bias.normal_()
    vectors = torch.randn(4, WIDTH)
    share = torch.softmax(vectors @ moe.gate.weight.T + moe.gate.bias, dim=1)
    expected = torch.zeros(4, moe.out)
    for e in range(3):
        own = slice(e * experts.hidden, (e + 1) * experts.hidden)
        hidden = torch.relu(vectors @ experts.first.weight[own].T + experts.first.bias[own])
        expected += share[:, e : e + 1] * (hidden @ experts.second[own] + experts.bias[e])
    torch.testing.assert_close(moe(vectors), expected)
    assert torch.equal(moe.load(vectors).sum(1).round(decimals=5), torch.ones(4))


def test_din_is_the_formula_of_its_paper() -> None:
    """Against the attention unit written with [k, q, k - q, k * q] and one weight matrix."""
    torch.manual_seed(1)
    shape = Shape(user_parts=(2,), item_parts=(3,), rating=2, levels=2, extra=1, near=True)
    din = Din(shape, settings("model.attention=[5,4]").model)
    with torch.no_grad():
        assert din.near is not None
        din.near.normal_()
    given = Encoded(
        user=torch.randn(2, 2),
        items=torch.randn(6, 3),
        target=torch.tensor([1, 4]),
        history=torch.tensor([[0, 2, 3], [5, 1, 0]]),
        levels=torch.tensor([[0, 2, 1], [1, 1, 2]]),
        ratings=torch.randn(3, 2),
        extra=torch.randn(2, 1),
        near=torch.randn(2, 3),
    )
    third = torch.randn(5, 3)  # the columns of k - q: any will do, when those of k and q make up for it
    assert din.rating is not None
    columns = (din.key.weight - third, din.query.weight + third, third, din.product.weight, din.rating.weight)
    whole = torch.cat([*columns, din.near.unsqueeze(1)], dim=1)
    assert given.ratings is not None
    assert given.near is not None
    pooled, rated = torch.zeros(2, 3), torch.zeros(2, 2)
    for b in range(2):
        for h in range(3):
            k, q, r = given.items[given.history[b, h]], given.items[given.target[b]], given.ratings[given.levels[b, h]]
            unit = torch.cat([k, q, k - q, k * q, r, given.near[b, h].view(1)])
            weight = din.attention(torch.relu(whole @ unit + din.key.bias)) * (given.levels[b, h] > 0)
            pooled[b] += weight * k
            rated[b] += weight * r
    expected = din.head(torch.cat([given.user, given.items[given.target], pooled, given.extra, rated], dim=1))
    torch.testing.assert_close(din(given), expected.squeeze(-1))


def test_two_layers_are_two_matrix_products_with_a_relu_between() -> None:
    adapter = Adapter(WIDTH, settings("model.adapter=mlp").model).body
    assert isinstance(adapter, TwoLayers)
    one, two = adapter.layers[0], adapter.layers[2]
    vectors = torch.randn(4, WIDTH)
    expected = torch.relu(vectors @ one.weight.T + one.bias) @ two.weight.T + two.bias
    torch.testing.assert_close(adapter(vectors), expected)
    assert (one.out_features, adapter.out) == (4, 3)
    assert (adapter(torch.randn(200, WIDTH)) < 0).any()  # the last layer is linear


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: "+".join(s.split(".")[1] for s in arm))
def test_a_logit_does_not_depend_on_the_rest_of_the_batch(arm: tuple[str, ...], name: str) -> None:
    net, whole = model(settings(*arm, f"model.backbone={name}")).eval(), batch()
    together = net(whole, world()).logit
    seen = (([3], [0, 1]), ([6], [0, 0]), ([4], [0, 1]))  # user 2 disliked an item, the others liked one
    for i, (items, offsets) in enumerate(seen):
        alone = batch(
            **{k: getattr(whole, k)[i : i + 1] for k in ("user", "item", "history", "levels", "rate", "label")},
            seen=Seen(torch.tensor(items), torch.tensor(offsets), torch.tensor([0])),
        )
        torch.testing.assert_close(net(alone, world()).logit[0], together[i])


@pytest.mark.parametrize("name", BACKBONES)
def test_padding_does_not_matter(name: str) -> None:
    net = model(settings(f"model.backbone={name}", "model.similarity=true", "model.adapted_similarity=true")).eval()
    padded = batch()
    changed = batch(history=torch.where(padded.levels > 0, padded.history, 8))
    torch.testing.assert_close(net(padded, world()).logit, net(changed, world()).logit)


@pytest.mark.parametrize("name", BACKBONES)
def test_distinct_ids_give_what_the_whole_table_gives(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    net = model(settings(f"model.backbone={name}", "model.similarity=true", "model.adapted_similarity=true")).eval()
    logits = []
    for often in (0, 10**6):
        monkeypatch.setattr("trawl.model.features._OFTEN", often)
        logits.append(net(batch(), world()).logit)
    torch.testing.assert_close(*logits)
    ids, (place,) = distinct(100, torch.tensor([[7, 3], [7, 7]]))
    assert ids is not None
    assert ids.tolist() == [3, 7]
    assert place.tolist() == [[1, 0], [1, 1]]


def test_whole_ids_are_dropped_at_the_asked_share_and_the_unknown_row_learns() -> None:
    rows = torch.arange(20000)
    for share in (0.05, 0.5):
        assert float(dropped(rows, share, 12345).double().mean()) == pytest.approx(share, abs=0.015)
    assert not torch.equal(dropped(rows, 0.5, 1), dropped(rows, 0.5, 2))
    table = Ids(10, 2, 0.5, sparse=False).train()
    twice = torch.tensor([3, 3, 4, 5, 6, 7])
    out = table(twice, salt=5)
    assert torch.equal(out[0], out[1])  # an id is dropped as a whole
    out.sum().backward()
    assert table.weight.grad is not None
    assert table.weight.grad[0].abs().sum() > 0
    assert torch.equal(table.eval()(twice, salt=5), table.weight[twice])


@pytest.mark.parametrize("name", BACKBONES)
def test_unknown_users_and_items_read_row_0(name: str) -> None:
    net, one = model(settings(f"model.backbone={name}", "extraction.source=none")).eval(), world()
    with torch.no_grad():
        before = net(batch(user=torch.tensor([USERS] * 3), item=torch.tensor([ITEMS] * 3)), one).logit
        net.user.ids.weight[0] += 1.0
        net.item.ids.weight[0] += 1.0
        after = net(batch(user=torch.tensor([USERS] * 3), item=torch.tensor([ITEMS] * 3)), one).logit
    assert (before != after).all()


def test_similarity_features_by_hand() -> None:
    near = functional.normalize(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    history, levels = torch.tensor([[0, 2, 3]]), torch.tensor([[0, 1, 2]])
    cosines = similarity.to_history(near, torch.tensor([1]), history)
    half = 0.5**0.5
    torch.testing.assert_close(cosines, torch.tensor([[0.0, 0.0, half]]))
    found = similarity.history_features(cosines, levels, 2)
    torch.testing.assert_close(found, torch.tensor([[0.0, half, half, half / 2]]))
    empty = similarity.history_features(cosines, torch.zeros(1, 3, dtype=torch.int64), 2)
    assert empty.tolist() == [[0.0] * 4]
    seen = Seen(torch.tensor([1, 2, 2]), torch.tensor([0, 2]), torch.tensor([0]))  # liked: 1 and 2; disliked: 2
    both = similarity.to_seen(near, torch.tensor([1]), seen, seen.items)
    torch.testing.assert_close(both, torch.tensor([[half, 0.0]]))


def test_principal_axes_carry_the_variance_and_have_settled_signs() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 6)) * np.array([5, 0.1, 3, 0.1, 0.0, 0.1])
    mean, axes = similarity.principal(rows, 2)
    projected = (rows - mean) @ axes
    assert projected.var(axis=0).sum() / rows.var(axis=0).sum() > 0.99
    again = similarity.principal(rows[::-1].copy(), 2)[1]
    np.testing.assert_allclose(axes, again, atol=1e-9)
    assert similarity.principal(rows, 64)[1].shape == (6, 6)


def test_a_constant_dimension_is_no_trouble_and_large_matrices_are_read_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.randn(6, 3).to(torch.float16)
    matrix[:, 1] = 0.25
    centre = matrix.double().mean(0)
    small = Frozen(matrix, centre, 2.0)
    monkeypatch.setattr("trawl.model.world._IN_MEMORY", 1)
    large = Frozen(matrix, centre, 2.0)
    ids = torch.tensor([4, 1])
    torch.testing.assert_close(small.rows(ids), large.rows(ids))
    torch.testing.assert_close(large.rows(None), (matrix.float() - centre.float()) * 2.0)
    assert torch.isfinite(small.rows(None)).all()


def test_an_unknown_backbone_is_named() -> None:
    with pytest.raises(ConfigError, match="no backbone 'dan'; there are din, dien, deepfm"):
        backbone("dan")
