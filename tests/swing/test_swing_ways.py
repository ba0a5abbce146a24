"""All ways to score against the double sum, over random graphs and every switch of the formula."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trawl.swing import Bipartite, Formula, Swing, bipartite
from trawl.swing.dense import Dense, pays
from trawl.swing.ranking import rounded
from trawl.swing.sparse import Sparse


def sample(graph, cap, seed=0):
    """The graph with at most `cap` anchors in each list, drawn at random."""
    rng = np.random.default_rng(seed)
    lists = [graph.lists[a:b] for a, b in pairwise(graph.lists_ptr)]
    kept = [np.sort(rng.permutation(one)[:cap]) for one in lists]
    ptr = np.cumsum([0, *(len(one) for one in kept)])
    return replace(
        graph,
        lists_ptr=ptr,
        lists=np.concatenate([np.empty(0, int), *kept]),
        capped=True,
        popularity=graph.lengths,
    )


def weighted(graph, seed=0):
    """The graph with a weight for each edge."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.1, 1.0, (graph.n, graph.p)).astype(np.float32)
    users, items = np.repeat(np.arange(graph.n), graph.degrees), np.repeat(np.arange(graph.p), graph.lengths)
    return replace(graph, row_values=x[users, graph.rows], list_values=x[graph.lists, items])


def table(ptr, indexes, values, columns):
    out = np.zeros((len(ptr) - 1, columns))
    for row, (a, b) in enumerate(pairwise(ptr)):
        out[row, indexes[a:b]] = 1.0 if values is None else values[a:b]
    return out


def scores(graph, formula):
    """(n, n) scores and (n, n) shared counts by the definition, in plain NumPy; not normalised."""
    rows = table(graph.rows_ptr, graph.rows, graph.row_values, graph.p)
    lists = table(graph.lists_ptr, graph.lists, graph.list_values, graph.n).T
    popular = np.maximum((lists > 0).sum(0) if graph.popularity is None else graph.popularity, 1).astype(float)
    node = {
        "none": popular**0,
        "sqrt": 1 / np.sqrt(popular),
        "power": (formula.node_a + popular) ** -formula.node_b,
    }[formula.node_weight]
    out, shared = np.zeros((graph.n, graph.n)), np.zeros((graph.n, graph.n), int)
    for u in range(graph.n):
        features = np.flatnonzero(rows[u])
        seen = lists.copy()
        seen[u, features] = rows[u, features]  # a target stands in the lists of its own features
        for v in range(graph.n):
            terms = []
            both = [i for i in features if seen[v, i] > 0]
            shared[u, v] = len(both)
            for i in both:
                for j in both:
                    if i != j or formula.diagonal:
                        common = formula.alpha + int(((seen[:, i] > 0) & (seen[:, j] > 0)).sum())
                        edges = rows[u, i] * rows[u, j] * seen[v, i] * seen[v, j] * node[i] * node[j]
                        terms.append(common if formula.inverted else edges / common)
            total = math.fsum(terms)
            out[u, v] = (1 / total if total else 0.0) if formula.inverted else total
    return out, shared


def to_40_bits(x):
    mantissa, exponent = math.frexp(x)
    return math.ldexp(round(math.ldexp(mantissa, 40)), exponent - 40)


def reference(graph, formula, top_k):
    """Rows (anchor, rank, partner, score, shared)."""
    raw, shared = scores(graph, formula)
    scale = np.ones(graph.n)
    if formula.normalize == "cosine":
        own = np.diag(raw)
        scale = np.divide(1.0, np.sqrt(own), out=np.zeros(graph.n), where=own > 0)
    if formula.normalize == "degree":
        scale = 1 / np.maximum(graph.degrees, 1)
    out = []
    for u in range(graph.n):
        found = [(-to_40_bits(raw[u, v] * scale[u] * scale[v]), v) for v in range(graph.n) if v != u]
        best = [pair for pair in sorted(found) if pair[0] < 0][:top_k]
        out += [(u, rank, v, -score, int(shared[u, v])) for rank, (score, v) in enumerate(best)]
    return out


def rows_of(found):
    columns = ("anchor", "rank", "partner", "score", "shared")
    return list(zip(*(getattr(found, c).tolist() for c in columns), strict=True))


def ways(graph, formula):
    """Swings that are made to go each way that the graph allows."""
    scorers = {
        "masks": Sparse(graph, formula, 1 << 20),
        "lists": Sparse(graph, formula, 1 << 20, small=-1),
        "blocks": Sparse(graph, formula, 0, small=-1),
        "mixed": Sparse(graph, formula, 1 << 20, small=2),
    }
    if graph.row_values is None and not formula.inverted:
        scorers["dense"] = Dense(graph, formula, 1 << 20)
        scorers["dense, large targets elsewhere"] = Dense(graph, formula, 8 * 3 * 3)
    for name, scorer in scorers.items():
        swing = Swing(graph, formula)
        swing.scorer = scorer
        yield name, swing


def assert_same(name, found, expected):
    rows = rows_of(found)
    assert [(a, r, p, s) for a, r, p, _, s in rows] == [(a, r, p, s) for a, r, p, _, s in expected], name
    assert np.allclose([r[3] for r in rows], [r[3] for r in expected], rtol=2e-12, atol=0), name


