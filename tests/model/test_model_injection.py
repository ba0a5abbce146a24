"""Injection of knowledge: where each way lets it in, detached adapters, several sources, experts of both sides."""

from dataclasses import replace

import pytest
import torch
from small import REPLACE
from three_rows import batch
from torch import Tensor
from torch.nn import functional

from trawl import uses
from trawl.config import Config
from trawl.errors import ConfigError
from trawl.model.adapters import Adapters, HybridExperts
from trawl.model.backbones import BACKBONES
from trawl.model.keys import keys
from trawl.model.recommender import Recommender, Sizes, prestored
from trawl.model.world import Entities, Frozen, Pairs, Stacked, World

USERS, ITEMS, WIDTH, FACTS = 7, 9, 5, 6
INJECTIONS = {
    "replace": ("model.injection=replace",),
    "replace-target": ("model.injection=replace", "model.history_knowledge=false"),
    "add": ("model.injection=add",),
    "add-target": ("model.injection=add", "model.history_knowledge=false"),
    "concat": ("model.injection=concat",),
    "fields": ("model.injection=fields",),
}
TWO = "model.knowledge=['text','kg']"
ADAPTERS = {
    **{name: (f"model.adapter={name}",) for name in ("raw", "linear", "mlp", "moe", "hybrid")},
    "relu": ("model.adapter=hybrid", "model.expert_last=relu"),
    "two": (TWO, "model.adapter=hybrid"),
    "gate": (TWO, "model.combine=gate"),
    "adapted": ("model.adapted_similarity=true", "model.similarity=true", "model.similarity_of=['cf','text']"),
}

CELLS = [(injection, adapter, "din") for injection in INJECTIONS for adapter in ADAPTERS]
CELLS += [(injection, "hybrid", name) for injection in INJECTIONS for name in BACKBONES if name != "din"]


def settings(*more: str) -> Config:
    small = ("model.embedding=4", "model.hidden=[6]", "model.attention=[5]", "model.history=3", "model.adapter_dim=3")
    return Config().override("extraction.source=raw", "model.expert_hidden=4", *REPLACE, *small, *more)


def world(cfg: Config, seed: int = 0) -> World:
    """Nobody knows the entities 0, 4, 8 by text, nor the items 0, 5 by facts; the last of each side is new."""
    generator = torch.Generator().manual_seed(seed)
    sides = []
    for side, count in zip(uses.SIDES, (USERS, ITEMS), strict=True):
        there = torch.arange(count + 1)
        parts = {"user": (WIDTH, there % 4 != 0), "item": (WIDTH, there % 4 != 0), "facts": (FACTS, there % 5 != 0)}
        matrices = {name: torch.randn(count + 1, d, generator=generator) for name, (d, _) in parts.items()}
        read = uses.sources(cfg, side)
        frozen = [Frozen(matrices[name], torch.zeros(parts[name][0]), 1.0) for name in read]
        texts = [parts[name][1] for name in read]
        near = [functional.normalize(torch.randn(count + 1, 3, generator=generator)) for _ in uses.similar(cfg)]
        kind = torch.randint(1, 4, (count + 1, 1), generator=generator)
        vectors, text = Stacked(frozen) if len(frozen) > 1 else frozen[0], torch.stack(texts, dim=1).squeeze(1)
        first = near[0] if near else None
        sides.append(Entities(there * (there < count), {"kind": kind}, vectors, text, first, None, tuple(near[1:])))
    return World(*sides)


def model(cfg: Config) -> Recommender:
    torch.manual_seed(0)
    fields = {"kind": 4}
    vectors = {"user_vector": WIDTH, "item_vector": WIDTH, "item_facts": FACTS}
    net = Recommender(
        Sizes(user_rows=USERS, item_rows=ITEMS, user_fields=fields, item_fields=fields, levels=5, **vectors), cfg
    )
    with torch.no_grad():  # what is zero at first would hide what reads it
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return net


def changed(one: World, item: int) -> World:
    """The same world, where an item's text says something else."""
    assert one.items.vectors is not None
    rows = one.items.vectors.rows(None).clone()
    rows[item] += 1.0
    return replace(one, items=replace(one.items, vectors=Frozen(rows, torch.zeros(rows.shape[1]), 1.0)))


