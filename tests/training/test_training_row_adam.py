"""Lazy AdamW over touched rows."""

import pytest
import torch
from torch.nn import functional

from trawl.training.row_adam import RowAdam


def run(make: object, steps: list[torch.Tensor], rows: int = 50) -> tuple[torch.Tensor, torch.optim.Optimizer]:
    generator = torch.Generator().manual_seed(0)
    table = torch.nn.Parameter(torch.randn(rows, 4, generator=generator, dtype=torch.float64))
    target = torch.randn(rows, 4, generator=generator, dtype=torch.float64)
    optimizer = make([table])  # type: ignore[operator]
    for ids in steps:
        optimizer.zero_grad(set_to_none=True)
        (functional.embedding(ids, table, sparse=True) - target[ids]).square().sum().backward()
        optimizer.step()
    return table.detach(), optimizer


STEPS = [torch.tensor(ids) for ids in ([1, 2, 2, 2], [49, 1], [0, 0, 3], [2, 7, 1], [1])]


def test_without_decay_it_is_torchs_sparse_adam() -> None:
    ours, _ = run(lambda p: RowAdam(p, lr=0.1), STEPS)
    theirs, _ = run(lambda p: torch.optim.SparseAdam(p, lr=0.1), STEPS)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)


def test_rows_that_are_touched_in_every_step_move_as_under_adamw() -> None:
    """But for eps, which AdamW adds to the corrected root."""
    steps = [torch.arange(50)] * 5
    ours, _ = run(lambda p: RowAdam(p, lr=0.1, weight_decay=0.3, eps=0.0), steps)
    generator = torch.Generator().manual_seed(0)
    table = torch.nn.Parameter(torch.randn(50, 4, generator=generator, dtype=torch.float64))
    target = torch.randn(50, 4, generator=generator, dtype=torch.float64)
    optimizer = torch.optim.AdamW([table], lr=0.1, weight_decay=0.3, eps=0.0)
    for _ in steps:
        optimizer.zero_grad()
        (table - target).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(ours, table.detach(), rtol=0, atol=1e-12)


def test_untouched_rows_stay_and_decay_with_their_steps_only() -> None:
    start, _ = run(lambda p: RowAdam(p, lr=0.1), [])
    ours, _ = run(lambda p: RowAdam(p, lr=0.1, weight_decay=0.5), STEPS)
    untouched = [i for i in range(50) if not any(i in ids for ids in STEPS)]
    assert torch.equal(ours[untouched], start[untouched])


def test_its_state_is_part_of_a_checkpoint() -> None:
    whole, _ = run(lambda p: RowAdam(p, lr=0.1, weight_decay=0.1), STEPS)
    generator = torch.Generator().manual_seed(0)
    table = torch.nn.Parameter(torch.randn(50, 4, generator=generator, dtype=torch.float64))
    target = torch.randn(50, 4, generator=generator, dtype=torch.float64)
    optimizer = RowAdam([table], lr=0.1, weight_decay=0.1)
    for number, ids in enumerate(STEPS):
        if number == 2:
            state = optimizer.state_dict()
            table = torch.nn.Parameter(table.detach().clone())
            optimizer = RowAdam([table], lr=1.0)
            optimizer.load_state_dict(state)
        optimizer.zero_grad(set_to_none=True)
        (functional.embedding(ids, table, sparse=True) - target[ids]).square().sum().backward()
        optimizer.step()
    assert torch.equal(table.detach(), whole)


def test_a_dense_gradient_is_refused() -> None:
    table = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = RowAdam([table], lr=0.1)
    table.sum().backward()
    with pytest.raises(ValueError, match="sparse gradients"):
        optimizer.step()
