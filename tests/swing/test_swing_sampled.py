"""Lists that are samples: against the definition written out, and how near to the answer of whole lists they come."""

from dataclasses import replace

import numpy as np
import pytest

from trawl.swing.cap_plan import planned, settings_of
from trawl.swing.degrees import Degrees
from trawl.swing.formula import Formula
from trawl.swing.graph import bipartite
from trawl.swing.kernel import Swing
from trawl.swing.sampled import Sampled
from trawl.swing.sides import capped_graph

USERS, ITEMS, TOP = 80, 30, 5


def draw(seed, users=USERS, items=ITEMS, edges=900):
    rng = np.random.default_rng(seed)
    return bipartite(
        rng.integers(0, users, edges), np.minimum(rng.lognormal(2, 1, edges).astype(int), items - 1), (users, items)
    )


def capped(whole, **settings):
    plan = planned("user", settings_of(**settings), Degrees.of(whole.degrees), Degrees.of(whole.lengths))
    return capped_graph(whole, plan)


def row(ptr, values, number):
    return values[ptr[number] : ptr[number + 1]].tolist()


def table(graph, formula, target):
    """(features, their lists, weights of pairs) of a target, by the definition."""
    features = row(graph.rows_ptr, graph.rows, target)
    lists = [set(row(graph.lists_ptr, graph.lists, i)) for i in features]
    whole = [float(graph.popularity[i]) for i in features]
    out = np.zeros((len(features),) * 2)
    for a, mine in enumerate(lists):
        for b, other in enumerate(lists):
            common = len((mine & other) - {target}) + 1.0
            rate = len(mine) * len(other) / (whole[a] * whole[b])
            if a == b:
                common = whole[a]
            elif rate < 1:
                common = min(1 + (common - 0.5) / rate, whole[a], whole[b])
            out[a, b] = 1 / (formula.alpha + common) if a != b or formula.diagonal else 0.0
    return features, lists, out


def by_hand(graph, formula, target, scale):
    """(self score, {candidate: (score, shared)}) by whole rows of all who have a score by the lists."""
    features, lists, weights = table(graph, formula, target)
    scores = {}
    for v in set().union(*lists) - {target}:
        listed = [a for a, some in enumerate(lists) if v in some]
        full = row(graph.full_ptr, graph.full_rows, v)
        has = [a for a, i in enumerate(features) if i in full]
        if weights[np.ix_(listed, listed)].sum() > 0:
            scores[v] = weights[np.ix_(has, has)].sum() * scale[target] * scale[v], len(has)
    return weights.sum(), scores


@pytest.mark.parametrize("limit_bytes", [512 << 20, 1], ids=["one table", "in blocks"])
@pytest.mark.parametrize(
    "formula",
    [Formula(), Formula(normalize="none"), Formula(normalize="none", diagonal=False, alpha=0.5)],
    ids=str,
)
@pytest.mark.parametrize("features", ["exact", 6])
def test_scores_are_those_of_the_definition(formula, limit_bytes, features):
    graph = capped(draw(1), users_per_item=12, target_features=features, leaders=USERS)
    swing = Swing(graph, formula, limit_bytes=limit_bytes)
    assert isinstance(swing.scorer, Sampled)
    own = swing.self_scores(range(USERS))
    scale = np.ones(USERS)
    if formula.normalize == "cosine":
        scale = np.divide(1, np.sqrt(own), out=np.zeros(USERS), where=own > 0)
    found = swing.topk(range(USERS), TOP)
    for target in range(USERS):
        expected, scores = by_hand(graph, formula, target, scale)
        assert own[target] == pytest.approx(expected)
        mine = found.anchor == target
        best = sorted((score for score, _ in scores.values()), reverse=True)[:TOP]
        assert found.score[mine] == pytest.approx(best)
        partners = found.partner[mine].tolist()
        assert [scores[v][1] for v in partners] == found.shared[mine].tolist()
        assert [scores[v][0] for v in partners] == pytest.approx(best)
    assert len(found.anchor) > 300


def test_leaders_and_their_rows_later_are_the_same_answer():
    graph = capped(draw(2), users_per_item=8)
    swing, targets = Swing(graph), np.arange(USERS)
    own = swing.self_scores(targets)
    expected = swing.topk(targets, TOP, own)
    leaders = swing.leaders(targets, TOP, own)
    found = swing.topk_of(targets, leaders, TOP, own)
    assert all(np.array_equal(getattr(found, name), getattr(expected, name)) for name in vars(expected))


@pytest.mark.parametrize("formula", [Formula(), Formula(normalize="none")], ids=str)
def test_without_leaders_the_lists_are_taken_as_they_are(formula):
    graph = capped(draw(1), users_per_item=12, leaders=0)
    bare = replace(graph, full_ptr=None, full_rows=None, full_values=None, popularity=None)
    one, two = (Swing(g, formula).topk(range(USERS), TOP) for g in (graph, bare))
    assert all(np.array_equal(getattr(one, name), getattr(two, name)) for name in vars(one))
    assert not np.array_equal(one.partner, Swing(replace(graph, leaders=50), formula).topk(range(USERS), TOP).partner)


def test_whole_lists_give_the_answer_of_the_other_ways():
    whole = draw(3)
    capped_like = capped(whole, users_per_item=10_000)
    assert capped_like.full_rows is not None
    for formula in (Formula(), Formula(normalize="none")):
        one, two = (Swing(g, formula).topk(range(USERS), TOP) for g in (whole, capped_like))
        assert all(np.array_equal(getattr(one, n), getattr(two, n)) for n in ("anchor", "rank", "partner", "shared"))
        assert one.score == pytest.approx(two.score, rel=1e-11)


@pytest.mark.parametrize("formula", [Formula(), Formula(normalize="none")], ids=str)
def test_it_is_nearer_to_whole_lists_than_the_lists_alone(formula):
    rng = np.random.default_rng(0)
    edges, users, items = 60_000, 2000, 60
    whole = bipartite(rng.integers(0, users, edges), (rng.random(edges) ** 2 * items).astype(int), (users, items))
    graph = capped(whole, users_per_item=150)
    targets = range(0, users, 10)
    exact = first(Swing(whole, formula).topk(targets, TOP))
    alone = type(graph)(**{k: v for k, v in vars(graph).items() if not k.startswith(("full", "popularity"))})
    kept = [np.mean([exact[t] in partners for t, partners in tens(Swing(g, formula), targets)]) for g in (alone, graph)]
    assert kept[1] > kept[0] + 0.1


def first(found):
    return dict(zip(found.anchor[found.rank == 0].tolist(), found.partner[found.rank == 0].tolist(), strict=True))


def tens(swing, targets):
    found = swing.topk(targets, 10)
    return [(t, found.partner[found.anchor == t].tolist()) for t in targets]