@pytest.mark.parametrize(("injection", "adapter", "backbone"), CELLS)
def test_detached_vectors_give_the_logits_of_the_adapter(injection: str, adapter: str, backbone: str) -> None:
    cfg = settings(*INJECTIONS[injection], *ADAPTERS[adapter], f"model.backbone={backbone}")
    net, attached = model(cfg).eval(), world(cfg)
    with torch.inference_mode():
        expected = net(batch(), attached).logit
        sides = []
        for side, entities in ((net.user, attached.users), (net.item, attached.items)):
            stored = side.adapted(entities, None)
            assert stored is not None
            sides.append(replace(entities, vectors=None, adapted=stored))
            assert side.adapter is not None
            assert torch.equal(stored[0], side.adapter.default), "unknown ids read the default vector"
        torch.testing.assert_close(net(batch(), World(*sides)).logit, expected, rtol=1e-5, atol=1e-6)
        whole = World(sides[0], prestored(net.item, sides[1]))
        torch.testing.assert_close(net(batch(), whole).logit, expected, rtol=1e-5, atol=1e-6)
    assert expected.std() > 0


@pytest.mark.parametrize("backbone", BACKBONES)
def test_prestored_items_are_those_of_the_model_and_training_does_not_read_them(backbone: str) -> None:
    cfg = settings("model.injection=replace", f"model.backbone={backbone}")
    net, plain = model(cfg).eval(), world(cfg)
    whole = replace(plain, items=prestored(net.item, plain.items))
    with torch.no_grad():
        torch.testing.assert_close(net(batch(), whole).logit, net(batch(), plain).logit, rtol=1e-5, atol=1e-6)
        assert whole.items.whole is not None
        whole.items.whole.normal_()
        assert not torch.equal(net(batch(), whole).logit, net(batch(), plain).logit)
        net.train()
        assert torch.equal(net(batch(salt=1), whole).logit, net(batch(salt=1), plain).logit)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("injection", INJECTIONS)
def test_knowledge_enters_where_the_injection_says(injection: str, backbone: str) -> None:
    cfg = settings(*INJECTIONS[injection], f"model.backbone={backbone}")
    net, one = model(cfg).eval(), world(cfg)
    before = net(batch(), one).logit
    target = net(batch(), changed(one, 1)).logit
    assert target[0] != before[0]
    torch.testing.assert_close(target[1:], before[1:])
    history = net(batch(), changed(one, 3)).logit
    assert (history[0] != before[0]) == (injection in ("replace", "add"))
    torch.testing.assert_close(history[1:], before[1:])


@pytest.mark.parametrize(("injection", "adapter", "backbone"), CELLS)
def test_every_parameter_learns(injection: str, adapter: str, backbone: str) -> None:
    cfg = settings(*INJECTIONS[injection], *ADAPTERS[adapter], f"model.backbone={backbone}", "model.id_dropout=0.5")
    net = model(cfg).train()
    output = net(batch(salt=3, items=Pairs(torch.tensor([1, 2]), torch.tensor([3, 5]))), world(cfg))
    loss = functional.binary_cross_entropy_with_logits(output.logit, batch().label)
    assert output.items is not None
    loss = loss + output.items[0].sum() + output.items[1].square().sum()
    loss.backward()
    for place, parameter in net.named_parameters():
        assert parameter.grad is not None, place
        assert torch.isfinite(parameter.grad.to_dense()).all(), place


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("injection", INJECTIONS)
def test_a_new_items_logit_is_that_of_its_text(injection: str, backbone: str) -> None:
    """An item that training never saw has no ID embedding of its own: its text alone tells it from another."""
    cfg = settings(*INJECTIONS[injection], f"model.backbone={backbone}", "model.id_dropout=0.2")
    net, one = model(cfg).eval(), world(cfg)
    one = replace(
        one,
        items=replace(
            one.items, rows=torch.zeros_like(one.items.rows), fields={"kind": torch.ones_like(one.items.fields["kind"])}
        ),
    )
    empty = torch.zeros(3, 3, dtype=torch.int64)
    asked = batch(user=torch.ones(3, dtype=torch.int64), item=torch.tensor([1, 2, 3]), history=empty, levels=empty)
    asked = replace(asked, rate=torch.zeros(3, dtype=torch.int64))
    logit = net(asked, one).logit
    assert len({round(x, 6) for x in logit.tolist()}) == 3
    assert one.items.vectors is not None
    rows = one.items.vectors.rows(None)[[0, 2, 1, *range(3, ITEMS + 1)]]
    swapped = replace(one, items=replace(one.items, vectors=Frozen(rows, torch.zeros(WIDTH), 1.0)))
    torch.testing.assert_close(net(asked, swapped).logit, logit[[1, 0, 2]])


def test_dropped_ids_leave_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all IDs dropped, the logit of a training step still depends on the target's text."""
    cfg = settings("model.injection=add", "model.id_dropout=0.2")
    net, one = model(cfg).train(), world(cfg)
    net.item.ids.drop = 1.0
    before = net(batch(salt=1), one).logit
    with torch.no_grad():
        net.item.ids.weight[1:] += 1.0
    assert torch.equal(net(batch(salt=1), one).logit, before), "no item has its own embedding"
    assert net(batch(salt=1), changed(one, 1)).logit[0] != before[0]


