"""Whom the contrastive loss pulls together and pushes apart: partners of SWING, shared facts, drawn negatives."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import table

from trawl.errors import InputError
from trawl.training.facts import Facts, facts_of
from trawl.training.partners import Drawn, Partners

COUNT = 12
TEXT = np.arange(COUNT + 1) > 0
# Anchor 1 has the partners 2, 3, 4 by rank; 2 has 5; 6 has 1.
TABLE = tuple(np.array(c) for c in zip(*[(1, 0, 2), (1, 1, 3), (1, 2, 4), (2, 0, 5), (6, 0, 1)], strict=True))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def drawn_often(partners: Partners, entities: list[int], times: int = 400) -> list[Drawn]:
    generator = rng()
    return [partners.draw(np.array(entities), 100, generator) for _ in range(times)]


def test_positives_come_from_the_top_and_none_without_a_partner() -> None:
    partners = Partners(TABLE, COUNT, 2, TEXT)  # type: ignore[arg-type]
    found = drawn_often(partners, [1, 1, 2, 7])
    assert all(d.anchor.tolist() == [1, 2] for d in found)
    assert {int(d.positive[0]) for d in found} == {2, 3}
    assert {int(d.positive[1]) for d in found} == {5}


def test_a_table_in_any_order_says_the_same() -> None:
    turned = tuple(np.asarray(c)[[3, 1, 4, 2, 0]] for c in TABLE)
    for top in (1, 3):
        one, other = (Partners(t, COUNT, top, TEXT).draw(np.arange(1, 9), 9, rng()) for t in (TABLE, turned))  # type: ignore[arg-type]
        assert one.positive.tolist() == other.positive.tolist()


def test_pairs_without_text_are_left_out() -> None:
    text = TEXT.copy()
    text[[2, 6]] = False
    found = drawn_often(Partners(TABLE, COUNT, 2, text), [1, 2, 6], 50)  # type: ignore[arg-type]
    assert all((d.anchor.tolist(), d.positive.tolist()) == ([1], [3]) for d in found)


def test_anchors_are_bounded_and_distinct() -> None:
    anchors = np.arange(1, COUNT + 1)
    table = (anchors, np.zeros(COUNT, dtype=int), anchors % COUNT + 1)
    found = Partners(table, COUNT, 1, TEXT).draw(np.repeat(anchors, 3), 5, rng())
    assert len(found.anchor) == len(set(found.anchor)) == 5
    assert (found.positive == found.anchor % COUNT + 1).all()


def test_scores_decide_how_often_a_partner_is_drawn() -> None:
    score = np.array([6.0, 3.0, 1.0, 1.0, 1.0])
    partners = Partners(TABLE, COUNT, 3, TEXT, score=score)  # type: ignore[arg-type]
    found = np.bincount([int(d.positive[0]) for d in drawn_often(partners, [1, 2], 3000)], minlength=5) / 3000
    np.testing.assert_allclose(found[2:5], [0.6, 0.3, 0.1], atol=0.03)
    even = np.bincount([int(d.positive[0]) for d in drawn_often(Partners(TABLE, COUNT, 3, TEXT), [1], 3000)])  # type: ignore[arg-type]
    np.testing.assert_allclose(even[2:5] / 3000, 1 / 3, atol=0.04)


def test_a_score_of_nothing_still_draws_a_partner() -> None:
    partners = Partners(TABLE, COUNT, 3, TEXT, score=np.zeros(5))  # type: ignore[arg-type]
    assert {int(d.positive[0]) for d in drawn_often(partners, [1], 20)} <= {2, 3, 4}


def test_other_partners_of_an_anchor_are_known() -> None:
    """Row 2's positive may be a partner of anchor 1 that was not drawn."""
    table = tuple(np.array(c) for c in zip(*[(1, 0, 8), (1, 1, 9), (2, 0, 9), (3, 0, 10)], strict=True))
    partners = Partners(table, COUNT, 2, TEXT)  # type: ignore[arg-type]
    for found in drawn_often(partners, [1, 2, 3], 20):
        assert found.known is not None
        assert found.known[0].tolist() == [True, True, False]
        assert found.known[1:].tolist() == [[found.positive[0] == 9, True, False], [False, False, True]]
    assert Partners(table, COUNT, 1, TEXT).draw(np.array([1, 2]), 9, rng()).known is None  # type: ignore[arg-type]


