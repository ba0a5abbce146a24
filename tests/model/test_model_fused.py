"""Layers that a CPU computes in one pass, against what is written in torch: values, and gradients of every input."""

from collections.abc import Callable
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch

from trawl.config import Config
from trawl.model import fused
from trawl.model.backbones import build
from trawl.model.backbones.base import Encoded, Shape
from trawl.model.features import dropped
from trawl.model.kernels.ids import last_rows

BATCH, POSITIONS, ITEMS = 300, 5, 40  # more samples than DIN's attention takes at a time
SHAPES = {
    "everything": Shape(user_parts=(4, 4), item_parts=(4, 4), rating=4, levels=5, extra=3, near=True),
    "bare": Shape(user_parts=(4,), item_parts=(4,), rating=0, levels=1, extra=0, near=False),
    "other widths": Shape(user_parts=(4, 3), item_parts=(5,), rating=2, levels=3, extra=2, near=False),
}


def encoded(shape: Shape, dtype: torch.dtype) -> Encoded:
    """Histories of 0 to 5 items, padded in front."""
    draw = torch.Generator().manual_seed(0)

    def floats(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, generator=draw, dtype=dtype).requires_grad_()

    there = torch.arange(POSITIONS) >= torch.randint(0, POSITIONS + 1, (BATCH, 1), generator=draw)
    levels = torch.randint(1, shape.levels + 1, there.shape, generator=draw) * there
    return Encoded(
        user=floats(BATCH, shape.user),
        items=floats(ITEMS, shape.item),
        target=torch.randint(0, ITEMS, (BATCH,), generator=draw),
        history=torch.randint(0, ITEMS, there.shape, generator=draw) * there,
        levels=levels,
        ratings=floats(shape.levels + 1, shape.rating) if shape.rating else None,
        extra=floats(BATCH, shape.extra),
        near=floats(BATCH, POSITIONS) if shape.near else None,
    )


def learned(net: torch.nn.Module, x: Encoded) -> dict[str, torch.Tensor]:
    """Logits and the gradients of all that has one."""
    logits = net(x)
    named = dict(net.named_parameters()) | {n: t for n, t in vars(x).items() if t is not None and t.requires_grad}
    weights = torch.linspace(-1, 1, BATCH, dtype=logits.dtype)
    found = torch.autograd.grad((logits * weights).sum(), list(named.values()), allow_unused=True)
    zeros = {name: torch.zeros_like(tensor) for name, tensor in named.items()}
    return {"logits": logits} | {n: zeros[n] if g is None else g for n, g in zip(named, found, strict=True)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("backbone", ["din", "deepfm", "dcn", "dcnv2", "xdeepfm", "fibinet", "fignn", "autoint"])
def test_one_pass_learns_what_torch_learns(backbone: str, shape: Shape) -> None:
    cfg = Config().override(f"model.backbone={backbone}", "model.embedding=4", "model.hidden=[6]").model
    torch.manual_seed(1)
    net = build(shape, cfg).double()
    for parameter in net.parameters():  # some start at zero and would hide a gradient
        torch.nn.init.normal_(parameter, std=0.3)
    x = encoded(shape, torch.float64)
    found = learned(net, x)
    with mock.patch.object(fused, "fits", lambda _: False):
        expected = learned(net, x)
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-11, msg=name)


def uses(calls: Callable[[], object]) -> bool:
    """One of the one-pass layers ran."""
    with mock.patch.object(fused, "pooled", wraps=fused.pooled) as pooled:
        calls()
    return bool(pooled.called)


