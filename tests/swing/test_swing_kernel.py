"""The kernel against the double sum of T eq. 1, written out and added up in fractions."""

from fractions import Fraction
from itertools import pairwise
from math import sqrt

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from trawl.errors import ConfigError
from trawl.swing import Bipartite, Formula, Swing, bipartite
from trawl.swing.graph import cost_ranges, from_matrix


def exact(edges, n, alpha, diagonal):
    """{(u, v): (score as a fraction, shared)} by the printed formula."""
    of = [{f for a, f in edges if a == u} for u in range(n)]
    holders = {f: {a for a, g in edges if g == f} for _, f in edges}
    out = {}
    for u in range(n):
        for v in range(n):
            common = of[u] & of[v]
            total = sum(
                (1 / (alpha + len(holders[i] & holders[j])) for i in common for j in common if diagonal or i != j),
                Fraction(0),
            )
            out[u, v] = (total, len(common))
    return out


def reference(edges, shape, alpha, diagonal, normalize, top_k):
    """Rows (anchor, rank, partner, score, shared); order by the exact score, ties to the smaller index."""
    table, rows = exact(edges, shape[0], alpha, diagonal), []
    for u in range(shape[0]):
        found = []
        for v in range(shape[0]):
            score, shared = table[u, v]
            if v != u and score > 0:
                own = table[u, u][0] * table[v, v][0]
                # Squares keep the order exact: cosine is a square root.
                key = score * score / own if normalize == "cosine" else score
                found.append((-key, v, sqrt(key) if normalize == "cosine" else float(key), shared))
        rows += [(u, r, v, score, shared) for r, (_, v, score, shared) in enumerate(sorted(found)[:top_k])]
    return rows


def rows_of(found):
    return list(
        zip(*(getattr(found, c).tolist() for c in ("anchor", "rank", "partner", "score", "shared")), strict=True)
    )


def assert_same(found, expected):
    rows = rows_of(found)
    assert [(a, r, p, s) for a, r, p, _, s in rows] == [(a, r, p, s) for a, r, p, _, s in expected]
    assert np.allclose([r[3] for r in rows], [r[3] for r in expected], rtol=1e-11, atol=0)


@st.composite
def graphs(draw):
    n, p = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    shape = draw(st.sampled_from(["random", "hub", "all", "one item"]))
    edges = draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, p - 1)), max_size=45))
    if shape == "hub":
        edges += [(0, f) for f in range(p)] + [(u, 0) for u in range(n)]
    if shape == "all":
        edges += [(u, f) for u in range(n) for f in range(p)]
    if shape == "one item":
        edges = [(u, 0) for u, _ in edges]
    return edges, (n, p)


@settings(max_examples=120, deadline=None)
@given(
    graphs(),
    st.booleans(),
    st.sampled_from(["none", "cosine"]),
    st.integers(1, 12),
    st.sampled_from([1, 3]),
    st.booleans(),
)
def test_equals_the_double_sum(world, diagonal, normalize, top_k, alpha, local):
    edges, shape = world
    rows, columns = np.array(edges, dtype=int).reshape(-1, 2).T
    formula = Formula(alpha=alpha, diagonal=diagonal, normalize=normalize)
    swing = Swing(bipartite(rows, columns, shape), formula, limit_bytes=0 if local else 1 << 20)
    assert_same(
        swing.topk(range(shape[0]), top_k), reference(edges, shape, Fraction(alpha), diagonal, normalize, top_k)
    )


def random_matrix(n=300, p=150, seed=0):
    """Long-tailed: enough candidates that the bound drops some and batches follow one another."""
    rng = np.random.default_rng(seed)
    chance = np.outer(rng.pareto(1.2, n) + 0.3, rng.pareto(1.2, p) + 0.3)
    return from_matrix(sp.csr_array(rng.random((n, p)) < np.minimum(0.9, chance * 0.03)))


def swing_topk(graph, anchors=None, *, top_k=10, own=None, **formula):
    return Swing(graph, Formula(**formula)).topk(range(graph.n) if anchors is None else anchors, top_k, own)


@pytest.mark.parametrize("normalize", ["none", "cosine"])
@pytest.mark.parametrize("diagonal", [True, False])
def test_pruned_equals_all_pairs(normalize, diagonal):
    x = random_matrix()
    fast = Swing(x, Formula(normalize=normalize, diagonal=diagonal)).topk(range(x.n), 10)
    slow = Swing(x, Formula(normalize=normalize, diagonal=diagonal), limit_bytes=150_000).topk(range(x.n), 10)
    assert_same(fast, rows_of(slow))
    assert len(fast.anchor) > 2000


def test_ranges_of_anchors_put_together_are_the_whole():
    x = random_matrix(seed=1)
    swing = Swing(x)
    bounds = cost_ranges(x, 7)
    pieces = [row for a, b in pairwise(bounds) for row in rows_of(swing.topk(range(a, b), 5))]
    assert pieces == rows_of(swing_topk(x, top_k=5))


def test_ranges_are_of_about_equal_cost_and_a_hub_stands_apart():
    edges = [(0, f) for f in range(300)] + [(u, u % 300) for u in range(1, 400)]
    rows, columns = np.array(edges).T
    bounds = cost_ranges(bipartite(rows, columns, (400, 300)), 4)
    assert bounds[0] == 0 and bounds[-1] == 400
    assert bounds[1] == 1  # the hub alone costs more than a quarter


def test_equal_scores_go_to_the_smaller_index_whatever_the_numbering_of_features():
    # Anchor 0 shares features of the same popularity with 1, 2 and 3, in different places.
    edges = [(0, f) for f in range(9)] + [(1 + f // 3, f) for f in range(9)]
    for seed in range(5):
        turn = np.random.default_rng(seed).permutation(9)
        rows, columns = np.array([(u, turn[f]) for u, f in edges]).T
        found = swing_topk(bipartite(rows, columns, (4, 9)), [0], top_k=3)
        assert found.partner.tolist() == [1, 2, 3]
        assert len(set(found.score.tolist())) == 1


def test_the_item_side_is_the_user_side_of_the_graph_turned_round():
    x = random_matrix(60, 40, seed=2)
    turned = Bipartite(rows_ptr=x.lists_ptr, rows=x.lists, lists_ptr=x.rows_ptr, lists=x.rows)
    users = np.repeat(np.arange(x.n), x.degrees)
    assert rows_of(swing_topk(turned)) == rows_of(swing_topk(bipartite(x.rows, users, (x.p, x.n))))


def test_known_self_scores_are_used():
    x = random_matrix(50, 30, seed=3)
    own = Swing(x).self_scores(range(x.n))
    assert rows_of(swing_topk(x, own=own)) == rows_of(swing_topk(x))
    assert np.allclose(swing_topk(x, own=4 * own).score * 4, swing_topk(x).score)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (3, 4)])
def test_no_edges_no_rows(shape):
    assert rows_of(swing_topk(from_matrix(sp.csr_array(shape)))) == []


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"alpha": -1}, "swing.alpha"), ({"normalize": "l2"}, "swing.normalize"), ({"top_k": 0}, "swing.top_k")],
)
def test_wrong_arguments_are_named(wrong, named):
    with pytest.raises(ConfigError, match=named):
        swing_topk(random_matrix(5, 5), **wrong)
