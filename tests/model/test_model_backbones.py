"""Every backbone beside its paper's equations, written out sample by sample in plain loops; and what all must keep."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from samples import SHAPE, encoded, net
from torch import Tensor
from torch.nn import functional

from trawl.config import Config
from trawl.model.backbones import BACKBONES
from trawl.model.backbones.base import Encoded, Scores, Shape
from trawl.model.bundle import config_of
from trawl.model.keys import keys
from trawl.sections_model import BACKBONES as NAMES


def logits(found: Tensor | Scores) -> Tensor:
    return found.logit if isinstance(found, Scores) else found


def cross_vectors(it: Any, whole: Tensor, fields: Tensor) -> Tensor:
    x = whole
    for weight, bias in zip(it.cross.weight[:-1], it.cross.bias, strict=True):
        x = whole * (x @ weight) + bias + x
    return x @ it.cross.weight[-1] + it.head(whole)


def cross_matrices(it: Any, whole: Tensor, fields: Tensor) -> Tensor:
    x = whole
    for layer in it.cross:
        x = whole * (layer.weight @ x + layer.bias) + x
    return it.last(x) + it.head(whole)


def cross_mixture(it: Any, whole: Tensor, fields: Tensor) -> Tensor:
    x = whole
    for layer in it.cross:
        shares, total, r = torch.softmax(layer.gate.weight @ x, dim=0), torch.zeros_like(x), layer.rank
        for i in range(layer.experts):
            own = slice(i * r, (i + 1) * r)
            low = torch.tanh(layer.within[i].T @ torch.tanh(layer.inwards.weight[own] @ x))
            total += shares[i] * whole * (layer.outwards.weight[:, own] @ low + layer.outwards.bias)
        x = total + x
    return it.last(x) + it.head(whole)


def compressed(it: Any, whole: Tensor, fields: Tensor) -> Tensor:
    before, sums = fields, []
    for weight in it.cin.weights:
        maps = []
        for each in weight:  # (H_{l-1}, F)
            pairs = [each[i, j] * before[i] * fields[j] for i in range(len(before)) for j in range(len(fields))]
            maps.append(torch.stack(pairs).sum(dim=0))
        before = torch.stack(maps)
        sums.append(before.sum(dim=1))
    return it.first(whole) + it.head(whole) + it.last(torch.cat(sums))


def bilinear(it: Any, whole: Tensor, fields: Tensor) -> Tensor:
    share = torch.relu(it.excite.weight @ torch.relu(it.squeeze.weight @ fields.mean(dim=1)))
    pairs = []
    for part, each in ((it.plain, fields), (it.weighed, fields * share.unsqueeze(1))):
        matrices, number = part.weight.split(part.k, dim=1), 0
        for i in range(len(each)):
            for j in range(i + 1, len(each)):
                place = {"all": 0, "each": i, "interaction": number}[part.kind]
                pairs.append((each[i] @ matrices[place]) * each[j])
                number += 1
    return it.first(whole) + it.head(torch.cat(pairs))


def graph(it: Any, whole: Tensor, fields: Tensor) -> Tensor:
    count, weight = len(fields), it.edge.weight.flatten()
    edges = torch.full((count, count), -torch.inf, dtype=whole.dtype)
    for i in range(count):
        for j in range(count):
            if i != j:
                edges[i, j] = functional.leaky_relu(weight @ torch.cat([fields[i], fields[j]]))
    edges, nodes = torch.softmax(edges, dim=1), fields
    for _ in range(it.steps):
        heard = []
        for i in range(count):
            told = torch.stack([edges[i, j] * (nodes[j] @ it.outwards[j]) for j in range(count)]).sum(dim=0)
            heard.append(told @ it.inwards[i] + it.bias)
        nodes = it.gru(torch.stack(heard), nodes) + fields
    return torch.sigmoid(it.attention(nodes.flatten())) @ it.score(nodes)


def interacting(it: Any, whole: Tensor, fields: Tensor) -> Tensor:
    for layer in it.layers:
        query, key, value, residual = layer.weights.weight.chunk(4)
        heads = []
        for q, k, v in zip(query.chunk(layer.heads), key.chunk(layer.heads), value.chunk(layer.heads), strict=True):
            rows = []
            for mine in fields:
                share = torch.softmax(torch.stack([(q @ mine) @ (k @ other) for other in fields]), dim=0)
                rows.append(sum(s * (v @ other) for s, other in zip(share, fields, strict=True)))
            heads.append(torch.stack(rows))  # type: ignore[arg-type]
        fields = torch.relu(torch.cat(heads, dim=1) + fields @ residual.T)
    return it.last(fields.flatten()) + it.head(whole)


FORMULAS: list[tuple[str, tuple[str, ...], Callable[[Any, Tensor, Tensor], Tensor]]] = [
    ("dcn", ("model.cross_layers=1",), cross_vectors),
    ("dcn", ("model.cross_layers=4",), cross_vectors),
    ("dcnv2", (), cross_matrices),
    ("dcnv2", ("model.cross_rank=3", "model.cross_experts=2"), cross_mixture),
    ("xdeepfm", (), compressed),
    ("xdeepfm", ("model.cin=[4]",), compressed),
    ("xdeepfm", ("model.cin=[4,3,2]",), compressed),
    ("fibinet", ("model.bilinear=all",), bilinear),
    ("fibinet", ("model.bilinear=each",), bilinear),
    ("fibinet", ("model.bilinear=interaction",), bilinear),
    ("fignn", (), graph),
    ("autoint", (), interacting),
]


@pytest.mark.parametrize(("name", "more", "formula"), FORMULAS, ids=lambda v: str(getattr(v, "__name__", v)))
def test_a_backbone_is_the_formula_of_its_paper(
    name: str, more: tuple[str, ...], formula: Callable[[Any, Tensor, Tensor], Tensor]
) -> None:
    it, x = net(name, *more), encoded()
    parts = it.parts(x)
    fields = it.split(parts) if hasattr(it, "split") else parts[0]
    expected = [formula(it, whole, own) for whole, own in zip(torch.cat(parts, dim=1), fields, strict=True)]
    torch.testing.assert_close(it(x), torch.cat([e.reshape(1) for e in expected]))


def unit(weights: Tensor, x: Tensor, h: Tensor, a: Any = 1.0) -> Tensor:
    """A step of the recurrence for one row: DIEN eq. 2-5, with the update gate scaled by a (eq. 11-13)."""
    x_u, x_r, x_n = x.chunk(3)
    h_u, h_r, h_n = (weights @ h).chunk(3)
    u = a * torch.sigmoid(x_u + h_u)
    return (1 - u) * h + u * torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n)


def evolved(it: Any, x: Encoded, b: int) -> tuple[list[Tensor], Tensor]:
    """Interests at each position of one sample's history, and the last state of the second GRU."""
    assert x.ratings is not None
    assert x.near is not None
    there = [t for t in range(3) if x.levels[b, t] > 0]
    h, interests = torch.zeros(5, dtype=torch.float64), []
    for t in there:
        given = it.item(x.items[x.history[b, t]]) + it.rating(x.ratings[x.levels[b, t]])
        h = unit(it.extract, given, h)
        interests.append(h)
    target, state = x.items[x.target[b]], torch.zeros(5, dtype=torch.float64)
    if there:
        scores = [h @ it.query(target) + it.near * x.near[b, t] for h, t in zip(interests, there, strict=True)]
        for h, a in zip(interests, torch.softmax(torch.stack(scores), dim=0), strict=True):
            state = unit(it.evolve, it.evolving(h), state, a)
    return interests, state


