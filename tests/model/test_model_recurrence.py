"""The scan of DIEN's GRUs, gathers and weighted sums: values of a plain loop, gradients of finite differences."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from trawl.model.backbones.recurrence import scan
from trawl.model.features import distinct
from trawl.model.gather import gather, weighted_sums


def looped(x: torch.Tensor, weight: torch.Tensor, active: list[int], gate: torch.Tensor | None) -> torch.Tensor:
    """Row by row, step by step."""
    steps, rows, width = x.shape
    units = width // 3
    out = torch.zeros(steps, rows, units, dtype=x.dtype)
    for b in range(rows):
        h = torch.zeros(units, dtype=x.dtype)
        for t in range(steps):
            if b >= active[t]:
                continue
            own, past = x[t, b].split(units), (weight @ h).split(units)
            u, r = (torch.sigmoid(own[i] + past[i]) for i in range(2))
            u = u if gate is None else u * gate[t, b]
            h = (1 - u) * h + u * torch.tanh(own[2] + r * past[2])
            out[t, b] = h
    return out


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=5), st.integers(1, 3), st.booleans(), st.integers(0, 99))
def test_the_scan_is_the_loop_and_its_gradient_is_right(active: list[int], units: int, gated: bool, seed: int) -> None:
    generator, active = torch.Generator().manual_seed(seed), sorted(active)

    def numbers(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64).requires_grad_()

    x, weight = numbers(len(active), 4, 3 * units), numbers(3 * units, units)
    given = (x, weight, numbers(len(active), 4)) if gated else (x, weight)
    gate = given[2] if gated else None
    torch.testing.assert_close(scan(x, weight, active, gate), looped(x, weight, active, gate))
    assert torch.autograd.gradcheck(lambda *v: scan(v[0], v[1], active, v[2] if gated else None), given)


def test_a_scan_without_a_factor_is_torchs_gru() -> None:
    """torch's gate z keeps the old state where DIEN's u takes the new one."""
    torch.manual_seed(0)
    gru, units = torch.nn.GRU(4, 5, bias=False), 5
    x = torch.randn(6, 3, 4)
    reset, keep, new = gru.weight_ih_l0.split(units)
    h_reset, h_keep, h_new = gru.weight_hh_l0.split(units)
    inputs = x @ torch.cat([-keep, reset, new]).T
    found = scan(inputs, torch.cat([-h_keep, h_reset, h_new]), [3] * 6)
    torch.testing.assert_close(found, gru(x)[0])


@pytest.mark.parametrize("width", [1, 3])
def test_gathers_and_weighted_sums_are_those_of_torch(width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(5, width, generator=generator, dtype=torch.float64).requires_grad_()
    weights = torch.randn(4, 2, 3, generator=generator, dtype=torch.float64).requires_grad_()
    ids = torch.tensor([[1, 2, 2], [4, 4, 4], [0, 1, 2], [3, 1, 3]])
    torch.testing.assert_close(gather(table, ids), functional.embedding(ids, table))
    expected = torch.einsum("bph,bhd->bpd", weights, functional.embedding(ids, table))
    torch.testing.assert_close(weighted_sums(table, ids, weights), expected)
    assert torch.autograd.gradcheck(lambda t: gather(t, ids), (table,))
    assert torch.autograd.gradcheck(lambda t, w: weighted_sums(t, ids, w), (table, weights))


def test_distinct_ids_are_found_alike_by_marks_and_by_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = torch.randint(0, 1000, (40, 5), generator=torch.Generator().manual_seed(0))
    found = []
    for several in (0, 10**6):
        monkeypatch.setattr("trawl.model.features._SEVERAL", several)
        found.append(distinct(1000, ids, ids[0]))
    (one, ones), (other, others) = found
    assert one is not None
    assert other is not None
    assert torch.equal(one, other)
    assert all(torch.equal(a, b) for a, b in zip(ones, others, strict=True))
    assert torch.equal(one[ones[0]], ids)