def test_likes_go_when_ids_are_dropped() -> None:
    cfg = settings("extraction.source=none", "model.similarity=true", "model.similarity_of=['cf']")
    net = model(cfg).train()
    whole = world(settings())
    users, items = (replace(side, vectors=None, text=None) for side in (whole.users, whole.items))
    near = functional.normalize(torch.randn(ITEMS + 1, 3))
    known, unknown = (World(users, replace(items, near=table)) for table in (near, torch.zeros_like(near)))
    net.item.ids.drop = 0.0
    assert not torch.equal(net(batch(salt=1), known).logit, net(batch(salt=1), unknown).logit)
    net.item.ids.drop = 1.0
    assert torch.equal(net(batch(salt=1), known).logit, net(batch(salt=1), unknown).logit)
    net.eval()
    assert not torch.equal(net(batch(), known).logit, net(batch(), unknown).logit), "when scoring nothing is dropped"


def by_hand(body: HybridExperts, vectors: Tensor, relu: bool) -> Tensor:
    """R eq. 2, expert by expert."""
    share = torch.softmax(vectors @ body.gate.weight.T + body.gate.bias, dim=1)
    out, place = torch.zeros(len(vectors), body.out), 0
    for experts in (body.common, body.own):
        for e in range(experts.count):
            own = slice(e * experts.hidden, (e + 1) * experts.hidden)
            hidden = torch.relu(vectors @ experts.first.weight[own].T + experts.first.bias[own])
            last = hidden @ experts.second[own] + experts.bias[e]
            out += share[:, place : place + 1] * (torch.relu(last) if relu else last)
            place += 1
    assert place == share.shape[1]
    return out


@pytest.mark.parametrize("last", ["linear", "relu"])
def test_hybrid_experts_are_the_formula_of_their_paper(last: str) -> None:
    cfg = settings("model.adapter=hybrid", f"model.expert_last={last}", "model.dedicated_experts=3")
    net, vectors = model(cfg), torch.randn(6, WIDTH)
    for side in (net.user, net.item):
        assert side.adapter is not None
        body = side.adapter.body
        assert isinstance(body, HybridExperts)
        torch.testing.assert_close(body(vectors), by_hand(body, vectors, last == "relu"))
        assert (body(torch.randn(500, WIDTH)).min() < 0) == (last == "linear")
        torch.testing.assert_close(body.load(vectors).sum(dim=1), torch.ones(6))


def test_the_shared_experts_are_one_set_that_both_sides_train() -> None:
    cfg = settings("model.adapter=hybrid")
    net = model(cfg)
    assert net.user.adapter is not None and net.item.adapter is not None
    users, items = net.user.adapter.body, net.item.adapter.body
    assert isinstance(users, HybridExperts) and isinstance(items, HybridExperts)
    assert users.common is items.common
    assert users.own is not items.own
    names = list(net.state_dict())
    assert len(names) == len(set(names)) == len({t.data_ptr() for t in net.state_dict().values()})
    assert not any(name.startswith("item.adapter.body.shared") for name in names)
    users(torch.randn(3, WIDTH)).sum().backward()
    assert items.common.second.grad is not None and items.common.second.grad.abs().sum() > 0
    assert items.own.second.grad is None
    net.to(torch.float64)
    assert users.common.second.dtype == torch.float64
    again = model(cfg)
    again.load_state_dict(net.to(torch.float32).state_dict())
    torch.testing.assert_close(again.user.adapter.body(torch.ones(1, WIDTH)), users(torch.ones(1, WIDTH)))  # type: ignore[union-attr]


def test_sources_stand_side_by_side_or_under_a_gate() -> None:
    vectors = torch.randn(4, WIDTH + FACTS)
    text = torch.tensor([[True, True], [True, False], [False, True], [False, False]])
    for combine, width in (("concat", 6), ("gate", 3)):
        adapter = Adapters([WIDTH, FACTS], settings(TWO, f"model.combine={combine}").model)
        with torch.no_grad():
            for part in adapter.parts:
                part.default.normal_()
        out = adapter(vectors, text)
        assert out.shape == (4, width) == (4, adapter.out)
        texts, facts = (
            p(v, t) for p, v, t in zip(adapter.parts, vectors.split([WIDTH, FACTS], 1), text.T, strict=True)
        )
        if adapter.gate is None:
            assert torch.equal(out, torch.cat([texts, facts], dim=1))
            continue
        torch.testing.assert_close(out[1], texts[1])  # the facts know nothing of it and have no share
        torch.testing.assert_close(out[2], facts[2])
        share = torch.softmax(adapter.gate(vectors[:1]), dim=1)[0]
        torch.testing.assert_close(out[0], share[0] * texts[0] + share[1] * facts[0])
        torch.testing.assert_close(out[3], adapter.default)


