"""Layers of a training step as one pass each, on a CPU: `trawl.model.kernels` under torch's gradients.

On a CPU a step of small layers is bound by memory and by the number of operations, not by arithmetic: each of these
stands for ten to forty operations of torch and their gradients. What they compute is written in torch beside each use,
and that is what runs elsewhere: on a GPU, in bfloat16, compiled by torch, and without gradients (scoring).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Where = tuple[Tensor, Tensor, Tensor]  # target (B,) and history (B, H) as rows of items, levels (B, H) of its ratings
_SAMPLES = 128  # of DIN's attention at a time


def fits(x: Tensor) -> bool:
    """These layers can compute with it."""
    return (
        torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def counts(ids: Tensor) -> bool:
    """The same of whole numbers."""
    return torch.is_grad_enabled() and ids.device.type == "cpu" and not torch.compiler.is_compiling()


def distinct(count: int, flat: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct ids below `count`, ascending, and where each of `flat` stands among them."""
    from trawl.model.kernels.ids import number

    found, where = flat.new_zeros(count + 1), torch.empty_like(flat)
    number(*_arrays(flat, found, where))
    return found[: int(found[count])], where


def kept(rows_N: Tensor, share: float, salt: int) -> Tensor:
    """The rows, 0 for those that `trawl.model.features.dropped` names."""
    from trawl.model.kernels.ids import keep

    out = torch.empty_like(rows_N)
    keep(*_arrays(rows_N), int(share * 2**32), salt, out.numpy())
    return out


def averages(levels_BH: Tensor, level: Tensor) -> Tensor:
    """(B, 2, H) weights of the mean over the positions with a level, and those times the number of each's level."""
    weights: Tensor = _Averages.apply(levels_BH, level)  # type: ignore[no-untyped-call]
    return weights


def pooled(
    items_ND: Tensor,
    where: Where,
    weights_BPH: Tensor,
    ratings_LR: Tensor | None,
    sides: tuple[Tensor, Tensor],
    ratings_last: bool = False,
) -> Tensor:
    """(B, ·) side by side: the first of `sides`, the target, P weighted sums of the history's items, the sum of its
    ratings under the first weights, the second of `sides`; or the last two the other way round. A position of level 0
    counts as none.
    """
    ratings = items_ND.new_zeros(1, 0) if ratings_LR is None else ratings_LR
    given = (items_ND, *where, weights_BPH, ratings)
    whole: Tensor = _Pooled.apply(ratings_last, *sides, *given)  # type: ignore[no-untyped-call]
    return whole


def beside(own: tuple[Tensor, Tensor], fields: list[tuple[Tensor, Tensor]]) -> Tensor:
    """(N, ·) rows of a table by its codes (N,), and beside them the sum of those of the fields, of one width."""
    tables, codes = zip(own, *fields, strict=True)
    out: Tensor = _Beside.apply(len(tables), *tables, *codes)  # type: ignore[no-untyped-call]
    return out


def units(
    items_ND: Tensor,
    product_UD: Tensor,
    keys_NU: Tensor,
    queries_BU: Tensor,
    ratings_LU: Tensor | None,
    near: tuple[Tensor, Tensor] | None,
    where: Where,
) -> Tensor:
    """(B, H, U) relu(product (k * q) + keys[k] + query + ratings[level] + near * slope) of history item k and target q.

    `near`: (B, H) and its slope (U,).
    """
    ratings = keys_NU.new_zeros(1, keys_NU.shape[1]) if ratings_LU is None else ratings_LU
    near_BH, slope = (keys_NU.new_zeros(len(where[0]), 0), keys_NU.new_zeros(0)) if near is None else near
    out: Tensor = _Units.apply(items_ND, product_UD, keys_NU, queries_BU, ratings, near_BH, slope, *where)  # type: ignore[no-untyped-call]
    return out


def machine(x_BW: Tensor, first_W: Tensor, dense_BK: Tensor | None, width: int, fields: int) -> tuple[Tensor, Tensor]:
    """(B,) <first, x> + pairs of the fields: the first columns of x, each of that width, and the dense one.

    And x again: the gradient of what reads it from here is added in the same pass.
    """
    dense = x_BW.new_zeros(len(x_BW), 0) if dense_BK is None else dense_BK
    both: tuple[Tensor, Tensor] = _Machine.apply(x_BW, first_W, dense, width, fields)  # type: ignore[no-untyped-call]
    return both


def _arrays(*tensors: Tensor) -> tuple[Any, ...]:
    return tuple((t.detach() if t.requires_grad else t).contiguous().numpy() for t in tensors)


class _Averages(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, levels: Tensor, level: Tensor) -> Tensor:
        from trawl.model.kernels.pooling import average

        out = level.new_zeros(len(levels), 2, levels.shape[1])
        average(*_arrays(levels, level.view(-1), out))
        ctx.save_for_backward(levels, out)
        ctx.shape = level.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        from trawl.model.kernels.pooling import unaverage

        to_level = gradient.new_zeros(ctx.shape)
        unaverage(*_arrays(*ctx.saved_tensors, gradient, to_level.view(-1)))
        return None, to_level


