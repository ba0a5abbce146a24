"""The cap error against whole recomputation: of graphs in memory, in partitions, and through the stages."""

import numpy as np
import pytest
from test_swing_distribution import build
from test_swing_stage import ITEMS, PARTS, USERS, ratings
from worlds import behaviour

from trawl.config import Config
from trawl.executors import Inline
from trawl.pool import InProcess
from trawl.stage import run_stage
from trawl.store import Store
from trawl.swing import cap_error, capping
from trawl.swing.cap_error import CapError, InMemory, measured, sampled, warning, words
from trawl.swing.cap_plan import planned, settings_of
from trawl.swing.degrees import Degrees
from trawl.swing.formula import Formula
from trawl.swing.graph import bipartite
from trawl.swing.kernel import Swing
from trawl.swing.mining import Miner
from trawl.swing.stage import STAGES

FORMULAS = [Formula(normalize=n) for n in ("none", "cosine", "degree")]
TOP = 5


def draw(seed=0, users=120, items=40, edges=1500):
    rng = np.random.default_rng(seed)
    return rng.integers(0, users, edges), np.minimum(rng.lognormal(2, 1, edges).astype(int), items - 1), (users, items)


def mined(seed, formula, shuffle="never", **settings):
    """(what tasks are given, capped partners, self scores) of a user side in one task."""
    u, i, shape = draw(seed)
    given, _ = capping.give(InProcess(), build(u, i, shape), "user", 1, settings_of(**settings), shuffle=shuffle)
    miner = Miner(given.open(), formula)
    own = None if formula.normalize == "none" else miner.own(0)
    return given, miner.topk(0, TOP, own), own


def by_hand(seed, formula, found):
    u, i, shape = draw(seed)
    exact = Swing(bipartite(u, i, shape), formula).topk(range(shape[0]), shape[0])
    sums = {"targets": 0, "same": 0, "listed": 0, "recall": 0.0, "score": 0.0}
    for user in range(shape[0]):
        mine = {
            int(v): s for v, s in zip(*(a[exact.anchor == user] for a in (exact.partner, exact.score)), strict=True)
        }
        capped = found.partner[found.anchor == user].tolist()
        if mine:
            best = list(mine)[:TOP]
            sums["targets"] += 1
            sums["same"] += capped[:1] == best[:1]
            sums["listed"] += best[0] in capped
            sums["recall"] += len(set(best) & set(capped)) / len(best)
            sums["score"] += sum(mine[v] for v in capped) / sum(mine[v] for v in best)
    return sums


@pytest.mark.parametrize("formula", FORMULAS, ids=str)
@pytest.mark.parametrize("settings", [{"users_per_item": 20}, {"target_features": 4}], ids=str)
def test_it_is_what_a_comparison_of_all_targets_gives(monkeypatch, formula, settings):
    monkeypatch.setattr(cap_error, "_LEADERS", 120)
    given, found, own = mined(0, formula, **settings)
    u, i, shape = draw(0)
    every = np.arange(shape[0])
    expected = by_hand(0, formula, found)
    assert 5 < expected["same"] < shape[0] - 5
    parted = mined(0, formula, "always", **settings)[0]
    assert isinstance(capping.source_of(parted, formula), capping.Fetched)
    for source in (
        InMemory(bipartite(u, i, shape), formula),
        *(capping.source_of(g, formula) for g in (given, parted)),
    ):
        error = vars(measured(source, formula, found, every, TOP, own=own))
        assert {k: error[k] for k in expected} == pytest.approx(expected)


@pytest.mark.parametrize("formula", FORMULAS, ids=str)
def test_without_an_effect_there_is_no_error(formula):
    u, i, shape = draw(1)
    source = InMemory(bipartite(u, i, shape), formula)
    found = Swing(source.graph, formula).topk(range(shape[0]), TOP)
    own = Swing(source.graph, formula).self_scores(range(shape[0]))
    error = measured(source, formula, found, np.arange(shape[0]), TOP, own=own)
    assert error.as_dict() == {"targets": error.targets, "left_out": 0, **dict.fromkeys(cap_error._MEANS, 1.0)}
    assert error.targets > 100 and warning(error.as_dict(), TOP) == ""


