"""The adjacency from parts, and mining from it whole and in blocks: the same to the last bit as from one graph."""

import numpy as np
import pytest

from trawl.errors import InputError
from trawl.pool import InProcess
from trawl.swing import adjacency, sharing, shuffle
from trawl.swing.caps import cap_lists
from trawl.swing.formula import Formula
from trawl.swing.graph import Bipartite, bipartite
from trawl.swing.kernel import Swing
from trawl.swing.mining import Miner

FIELDS = ("rows_ptr", "rows", "lists_ptr", "lists")


def read(users, items):
    """A part that comes in two pieces."""
    half = len(users) // 2
    yield users[:half], items[:half]
    yield users[half:], items[half:]


def refuse(users, items):
    raise InputError.at("views.csv", "row 7", "the id is empty")


def draw(seed, users=30, items=20, edges=240):
    """Pairs with duplicates, a hub, a user and an item without any."""
    rng = np.random.default_rng(seed)
    u = np.minimum(rng.lognormal(1.5, 1.0, edges).astype(np.int64), users - 2)
    i = np.minimum(rng.lognormal(1.0, 1.0, edges).astype(np.int64), items - 2)
    return u, i, (users, items)


def build(u, i, shape, parts=3, count=4):
    cut = np.array_split(np.random.default_rng(1).permutation(len(u)), parts)
    return adjacency.build(InProcess(), read, [(u[c], i[c]) for c in cut], shape, count=count)


def graph_of(prepared):
    return prepared.value.graph


def same(one: Bipartite, two: Bipartite):
    assert all(np.array_equal(getattr(one, name), getattr(two, name)) for name in FIELDS)
    assert all(getattr(one, name).dtype == getattr(two, name).dtype for name in FIELDS)


@pytest.mark.parametrize("count", [1, 4, 50])
@pytest.mark.parametrize("seed", range(5))
def test_both_sides_of_one_adjacency_are_the_graphs_built_at_once(seed, count):
    u, i, shape = draw(seed)
    whole = build(u, i, shape, parts=1 + seed, count=count)
    user = sharing.prepare(InProcess(), whole, "user", 3)
    item = sharing.prepare(InProcess(), whole, "item", 3)
    same(graph_of(user), bipartite(u, i, shape))
    same(graph_of(item), bipartite(i, u, shape[::-1]))
    assert whole.edges == len(set(zip(u.tolist(), i.tolist(), strict=True))) == user.edges[0] == item.edges[1]


@pytest.mark.parametrize("shape", [(0, 0), (3, 0), (0, 3), (4, 4)])
def test_no_interactions_no_edges(shape):
    nothing = np.empty(0, dtype=np.int64)
    whole = adjacency.build(InProcess(), read, [(nothing, nothing)], shape, count=2)
    prepared = sharing.prepare(InProcess(), whole, "user", 2)
    assert (graph_of(prepared).n, graph_of(prepared).p, whole.edges) == (*shape, 0)
    miner = Miner(prepared.value, Formula())
    assert [len(miner.topk(t, 5, np.zeros(shape[0])).anchor) for t in (0, 1)] == [0, 0]


def test_what_reading_raises_comes_back():
    with pytest.raises(InputError, match="row 7"):
        adjacency.build(InProcess(), refuse, [(np.zeros(1), np.zeros(1))], (1, 1))


def test_caps_are_those_of_the_whole_lists():
    u, i, shape = draw(3, edges=400)
    caps = sharing.Caps(lists=5, rows=3, seed=9)
    found = graph_of(sharing.prepare(InProcess(), build(u, i, shape), "user", 2, caps=caps))
    full = bipartite(u, i, shape)
    for name, owner, cap in (("rows", "user", 3), ("lists", "item", 5)):
        ptr, kept = cap_lists(getattr(full, f"{name}_ptr"), getattr(full, name), cap, owner=owner, seed=9)
        assert np.array_equal(getattr(found, f"{name}_ptr"), ptr)
        assert np.array_equal(getattr(found, name), getattr(full, name)[kept])
        assert np.diff(ptr).max() == cap
    assert found.capped


def test_ranges_are_of_about_equal_cost_and_a_hub_stands_alone():
    u, i, shape = draw(5, users=200, edges=2000)
    hub = np.arange(shape[1] - 1)
    u, i = np.concatenate([u, np.full(len(hub), 77)]), np.concatenate([i, hub])
    prepared = sharing.prepare(InProcess(), build(u, i, shape), "user", 40)
    bounds, costs = prepared.value.bounds, np.array(prepared.costs)
    assert bounds[0] == 0 and bounds[-1] == shape[0] and (np.diff(bounds) >= 0).all()
    graph = graph_of(prepared)
    each = [
        np.diff(graph.lists_ptr)[graph.rows[a:b]].sum() + (b - a) ** 2
        for a, b in np.lib.stride_tricks.sliding_window_view(graph.rows_ptr, 2)
    ]
    assert costs.sum() == sum(each)
    assert costs.max() <= sum(each) / 40 + max(each)