class _Beside(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, count: int, *given: Tensor) -> Tensor:
        from trawl.model.kernels.rows import add

        tables, codes = given[:count], given[count:]
        ctx.save_for_backward(*codes)
        ctx.shapes = [table.shape for table in tables]
        width = tables[0].shape[1]
        out = tables[0].new_zeros(len(codes[0]), width + (tables[1].shape[1] if count > 1 else 0))
        for place, pair in enumerate(zip(tables, codes, strict=True)):
            add(*_arrays(*pair, out), width if place else 0)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from trawl.model.kernels.rows import collect

        codes, gradient = ctx.saved_tensors, gradient.contiguous()
        found = [gradient.new_zeros(shape) for shape in ctx.shapes]
        for place, pair in enumerate(zip(codes, found, strict=True)):
            collect(*_arrays(gradient, *pair), ctx.shapes[0][1] if place else 0)
        return None, *found, *(None for _ in codes)


class _Pooled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ratings_last: bool, before: Tensor, after: Tensor, *read: Tensor) -> Tensor:
        from trawl.model.kernels.pooling import pool

        items, target, _, _, weights, ratings = read
        ctx.save_for_backward(*read)
        at, last, rating = before.shape[1], after.shape[1], ratings.shape[1]
        end = at + (1 + weights.shape[1]) * items.shape[1]  # of the sums
        ctx.at = at, end + (last if ratings_last else 0)
        rest = end + (0 if ratings_last else rating)
        ctx.sides = slice(at), slice(rest, rest + last)
        out = before.new_zeros(len(target), end + rating + last)
        for columns, side in zip(ctx.sides, (before, after), strict=True):
            out[:, columns] = side
        pool(_arrays(*read), out.numpy(), *ctx.at)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from trawl.model.kernels.pooling import unpool

        read = ctx.saved_tensors
        to_items, to_weights, to_ratings = (torch.zeros_like(read[place]) for place in (0, 4, 5))
        unpool(_arrays(*read), *_arrays(gradient), *ctx.at, _arrays(to_items, to_weights, to_ratings))
        sides = (gradient[:, columns] for columns in ctx.sides)
        return None, *sides, to_items, None, None, None, to_weights, to_ratings


class _Units(torch.autograd.Function):
    """Some samples at a time, so that what stands between the loops stays in a core's cache."""

    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> Tensor:
        from trawl.model.kernels.units import activate, products

        items, product, keys, queries, ratings, near, slope, target, history, levels = given
        out = items.new_empty(history.numel(), len(product))
        between = items.new_empty(min(len(target), _SAMPLES) * history.shape[1], items.shape[1])
        for rows, places in _pieces(history):
            part, widths = between[: places.stop - places.start], out[places]
            products(*_arrays(items, target[rows], history[rows], part))
            torch.mm(part, product.t(), out=widths)
            added = _arrays(keys, queries[rows], ratings)
            activate(*_arrays(widths), added, _arrays(near[rows], slope), *_arrays(history[rows], levels[rows]))
        ctx.save_for_backward(*given, out)
        return out.view(*history.shape, len(product))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from trawl.model.kernels.units import products, unactivate, unnear, unproducts

        *given, out = ctx.saved_tensors
        items, product, _, _, _, near, slope, target, history, levels = given
        found = [torch.zeros_like(tensor) for tensor in given[:7]]
        to_items, to_product, to_keys, to_queries, to_ratings, to_near, to_slope = found
        gradient = gradient.reshape(out.shape)
        places = min(len(target), _SAMPLES) * history.shape[1]
        between, inner = items.new_empty(places, items.shape[1]), items.new_empty(places, len(product))
        for rows, places in _pieces(history):
            part, to_units = between[: places.stop - places.start], inner[: places.stop - places.start]
            own = _arrays(out[places], gradient[places], history[rows], levels[rows], to_units)
            unactivate(*own, _arrays(to_keys, to_queries[rows], to_ratings))
            if near.shape[1]:
                unnear(*_arrays(to_units, near[rows], slope, to_near[rows], to_slope))
            products(*_arrays(items, target[rows], history[rows], part))
            to_product.addmm_(to_units.t(), part)
            torch.mm(to_units, product, out=part)
            unproducts(*_arrays(items, target[rows], history[rows], part, to_items))
        return *found, None, None, None


def _pieces(history_BH: Tensor) -> Iterator[tuple[slice, slice]]:
    """Some samples, and their places when all samples' positions stand one after another."""
    count, positions = history_BH.shape
    for start in range(0, count, _SAMPLES):
        stop = min(count, start + _SAMPLES)
        yield slice(start, stop), slice(start * positions, stop * positions)


class _Machine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor, dense: Tensor, width: int, fields: int) -> tuple[Tensor, Tensor]:
        from trawl.model.kernels.factors import machine as run

        out, totals = x.new_empty(len(x)), x.new_empty(len(x), width)
        run(_arrays(x, first, dense), fields, *_arrays(out, totals))
        ctx.save_for_backward(x, first, dense, totals)
        ctx.fields = fields
        return out, x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, rest: Tensor) -> tuple[Tensor | None, ...]:
        from trawl.model.kernels.factors import unmachine

        x, first, dense, totals = ctx.saved_tensors
        to_x, to_first, to_dense = torch.empty_like(x), torch.zeros_like(first), torch.empty_like(dense)
        found = _arrays(to_x, to_first, to_dense)
        unmachine(_arrays(x, first, dense), ctx.fields, *_arrays(totals, gradient, rest), found)
        return to_x, to_first, to_dense, None, None