def test_what_does_not_fit_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"combine = gate sums vectors of one width.*5, 6; set model\.combine"):
        model(settings(TWO, "model.adapter=raw", "model.combine=gate"))
    sizes = Sizes(user_rows=2, item_rows=2, user_vector=3, item_vector=4)
    with pytest.raises(ConfigError, match=r"vectors of users have 3 dimensions and those of items 4; set model\.know"):
        Recommender(sizes, settings("model.adapter=hybrid"))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("model.adapter=hybrid", "model.side=item"), "hybrid shares experts between users and items"),
        (("model.adapter=hybrid", "model.injection=none", "model.adapted_similarity=true"), "set model.side to both"),
        (("model.adapter=hybrid", "model.knowledge=['kg']"), "name text in model.knowledge"),
        (("model.knowledge=['kg']", "model.side=user"), "kg is of items alone"),
        (("model.knowledge=['kg','kg']",), "name each source once"),
        (("model.knowledge=[]",), "model.knowledge"),
        (("model.injection=fields", "model.history_knowledge=false"), "needs model.injection = replace or add; fields"),
        (
            ("model.knowledge=['kg']", "extraction.source=none", "model.adapter=raw", "training.w_item=1"),
            "adapter = raw",
        ),
        ((TWO, "model.side=user"), "kg is of items alone"),
        (("training.w_item=1", "training.positives=11"), "training.positives = 11 is above swing.top_k = 10"),
        (
            (TWO, "facts.relations=['genres','director']", "model.ignored_fields=['genres']"),
            "facts.relations names 'genres', which model.ignored_fields keeps",
        ),
        (
            ("model.features=ids", "extraction.source=extracted", "extraction.family=kar"),
            "extraction.family = kar writes them into the users' prompts",
        ),
    ],
)
def test_combinations_that_mean_nothing_are_refused(given: tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(*given)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        ("model.adapter=hybrid", "model.injection=none", "model.similarity=true"),
        ("training.positives=11",),
        (TWO, "model.side=user", "model.injection=none"),
        ("model.features=ids", "extraction.source=extracted", "extraction.family=kar", "model.side=item"),
    ],
)
def test_what_nothing_reads_is_not_refused(given: tuple[str, ...]) -> None:
    assert settings(*given).model


NONE = ("extraction.source=none",)


@pytest.mark.parametrize(
    ("key", "value", "base", "matters"),
    [
        ("model.shared_experts", 5, (), False),
        ("model.shared_experts", 5, ("model.adapter=hybrid",), True),
        ("model.experts", 5, ("model.adapter=hybrid",), False),
        ("model.expert_last", "relu", ("model.adapter=mlp",), False),
        ("model.expert_last", "relu", (), True),
        ("model.combine", "gate", (), False),
        ("model.combine", "gate", (TWO,), True),
        ("model.knowledge_dim", 4, (), True),
        ("model.knowledge_dim", 4, NONE, False),
        ("model.history_knowledge", False, (), True),
        ("model.history_knowledge", False, NONE, False),
        ("model.init", "llm", (), True),
        ("model.init", "llm", NONE, False),
        ("model.similarity_of", ["cf"], (), False),
        ("model.similarity_of", ["cf"], ("model.similarity=true",), True),
        ("model.knowledge", ["kg"], ("model.injection=none",), False),
        ("model.knowledge", ["text", "kg"], NONE, True),
        ("model.knowledge", ["text", "kg"], (), True),
    ],
)
def test_keys_count_where_they_matter(key: str, value: object, base: tuple[str, ...], matters: bool) -> None:
    def hashed(cfg: Config) -> dict[str, object]:
        return {name: cfg.get(name) for name in keys(cfg)}

    cfg = settings(*base)
    assert (hashed(cfg) != hashed(cfg.override((key, value)))) == matters


def test_kg_alone_is_knowledge_without_texts() -> None:
    cfg = settings(*NONE, "model.knowledge=['text','kg']", "training.w_item=0.1", "training.w_user=0.1")
    assert (uses.sources(cfg, "item"), uses.sources(cfg, "user")) == (("facts",), ())
    assert (uses.weight(cfg, "item"), uses.weight(cfg, "user")) == (0.1, 0.0)
    assert uses.matrices(cfg) == ("facts",)
    assert uses.named(cfg) == "kg"
    assert uses.named(settings(TWO)) == "raw+kg"
    assert uses.named(settings(*NONE)) == "none"
    assert uses.named(settings("model.injection=none")) == "none", "nothing reads the texts"
    assert uses.named(settings("model.injection=none", "model.similarity=true")) == "raw"
    assert uses.named(settings("model.side=user")) == "raw"
