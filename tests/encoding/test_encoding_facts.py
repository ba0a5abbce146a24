"""Vectors of facts: what two items have in common, the same for any order, part and worker."""

import numpy as np
import pyarrow as pa
import pytest

from trawl.encoding.facts import encode

FACTS = {
    1: {"genres": ["Comedy", "Drama"], "director": ["Anna Berg"]},
    2: {"genres": ["Comedy"], "director": ["Anna Berg"]},
    3: {"genres": ["Western"], "director": ["Anna Berg"]},
    4: {"genres": ["Western"], "director": ["Juan Gris"]},
    5: {},
    6: {"genres": ["Anna Berg"], "director": ["Comedy"]},
}
ENTITY = np.array(list(FACTS))


def table(facts: dict[int, dict[str, list[str]]] = FACTS) -> pa.Table:
    rows = [
        {"entity": e, "relation": r, "value": v}
        for e, known in facts.items()
        for r, values in known.items()
        for v in values
    ]
    schema = pa.schema([("entity", pa.int64()), ("relation", pa.large_string()), ("value", pa.large_string())])
    return pa.Table.from_pylist(rows, schema=schema)


def test_the_cosine_is_what_two_items_have_in_common() -> None:
    vectors, count = encode(ENTITY, table(), 8192)
    assert count.tolist() == [3, 2, 2, 2, 0, 2]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 1, 0, 1], atol=1e-6)
    cosine = vectors @ vectors.T
    half = 0.5**0.5
    expected = {(0, 1): (1 + half) / 2, (1, 2): 0.5, (2, 3): 0.5, (1, 3): 0.0, (0, 3): 0.0, (1, 5): 0.0}
    for pair, value in expected.items():
        assert cosine[pair] == pytest.approx(value, abs=0.04), pair


def test_order_parts_and_seed() -> None:
    vectors, _ = encode(ENTITY, table(), 64, seed=3)
    rows = table()
    shuffled, _ = encode(ENTITY, rows.take(pa.array(np.random.default_rng(0).permutation(len(rows)))), 64, seed=3)
    assert np.array_equal(vectors, shuffled)
    alone, _ = encode(np.array([2, 3]), table({i: FACTS[i] for i in (2, 3)}), 64, seed=3)
    np.testing.assert_array_equal(alone, vectors[1:3])
    assert not np.array_equal(encode(ENTITY, table(), 64, seed=4)[0], vectors)
    assert encode(ENTITY, table(), 100)[0].shape == (6, 100)


def test_no_facts_at_all() -> None:
    vectors, count = encode(ENTITY, table({}), 16)
    assert vectors.shape == (6, 16) and not vectors.any() and not count.any()
    assert encode(np.zeros(0, dtype=np.int64), table({}), 16)[0].shape == (0, 16)