@st.composite
def graphs(draw):
    n, p = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    edges = draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, p - 1)), max_size=40))  # with duplicates
    shape = draw(st.sampled_from(["random", "random", "random", "hub", "all to all", "one item"]))
    if shape == "hub":
        edges += [(0, f) for f in range(p)] + [(u, 0) for u in range(n)]
    if shape == "all to all":
        edges += [(u, f) for u in range(n) for f in range(p)]
    if shape == "one item":
        edges = [(u, 0) for u, _ in edges]
    graph = bipartite(*np.array(edges, dtype=int).reshape(-1, 2).T, (n, p))
    if draw(st.integers(0, 3)) == 0:
        graph = sample(graph, draw(st.integers(1, 3)))
    elif draw(st.integers(0, 4)) == 0:
        graph = weighted(graph)
    return graph


@st.composite
def formulas(draw):
    chosen = {"alpha": draw(st.sampled_from([0.0, 0.5, 1.0, 3.0])), "diagonal": draw(st.booleans())}
    if draw(st.integers(0, 6)) == 0:
        return Formula(**chosen, inverted=True, normalize="none")
    weights = st.sampled_from([("none", 15, 0.3), ("sqrt", 15, 0.3), ("power", 15, 0.3), ("power", 5, -0.35)])
    name, a, b = draw(weights)
    normalize = draw(st.sampled_from(["none", "cosine", "degree"]))
    return Formula(**chosen, node_weight=name, node_a=a, node_b=b, normalize=normalize)


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(graphs(), formulas(), st.integers(1, 10))
def test_every_way_equals_the_double_sum(graph, formula, top_k):
    if formula.inverted and graph.row_values is not None:
        graph = replace(graph, row_values=None, list_values=None)
    expected, own = reference(graph, formula, top_k), np.diag(scores(graph, formula)[0])
    for name, swing in ways(graph, formula):
        assert_same(name, swing.topk(range(graph.n), top_k), expected)
        assert np.allclose(swing.self_scores(range(graph.n)), own, rtol=1e-12, atol=0), name


def long_tailed(n=300, p=150, seed=0):
    """Enough candidates that the bound drops some; targets of few and of more than 64 features."""
    rng = np.random.default_rng(seed)
    chance = np.outer(rng.pareto(1.2, n) + 0.3, rng.pareto(1.2, p) + 0.3)
    return bipartite(*np.nonzero(rng.random((n, p)) < np.minimum(0.9, chance * 0.03)), (n, p))


@pytest.mark.parametrize("normalize", ["none", "cosine", "degree"])
@pytest.mark.parametrize("change", [lambda g: g, lambda g: sample(g, 40)], ids=["whole", "capped"])
def test_ways_agree_on_a_larger_graph(normalize, change):
    graph, formula = change(long_tailed()), Formula(normalize=normalize, node_weight="sqrt")
    assert graph.degrees.max() > 64 > np.median(graph.degrees)
    found = {name: rows_of(swing.topk(range(graph.n), 10)) for name, swing in ways(graph, formula)}
    assert len(found["masks"]) > 2000
    for name, rows in found.items():
        assert_same(name, Swing(graph, formula).topk(range(graph.n), 10), rows)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("change", [lambda g: g, lambda g: sample(g, 40), weighted], ids=["whole", "capped", "edges"])
def test_any_split_gives_the_same_bits(threads, change):
    graph = change(long_tailed(seed=1))
    whole = rows_of(Swing(graph).topk(range(graph.n), 7))
    assert rows_of(Swing(graph, threads=threads).topk(range(graph.n), 7)) == whole
    swing, rng = Swing(graph, threads=threads), np.random.default_rng(0)
    bounds = [0, *np.sort(rng.choice(np.arange(1, graph.n), 9, replace=False)).tolist(), graph.n]
    assert [row for a, b in pairwise(bounds) for row in rows_of(swing.topk(range(a, b), 7))] == whole
    turned = rng.permutation(graph.n)
    assert sorted(rows_of(swing.topk(turned, 7))) == whole


def test_arrays_may_be_read_only_views():
    graph = long_tailed(60, 40)
    names = ("rows_ptr", "rows", "lists_ptr", "lists")
    fixed = {name: np.frombuffer(getattr(graph, name).tobytes(), getattr(graph, name).dtype) for name in names}
    assert not fixed["rows"].flags.writeable
    for name, swing in ways(Bipartite(**fixed), Formula()):
        assert_same(name, swing.topk(range(graph.n), 5), rows_of(Swing(graph).topk(range(graph.n), 5)))


def test_the_way_follows_the_graph():
    graph = long_tailed()
    assert pays(graph, Formula(), 1 << 20)
    assert not pays(graph, Formula(), 4 * graph.p**2 - 1)  # the counts do not fit
    assert not pays(sample(graph, 40), Formula(), 1 << 20)  # few candidates
    assert not pays(weighted(graph), Formula(), 1 << 20)
    assert not pays(graph, Formula(normalize="none", inverted=True), 1 << 20)
    assert not pays(graph, Formula(node_weight="power", node_b=40.0), 1 << 20)  # float32 could not hold the bounds


def test_rounding_leaves_40_bits_in_and_out_of_the_kernels():
    from trawl.swing.kernels.keeping import rounded as compiled

    x = np.random.default_rng(0).lognormal(0, 20, 20_000)
    assert rounded(x).tolist() == [to_40_bits(one) for one in x] == [compiled(one) for one in x]
    assert rounded(np.array([0.0])) == compiled(0.0) == 0.0