def mined(given, formula, tasks, top_k):
    """All partners, in two passes, and the miner."""
    miner = Miner(given, formula)
    own = None if formula.normalize == "none" else np.concatenate([miner.own(t) for t in range(tasks)])
    blocks, found = 0, []
    for t in range(tasks):
        found.append(miner.topk(t, top_k, own))
        blocks += len(miner.fetched)
    return {n: np.concatenate([getattr(f, n) for f in found]) for n in vars(found[0])}, blocks


@pytest.mark.parametrize(
    "caps", [sharing.Caps(), sharing.Caps(lists=6, seed=2), sharing.Caps(lists=6, rows=4)], ids=str
)
@pytest.mark.parametrize(
    "formula",
    [
        Formula(),
        Formula(normalize="none"),
        Formula(normalize="degree", node_weight="sqrt"),
        Formula(diagonal=False, alpha=0.5),
    ],
    ids=str,
)
@pytest.mark.parametrize("side", ["user", "item"])
def test_whole_and_in_blocks_are_the_partners_of_one_graph(side, formula, caps):
    for seed in range(4):
        u, i, shape = draw(seed, users=40, items=25, edges=400)
        whole = build(u, i, shape)
        tasks = 1 + seed * 3
        one = sharing.prepare(InProcess(), whole, side, tasks, caps=caps)
        other = sharing.prepare(InProcess(), whole, side, tasks, caps=caps, shuffle="always", block_bytes=40 * 60)
        assert not one.shuffled and other.shuffled
        if caps.rows:  # what scores are divided by is of whole rows, which one graph does not know
            expected = mined(sharing.prepare(InProcess(), whole, side, 1, caps=caps).value, formula, 1, 4)[0]
        else:
            expected = vars(Swing(one.value.graph, formula).topk(range(one.value.graph.n), 4))
        for given, least in ((one.value, 0), (other.value, tasks)):
            found, blocks = mined(given, formula, tasks, 4)
            assert all(np.array_equal(found[name], expected[name]) for name in expected)
            assert blocks >= least
        assert len(expected["anchor"]) > 50


def test_blocks_keep_their_bound_and_fetch_no_more_than_all_lists_each():
    u, i, shape = draw(2, users=300, items=60, edges=3000)
    prepared = sharing.prepare(InProcess(), build(u, i, shape), "user", 1, shuffle="always", block_bytes=40 * 200)
    edges = prepared.edges[0]
    found = list(shuffle.blocks(prepared.value, 10, 250))
    assert len(found) > 1
    assert np.concatenate([b.anchors[b.targets] for b in found]).tolist() == list(range(10, 250))
    for block in found:
        assert len(block.graph.lists) <= 200 or len(block.targets) == 1
        assert block.fetched <= 4 * 2 * edges
    assert max(len(b.targets) for b in found) > 1


def test_a_target_over_the_bound_is_a_block_of_its_own():
    u, i, shape = draw(2, users=50, items=20, edges=500)
    prepared = sharing.prepare(InProcess(), build(u, i, shape), "user", 1, shuffle="always", block_bytes=1)
    found = list(shuffle.blocks(prepared.value, 0, 50))
    busy = [int((np.diff(b.graph.rows_ptr)[b.targets] > 0).sum()) for b in found]
    assert max(busy) == 1 and sum(busy) == len(np.unique(u))


class Small(InProcess):
    def capacity(self):
        return 10_000


def test_auto_shuffles_when_the_graph_does_not_fit_half_of_a_node():
    u, i, shape = draw(2, users=50, items=20, edges=300)
    assert not sharing.prepare(Small(), build(u, i, shape), "user", 1).shuffled
    u, i, shape = draw(2, users=900, items=20, edges=300)
    assert sharing.prepare(Small(), build(u, i, shape), "user", 1).shuffled
    assert not sharing.prepare(Small(), build(u, i, shape), "user", 1, shuffle="never").shuffled


def test_number_of_tasks_depends_on_the_data_alone():
    assert sharing.tasks(0) == 1
    assert sharing.tasks(10, least=6) == 6
    assert sharing.tasks(50_000_000) == 200
    assert sharing.tasks(10**10) == 4096
