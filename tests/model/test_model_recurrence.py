"""The scans of DIEN's GRUs, gathers and weighted sums: values of a plain loop, gradients of finite differences."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from trawl.model.backbones import recurrence, steps
from trawl.model.backbones.recurrence import History, evolve, extract
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


class World:
    """Inputs of both scans for four rows, of which `active` are at work in each step."""

    def __init__(self, active: list[int], units: int, seed: int, rated: bool = True) -> None:
        generator, self.active = torch.Generator().manual_seed(seed), sorted(active)
        count = len(active)

        def numbers(*size: int) -> torch.Tensor:
            return torch.randn(*size, generator=generator, dtype=torch.float64).requires_grad_()

        def ids(most: int) -> torch.Tensor:
            return torch.randint(0, most, (count, 4), generator=generator)

        self.history = History(ids(5), ids(3), self.active)
        self.table, self.ratings = numbers(5, 3 * units), numbers(3, 3 * units) if rated else None
        self.query = numbers(4, units)
        self.weight = (numbers(3 * units, units).detach() * units**-0.5).requires_grad_()
        self.inputs, self.inward, self.bias = numbers(count, 4, 2), numbers(3 * units, 2), numbers(3 * units)
        self.gate = numbers(count, 4)

    def extracting(self) -> tuple[Any, ...]:
        return self.table, self.ratings, self.weight, self.query

    def evolving(self) -> tuple[torch.Tensor, ...]:
        return self.inputs, self.inward, self.bias, self.weight, self.gate


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=5),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 99),
    st.booleans(),
)
def test_scans_are_the_loop_and_their_gradients_are_right(
    active: list[int], units: int, rated: bool, seed: int, blocks: bool
) -> None:
    w = World(active, units, seed, rated)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recurrence, "_ROWS", 3 if blocks else 512)
        x = w.table[w.history.places]
        if w.ratings is not None:
            x = x + w.ratings[w.history.levels]
        states = looped(x, w.weight, w.active, None)
        torch.testing.assert_close(extract(*w.extracting(), w.history), (states, (states * w.query).sum(dim=2)))
        last = looped(w.inputs @ w.inward.T + w.bias, w.weight, w.active, w.gate)[-1]
        torch.testing.assert_close(evolve(*w.evolving(), w.active), last)
        assert torch.autograd.gradcheck(lambda *v: extract(*v, w.history), w.extracting())
        assert torch.autograd.gradcheck(lambda *v: evolve(*v, w.active), w.evolving())


@pytest.mark.parametrize("units", [1, 5, 64])
@pytest.mark.parametrize("active", [[4, 4, 4], [0, 1, 3], [0, 0, 0]], ids=str)
def test_compiled_passes_are_the_plain_ones(active: list[int], units: int, monkeypatch: pytest.MonkeyPatch) -> None:
    w = World(active, units, 7)
    found = []
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(steps, "Compiled", steps.Step)
        first, second = (
            [v.detach().float().requires_grad_() for v in given] for given in (w.extracting(), w.evolving())
        )
        states, scores = extract(*first, w.history)
        last = evolve(*second, w.active)
        (states.square().sum() + scores.sin().sum() + last.square().sum()).backward()
        found.append([states, scores, last, *(v.grad for v in (*first, *second))])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_gradients_of_what_lies_by_columns_are_not_lost() -> None:
    w = World([2, 4, 4], 5, 3)
    found = []
    for turned in (False, True):
        given = [v.detach().float() for v in (*w.extracting(), *w.evolving())]
        given = [(v.t().contiguous().t() if turned and v.dim() == 2 else v).requires_grad_() for v in given]
        states, scores = extract(*given[:4], w.history)
        (states.square().sum() + scores.sin().sum() + evolve(*given[4:], w.active).square().sum()).backward()
        found.append([v.grad for v in given])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("wrong", [-1, 5])
@pytest.mark.parametrize("part", ["places", "levels"])
def test_what_a_table_does_not_have_is_an_error(part: str, wrong: int, dtype: torch.dtype) -> None:
    w = World([4, 4], 3, 1)
    given = [v.detach().to(dtype) for v in w.extracting()]
    getattr(w.history, part)[1, 2] = wrong
    with pytest.raises((IndexError, RuntimeError)):
        extract(*given, w.history)


def test_large_numbers_saturate_the_compiled_gates() -> None:
    table = torch.tensor([[-200.0, 0, 200], [200.0, 0, 200], [200.0, 0, -200]])
    history = History(torch.tensor([[0, 1, 2]]), torch.zeros(1, 3, dtype=torch.int64), [3])
    states, _ = extract(table, None, torch.zeros(3, 1), torch.zeros(3, 1), history)
    torch.testing.assert_close(states[0, :, 0], torch.tensor([0.0, 1.0, -1.0]), rtol=0, atol=1e-6)


def test_not_a_number_is_not_hidden() -> None:
    table = torch.tensor([[0.0, 0, torch.nan], [torch.nan, 0, 0], [1.0, 1, 1]], requires_grad=True)
    history = History(torch.tensor([[0, 1, 2]]), torch.zeros(1, 3, dtype=torch.int64), [3])
    states, _ = extract(table, None, torch.zeros(3, 1), torch.zeros(3, 1), history)
    assert states[0, :, 0].isnan().tolist() == [True, True, False]
    states.sum().backward()
    assert table.grad is not None
    assert table.grad.isnan().any(dim=1).tolist() == [True, True, False]


def test_under_autocast_scans_stay_wide() -> None:
    w = World([4, 4], 3, 1)
    first, second = ([v.detach().float() for v in given] for given in (w.extracting(), w.evolving()))
    with torch.autocast("cpu", torch.bfloat16):
        half = [first[0].bfloat16(), *first[1:]]
        assert extract(*half, w.history)[0].dtype == torch.float32
        assert evolve(second[0].bfloat16(), *second[1:], w.active).dtype == torch.float32


def test_a_scan_without_a_factor_is_torchs_gru() -> None:
    """torch's gate z keeps the old state where DIEN's u takes the new one."""
    torch.manual_seed(0)
    gru = torch.nn.GRU(4, 5, bias=False)
    x = torch.randn(6, 3, 4)
    reset, keep, new = gru.weight_ih_l0.split(5)
    h_reset, h_keep, h_new = gru.weight_hh_l0.split(5)
    inward, weight = torch.cat([-keep, reset, new]), torch.cat([-h_keep, h_reset, h_new])
    places = torch.arange(18).view(6, 3)
    table = x.reshape(18, 4) @ inward.T
    states, _ = extract(table, None, weight, torch.zeros(3, 5), History(places, places, [3] * 6))
    torch.testing.assert_close(states, gru(x)[0])
    torch.testing.assert_close(evolve(x, inward, torch.zeros(15), weight, torch.ones(6, 3), [3] * 6), gru(x)[0][-1])


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