def test_dien_is_the_formula_of_its_paper_with_its_auxiliary_loss() -> None:
    it, x = net("dien", "model.dien_auxiliary=0.7"), encoded()
    others = torch.tensor([[0, 5, 3], [2, 2, 6], [1, 1, 1], [3, 3, 3]])  # the first sample's last is its own next
    found = it(replace(x, others=others))
    expected, losses = [], []
    for b in range(4):
        interests, state = evolved(it, x, b)
        expected.append(it.head(torch.cat([x.user[b], x.items[x.target[b]], state, x.extra[b]])))
        there = [t for t in range(3) if x.levels[b, t] > 0]
        terms = []
        for place, t in enumerate(there[1:]):

            def told(item: Any, h: Tensor = interests[place]) -> Tensor:
                both = torch.relu(it.auxiliary.state(h) + it.auxiliary.item(x.items[item]))
                return torch.sigmoid(it.auxiliary.head(both)).squeeze()

            term = -torch.log(told(x.history[b, t]))
            if others[b, t] != x.history[b, t]:
                term = term - torch.log(1 - told(others[b, t]))
            terms.append(term)
        losses.append(0.7 * sum(terms) / max(1, len(terms)) * torch.ones((), dtype=torch.float64))
    torch.testing.assert_close(found.logit, torch.cat(expected))
    torch.testing.assert_close(found.auxiliary, torch.stack(losses))
    assert found.auxiliary[2:].tolist() == [0.0, 0.0]  # histories shorter than 2
    found.auxiliary.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in it.auxiliary.parameters())
    assert it.extract.grad.any()
    torch.testing.assert_close(it(x), found.logit)  # outside of training there is no other item, and no loss