def test_the_sample_is_the_same_in_any_pieces_and_keeps_its_share_of_the_cost():
    degrees = Degrees.of(np.full(50_000, 100))
    lengths = Degrees.of(np.full(500, 10_000))
    plan = planned("user", settings_of(users_per_item=500), degrees, lengths)
    whole = sampled(plan, FORMULAS[0], np.arange(50_000), 50_000)
    pieces = [sampled(plan, FORMULAS[0], some, 50_000) for some in np.array_split(np.arange(50_000), 7)]
    assert np.concatenate(pieces).tolist() == whole.tolist()
    assert 200 < len(whole) < 400  # a tenth of 3e9 steps, a million each
    costly = planned("user", settings_of(users_per_item=1), degrees, lengths)
    some = sampled(costly, FORMULAS[1], np.arange(50_000), 50_000)
    each = costly.exact_steps / 50_000 * (1 + cap_error._LEADERS)
    assert 0 < len(some) * each < 3 * cap_error.SHARE * 2 * costly.steps
    exact = planned("user", settings_of(), Degrees.of(np.array([3])), Degrees.of(np.array([3])))
    assert not len(sampled(exact, FORMULAS[0], np.arange(9), 9))


def test_a_target_that_is_too_costly_is_left_out_and_counted():
    u, i, shape = draw(2)
    source = InMemory(bipartite(u, i, shape), FORMULAS[0])
    found = Swing(source.graph, FORMULAS[0]).topk(range(shape[0]), TOP)
    costs = [source.cost(t) for t in range(shape[0])]
    limit = float(np.median(costs))
    error = measured(source, FORMULAS[0], found, np.arange(shape[0]), TOP, limit_steps=limit)
    assert error.left_out == sum(c > limit for c in costs) > 10
    assert error.targets + error.left_out <= shape[0]


def test_words_and_warning():
    poor = CapError(targets=100, same=50, listed=80, recall=60.0, score=85.0).as_dict()
    assert "the best partner is the same for 50.0%, and in the top 10 for 80.0%" in words(poor, 10)
    assert "raise swing.exact_steps or the caps" in warning(poor, 10) and "\n" not in warning(poor, 10)
    assert warning(CapError(targets=100, same=90, listed=99, recall=90.0, score=99.0).as_dict(), 10) == ""
    assert "only 3 targets" in warning(CapError(targets=3, same=3, listed=3, recall=3.0, score=3.0).as_dict(), 10)
    nothing = CapError(left_out=4).as_dict()
    assert warning(nothing, 10) == "" and "no target" in words(nothing, 10) and nothing["score"] is None


def stages(path, *settings, partitions=2):
    store, cfg = Store(str(path)), Config().override("swing.top_k=4", "swing.interactions=all", *settings)
    marks = behaviour(store, ratings(), users=USERS, items=ITEMS, splits=PARTS, partitions=partitions)
    done = [run_stage(s, cfg, store, {n: marks[n] for n in s.reads(cfg)}, Inline()) for s in STAGES]
    return {d.artifact: d for d in done}, store


def test_the_manifest_tells_the_caps_their_error_and_the_degrees(tmp_path):
    done, store = stages(tmp_path, "swing.users_per_item=4", "swing.exact_steps=1e9")
    user, item = done["user_positives"], done["item_positives"]
    assert store.manifest("user_positives", user.fingerprint).notes == user.notes
    assert (user.notes["caps"]["lists"], user.notes["caps"]["cut_lists"] > 0, user.notes["interactions"]) == (
        4,
        True,
        "all",
    )
    assert user.notes["cap_error"]["targets"] + user.notes["cap_error"]["left_out"] > 0
    assert "cap_error" not in item.notes and item.notes["caps"]["words"].startswith("exact")
    population = Degrees.from_dict(item.notes["degrees"]["population"])
    assert population.total == ITEMS and Degrees.from_dict(user.notes["degrees"]["population"]).lowest.tolist() == [9]
    assert user.notes["warnings"] or user.notes["cap_error"]["same"] >= 0.7


def test_exact_keys_leave_the_fingerprint_and_caps_change_it(tmp_path):
    marks = {}
    for name, settings in {
        "default": (),
        "other": ("swing.exact_steps=1e10",),
        "capped": ("swing.users_per_item=4",),
        "seed": ("swing.users_per_item=4", "swing.cap_seed=1"),
        "parts": ("swing.users_per_item=4", "resources.swing_shuffle=always"),
    }.items():
        done, _ = stages(tmp_path / name, *settings)
        marks[name] = done["user_positives"].fingerprint, done["user_positives"].rows
    assert marks["default"] == marks["other"] != marks["capped"] != marks["seed"]
    assert marks["parts"] == marks["capped"]