@pytest.mark.parametrize("facts", [False, True])
def test_negatives_are_no_partners_in_either_direction(facts: bool) -> None:
    shared = Facts(np.array([1, 8]), np.array([0, 0]), COUNT, 5, TEXT) if facts else None
    text, pool = TEXT.copy(), TEXT.copy()
    text[9], pool[10] = False, False
    partners = Partners(TABLE, COUNT, 1, text, low=6, pool=pool, facts=shared)  # type: ignore[arg-type]
    seen: dict[int, set[int]] = {}
    for found in drawn_often(partners, [1, 2], 200):
        assert found.negative is not None
        assert found.negative.shape == (len(found.anchor), 6)
        assert found.known is None
        for anchor, row in zip(found.anchor, found.negative, strict=True):
            seen.setdefault(int(anchor), set()).update(row.tolist())
    near = {1: {1, 2, 3, 4, 6} | ({8} if facts else set()), 2: {1, 2, 5}}  # with 6, whose partner 1 is
    for anchor, others in near.items():
        assert seen[anchor] - {0} == set(range(1, COUNT + 1)) - others - {9, 10}


def test_where_all_are_partners_there_is_no_negative() -> None:
    table = tuple(np.array(c) for c in zip(*[(1, 0, 2), (1, 1, 3)], strict=True))
    partners = Partners(table, 3, 2, TEXT[:4], low=4)  # type: ignore[arg-type]
    found = partners.draw(np.array([1]), 9, rng())
    assert found.negative is not None
    assert found.negative.tolist() == [[0] * 4]


def test_the_same_generator_draws_the_same() -> None:
    partners = Partners(TABLE, COUNT, 3, TEXT, low=3)  # type: ignore[arg-type]
    one, same, other = (partners.draw(np.array([1, 2, 6]), 9, rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(one.negative, same.negative) and np.array_equal(one.positive, same.positive)  # type: ignore[arg-type]
    assert not np.array_equal(one.negative, other.negative)  # type: ignore[arg-type]


def parts(rows: list[tuple[int, str, str]]) -> list[pa.Table]:
    names = ("entity", "relation", "value")
    rows = [dict(zip(names, row, strict=True)) for row in sorted(rows)]
    return [table("facts", part) for part in (rows[::2], [], rows[1::2])]


FACTS = [
    *((i, "director", "lynch") for i in (1, 2, 3)),
    *((i, "director", "wenders") for i in (4, 5)),
    (6, "director", "alone"),
    *((i, "genre", "drama") for i in range(1, 10)),
    (7, "series", "lynch"),  # the same word under another name is another fact
]


def test_fact_positives_share_a_value_and_hot_ones_are_left_out() -> None:
    facts = facts_of(parts(FACTS), ["director", "genre", "series"], COUNT, 5, TEXT)
    assert facts.left_out == 1
    assert np.flatnonzero(facts.able).tolist() == [1, 2, 3, 4, 5]
    generator, met = rng(), set()
    for _ in range(100):
        anchors = np.array([1, 2, 3, 4, 5])
        met |= set(zip(anchors.tolist(), facts.draw(anchors, generator).tolist(), strict=True))
    assert met == {(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2), (4, 5), (5, 4)}
    assert facts.shared(np.array([1, 4, 6]), np.array([3, 5, 7])).tolist() == [
        [True, False, False],
        [False, True, False],
        [False, False, False],
    ]
    assert facts_of(parts(FACTS), ["genre"], COUNT, 9, TEXT).able[1:10].all()


def test_what_may_not_be_drawn_is_in_no_fact() -> None:
    usable = TEXT.copy()
    usable[5] = False
    facts = facts_of(parts(FACTS), ["director"], COUNT, 5, usable)
    assert np.flatnonzero(facts.able).tolist() == [1, 2, 3]


def test_an_unknown_field_is_named_with_those_that_there_are() -> None:
    with pytest.raises(InputError, match=r"'writer'; there are director, genre, series"):
        facts_of(parts(FACTS), ["director", "writer"], COUNT, 5, TEXT)


def test_an_anchor_gets_a_row_for_its_fact_beside_that_of_swing() -> None:
    facts = facts_of(parts(FACTS), ["director"], COUNT, 5, TEXT)
    found = Partners(TABLE, COUNT, 1, TEXT, facts=facts).draw(np.array([1, 4, 6, 9]), 9, rng())  # type: ignore[arg-type]
    assert found.anchor.tolist() == [1, 6, 1, 4]
    assert found.positive[[0, 1, 3]].tolist() == [2, 1, 5]
    assert found.positive[2] in (2, 3)
    assert found.known is not None
    assert found.known[3].tolist() == [False, False, False, True]
    assert found.known[0, 2]  # the fact's positive is no negative of the row of SWING


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 3)), max_size=20), st.integers(2, 4))
def test_shared_values_are_those_of_a_plain_loop(rows: list[tuple[int, int]], cap: int) -> None:
    entity, value = (np.array([r[i] for r in rows], dtype=np.int64) for i in range(2))
    facts = Facts(entity, value, 8, cap, np.ones(9, dtype=bool))
    holders = {v: {e for e, w in rows if w == v} for v in range(4)}
    kept = [h for h in holders.values() if 2 <= len(h) <= cap]
    ids = np.arange(1, 9)
    expected = [[any({a, b} <= h for h in kept) for b in ids] for a in ids]
    assert facts.shared(ids, ids).tolist() == expected