def test_dien_has_no_parameters_of_a_loss_that_is_off() -> None:
    assert net("dien").auxiliary is None
    assert not net("dien").wants_others
    assert net("dien", "model.dien_auxiliary=0.1").wants_others


BARE = Shape(user_parts=(4,), item_parts=(4,), rating=0, levels=1, extra=0, near=False)


@pytest.mark.parametrize("shape", [SHAPE, BARE], ids=["everything", "bare"])
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_one_and_an_empty_history(name: str, shape: Shape) -> None:
    it, x = net(name, shape=shape).eval(), encoded(shape)
    if not shape.rating:
        x = replace(x, levels=(x.levels > 0).long())
    together = logits(it(x))
    assert together.shape == (4,)
    assert together.dtype == torch.float64
    for b in range(4):
        rows = {k: getattr(x, k)[b : b + 1] for k in ("user", "target", "history", "levels", "extra")}
        near = None if x.near is None else x.near[b : b + 1]
        torch.testing.assert_close(logits(it(replace(x, near=near, **rows))), together[b : b + 1])


@pytest.mark.parametrize("more", [(), ("model.cross_rank=2",), ("model.bilinear=each",)], ids=["", "low-rank", "each"])
@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_matters(name: str, more: tuple[str, ...]) -> None:
    it, x = net(name, *more), encoded(user=torch.ones(4, SHAPE.user, dtype=torch.float64))
    x.items.requires_grad_()
    logits(it(x)).sum().backward()
    idle = [place for place, p in it.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle
    assert x.items.grad is not None
    read = torch.tensor([1, 2, 3, 4, 5] if name != "din" else [1, 2, 3, 5])
    assert x.items.grad[read].any(dim=1).all()
    assert not x.items.grad[0].any()  # padding
    assert not x.items.grad[6].any()


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    it, x = net(name), encoded()
    leaves = [*it.parameters(), x.user, x.items, x.extra]
    directions = [torch.randn(p.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) for p in leaves]
    for leaf in leaves:
        leaf.requires_grad_()

    def loss() -> Tensor:
        return logits(it(x)).square().sum()

    gradients = torch.autograd.grad(loss(), leaves)
    slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
    values, step = [], 1e-6
    with torch.no_grad():
        for sign in (1, -2):
            for leaf, direction in zip(leaves, directions, strict=True):
                leaf.add_(direction, alpha=sign * step)
            values.append(loss())
    torch.testing.assert_close((values[0] - values[1]) / (2 * step), slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_the_weights(name: str) -> None:
    one, same = net(name, dtype=torch.float32), net(name, dtype=torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    x = encoded(dtype=torch.float32)
    assert torch.equal(logits(one(x)), logits(same(x)))


def test_names_of_the_recipe_are_those_that_are_built() -> None:
    assert tuple(BACKBONES) == NAMES


def test_keys_of_one_backbone_change_no_other_model() -> None:
    every = {name: set(keys(Config().override(f"model.backbone={name}"))) for name in (*NAMES, "some.where:Net")}
    own = {key for key in every["some.where:Net"] if key.startswith("model.")}
    for name in NAMES:
        assert {key for key in every[name] if key.startswith("model.")} < own
    assert "model.cin" in every["xdeepfm"] - every["dcn"]
    assert "model.attention" in every["din"] - every["dien"]
    assert "model.dien_auxiliary" in every["dien"]
    assert "model.hidden" not in every["fignn"]
    low = keys(Config().override("model.backbone=dcnv2", "model.cross_rank=4"))
    assert set(low) - every["dcnv2"] == {"model.cross_experts"}


@pytest.mark.parametrize("setting", ["model.similarity=false", "model.init=llm", "model.adapted_similarity=true"])
def test_a_card_says_what_is_switched_off_whatever_the_defaults_are(setting: str) -> None:
    cfg = Config().override(setting)
    card = {"config": {key: cfg.get(key) for key in keys(cfg)}, "texts": True}
    read = config_of(card, "here")
    assert [read.get(f"model.{key}") for key in ("similarity", "adapted_similarity", "init", "injection", "side")] == [
        cfg.get(f"model.{key}") for key in ("similarity", "adapted_similarity", "init", "injection", "side")
    ]