def test_they_serve_training_on_a_cpu_alone() -> None:
    """Scores are those of torch: a bundle needs no compiled code, and equals the training's validation."""
    net = build(SHAPES["bare"], Config().override("model.embedding=4").model)
    x = encoded(SHAPES["bare"], torch.float32)
    assert uses(lambda: net(x))
    with torch.no_grad():
        assert not uses(lambda: net(x))
    with torch.inference_mode():
        assert not uses(lambda: net(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert not uses(lambda: net(x))
    half = net.to(torch.bfloat16)
    assert not uses(lambda: half(encoded(SHAPES["bare"], torch.bfloat16)))


def test_equal_steps_end_in_equal_bits() -> None:
    torch.manual_seed(1)
    net = build(SHAPES["everything"], Config().override("model.embedding=4").model)
    x = encoded(SHAPES["everything"], torch.float32)
    first, second = learned(net, x), learned(net, x)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_gradients_are_those_of_finite_differences() -> None:
    shape = Shape(user_parts=(2,), item_parts=(2,), rating=2, levels=2, extra=1, near=True)
    x = encoded(shape, torch.float64)
    few = slice(0, 4)
    target, history, levels = x.target[few] % 5, x.history[few] % 5, x.levels[few]
    draw = torch.Generator().manual_seed(2)
    sizes = {"items": (5, 2), "product": (3, 2), "keys": (5, 3), "queries": (4, 3), "ratings": (3, 3)}
    sizes |= {"near": (4, POSITIONS), "slope": (3,)}
    given = [torch.randn(*size, generator=draw, dtype=torch.float64).requires_grad_() for size in sizes.values()]

    def units(*read: torch.Tensor) -> torch.Tensor:
        *most, near, slope = read
        return fused.units(*most, (near, slope), (target, history, levels))  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(units, given)
    wide = [torch.randn(*size, generator=draw, dtype=torch.float64).requires_grad_() for size in ((4, 7), (7,), (4, 2))]
    assert torch.autograd.gradcheck(lambda a, b, c: fused.machine(a, b, c, 2, 3), wide)


@pytest.mark.parametrize("salt", [0, 12345, -(2**61)])
def test_the_same_ids_are_dropped(salt: int) -> None:
    rows = torch.arange(5000)
    expected = rows.masked_fill(dropped(rows, 0.3, salt), 0)
    assert torch.equal(fused.kept(rows, 0.3, salt), expected)
    assert 0.25 < (expected[1:] == 0).float().mean() < 0.35


def test_distinct_ids_are_torchs() -> None:
    flat = torch.randint(0, 50, (60,), generator=torch.Generator().manual_seed(0))
    found, where = fused.distinct(50, flat)
    expected = torch.unique(flat, return_inverse=True)
    assert torch.equal(found, expected[0])
    assert torch.equal(where, expected[1])
    none, places = fused.distinct(50, flat[:0])
    assert len(none) == len(places) == 0


@pytest.mark.parametrize("fields", [0, 1, 3])
def test_rows_stand_beside_the_sum_of_the_fields(fields: int) -> None:
    draw = torch.Generator().manual_seed(0)
    sizes = [(9, 3), *[(4 + n, 2) for n in range(fields)]]
    tables = [torch.randn(*size, generator=draw, dtype=torch.float64).requires_grad_() for size in sizes]
    own, *others = [(t, torch.randint(0, len(t), (20,), generator=draw)) for t in tables]
    found = fused.beside(own, others)
    parts = [own[0][own[1]], *([sum((t[c] for t, c in others), torch.zeros(()))] if others else [])]
    expected = torch.cat(parts, dim=1)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(found.shape, generator=draw, dtype=torch.float64)
    pairs = zip(*(torch.autograd.grad((x * weights).sum(), tables) for x in (found, expected)), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs)


def test_histories_are_the_last_rows_before_a_sample() -> None:
    values, begin, end = np.arange(100, 130, dtype=np.int32), np.array([0, 3, 5, 9]), np.array([0, 4, 15, 30])
    out = np.zeros((4, 3), dtype=np.int64)
    last_rows(values, begin, end, out)
    assert out.tolist() == [[0, 0, 0], [0, 0, 103], [112, 113, 114], [127, 128, 129]]


@pytest.mark.parametrize("backbone", ["din", "deepfm"])
@pytest.mark.parametrize("name", ["target", "history"])
def test_an_index_outside_a_table_is_refused(backbone: str, name: str) -> None:
    net = build(SHAPES["bare"], Config().override(f"model.backbone={backbone}", "model.embedding=4").model)
    x = encoded(SHAPES["bare"], torch.float32)
    with pytest.raises(IndexError):
        net(replace(x, **{name: torch.full_like(getattr(x, name), ITEMS), "levels": torch.ones_like(x.levels)}))
    with pytest.raises(IndexError, match="does not have"):
        fused.distinct(5, torch.tensor([5]))
