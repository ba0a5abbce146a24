"""Nearest neighbours against a plain sort of all cosines; ties, blocks, rows that take no part."""

import numpy as np
import pytest

from trawl.export import neighbours
from trawl.export.neighbours import nearest


def unit(rows: int, width: int, seed: int = 0) -> np.ndarray:
    matrix = np.random.default_rng(seed).normal(size=(rows + 1, width)).astype(np.float32)
    matrix[0] = 0
    return matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)


def plain(items: np.ndarray, matrix: np.ndarray, there: np.ndarray, top: int) -> list[tuple[int, int, int]]:
    """(item, rank, neighbour) by sorting everything."""
    out = []
    for item in items:
        others = [i for i in range(1, len(matrix)) if there[i] and i != item]
        cosines = {i: round(float(matrix[item].astype(float) @ matrix[i].astype(float)), 9) for i in others}
        order = sorted(others, key=lambda i: (-cosines[i], i))[:top]
        out += [(int(item), rank, i) for rank, i in enumerate(order)]
    return out


@pytest.mark.parametrize("blocks", [(256, 16384), (7, 5)], ids=["one-block", "many-blocks"])
@pytest.mark.parametrize("top", [1, 4, 100], ids=["one", "some", "more-than-there-are"])
def test_it_is_what_a_sort_of_all_cosines_gives(
    blocks: tuple[int, int], top: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "_ANCHORS", blocks[0])
    monkeypatch.setattr(neighbours, "_CANDIDATES", blocks[1])
    matrix = unit(40, 6)
    there = np.arange(41) % 6 != 0
    items = np.flatnonzero(there)
    found = nearest(items, matrix, there, top)
    rows = list(zip(*(found[name].to_pylist() for name in ("item", "rank", "neighbour")), strict=True))
    assert rows == plain(items, matrix, there, top)
    cosines = (matrix[found["item"].to_numpy()] * matrix[found["neighbour"].to_numpy()]).sum(axis=1)
    np.testing.assert_allclose(found["similarity"].to_numpy(), cosines, atol=1e-6)


@pytest.mark.parametrize("candidates", [3, 16384])
def test_ties_go_to_the_smaller_index_across_blocks(candidates: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_CANDIDATES", candidates)
    matrix = unit(1, 33)[[0] + [1] * 20]  # all items the same
    found = nearest(np.array([1, 9]), matrix, np.arange(21) > 0, 3)
    assert found["neighbour"].to_pylist() == [2, 3, 4, 1, 2, 3]
    assert found["rank"].to_pylist() == [0, 1, 2, 0, 1, 2]


def test_no_item_no_row() -> None:
    matrix = unit(3, 2)
    assert nearest(np.array([], dtype=np.int64), matrix, np.arange(4) > 0, 2).num_rows == 0
    alone = nearest(np.array([2]), matrix, np.arange(4) == 2, 2)
    assert alone.num_rows == 0
