"""Rows of small tables by products, against torch's own embeddings."""

import pytest
import torch
from torch.nn import functional

from trawl.model.gather import few_rows, gather, mean_rows


def gradients(table: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    weights = torch.linspace(-1, 1, found.numel(), dtype=found.dtype).view_as(found)
    (gradient,) = torch.autograd.grad((found * weights).sum(), table)
    return gradient


@pytest.mark.parametrize("rows", [6, 100])
def test_few_rows_are_the_rows(rows: int) -> None:
    torch.manual_seed(0)
    table = torch.randn(rows, 3, dtype=torch.float64, requires_grad=True)
    ids = torch.randint(0, rows, (7, 5))
    found, expected = few_rows(table, ids), functional.embedding(ids, table)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(table, found), gradients(table, expected))


@pytest.mark.parametrize("rows", [9, 1000])
def test_mean_rows_are_the_bags_mean(rows: int) -> None:
    torch.manual_seed(0)
    table = torch.randn(rows, 3, dtype=torch.float64, requires_grad=True)
    codes = torch.tensor([[3, 3, 8], [1, 0, 0], [0, 0, 0], [2, 5, 0]])
    expected = functional.embedding_bag(codes, table, mode="mean", padding_idx=0)
    found = mean_rows(table, codes)
    torch.testing.assert_close(found, expected)
    assert not found[2].any()
    torch.testing.assert_close(gradients(table, found), gradients(table, expected))


def test_gradients_of_bfloat16_rows_do_not_stop_growing() -> None:
    """Added one by one in bfloat16, ones stop at 256."""
    table = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    gather(table, torch.ones(1000, dtype=torch.long)).sum().backward()
    assert table.grad is not None
    assert table.grad[1].item() == 1000
