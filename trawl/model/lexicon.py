"""What was learned about the data before training, and the coding of raw values by it: the same for training,
scoring and serving.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from trawl import uses
from trawl.model import similarity
from trawl.model.features import RATE_BINS, UNKNOWN_VALUE
from trawl.model.numeric import bucket
from trawl.model.recommender import Sizes
from trawl.model.world import Entities, Frozen, Stacked
from trawl.sections_model import SimilaritySource

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
_VALUES = 32  # most values of a field that are read per entity


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """One frozen matrix of vectors."""

    matrix: Array  # (n + 1, d) float16, row = index, may be memory-mapped
    text: Array  # (n + 1,) bool


@dataclass(frozen=True, kw_only=True)
class Lexicon:
    """What was learned about the data before training; part of the bundle."""

    user_fields: dict[str, list[str]]  # field -> values seen in training, sorted; code = place + 2
    item_fields: dict[str, list[str]]
    levels: list[float]  # smallest rating of each level
    numeric: tuple[str, ...] = ()  # fields whose values are the bounds of buckets
    users: Array  # indexes of the vocabulary, ascending; row = place + 1
    items: Array
    sources: dict[uses.Side, tuple[uses.Matrix, ...]] = field(default_factory=dict)  # what each side's adapter reads
    centre: dict[uses.Matrix, Array] = field(default_factory=dict)  # (d,)
    scale: dict[uses.Matrix, float] = field(default_factory=dict)
    reduced: dict[uses.Matrix, Array] = field(default_factory=dict)  # (d, k) axes on which adapters see the vectors
    similar: tuple[SimilaritySource, ...] = ()  # what the similarity features are of
    genres: str = ""  # the item field that `genre` among them is of
    axes: dict[uses.Matrix, tuple[Array, Array]] = field(default_factory=dict)  # of those: mean (d,), axes (d, s)
    factors: Array | None = None  # (rows of the item vocabulary, s) unit rows of the SVD of likes

    def sizes(self) -> Sizes:
        return Sizes(
            user_rows=len(self.users) + 1,
            item_rows=len(self.items) + 1,
            user_fields={k: len(v) + 2 for k, v in self.user_fields.items()},
            item_fields={k: len(v) + 2 for k, v in self.item_fields.items()},
            levels=len(self.levels),
            user_vector=self._width("user"),
            item_vector=self._width("item"),
            item_facts=self._width("facts"),
        )

    def _width(self, matrix: uses.Matrix) -> int:
        found = self.reduced[matrix].shape[1] if matrix in self.reduced else len(self.centre.get(matrix, ()))
        return int(found)


def rows_of(vocabulary: Array, count: int) -> torch.Tensor:
    """(count + 1,) row of each index; 0 for those outside the vocabulary."""
    rows = np.zeros(count + 1, dtype=np.int64)
    rows[vocabulary] = np.arange(1, len(vocabulary) + 1)
    return torch.from_numpy(rows)


def standard(matrix: torch.Tensor, lexicon: Lexicon, name: uses.Matrix, dtype: torch.dtype) -> Frozen:
    """Rows of a frozen matrix (N, d) as its adapter reads them."""
    axes = torch.from_numpy(np.ascontiguousarray(lexicon.reduced[name])) if name in lexicon.reduced else None
    return Frozen(matrix, torch.from_numpy(lexicon.centre[name]), lexicon.scale[name], dtype, axes)


def frozen(
    known: Mapping[uses.Matrix, Knowledge], lexicon: Lexicon, side: uses.Side, dtype: torch.dtype
) -> tuple[Frozen | None, torch.Tensor | None]:
    """Vectors and has-text of a side's sources, side by side, as Entities takes them; none where it has none."""
    read = [name for name in lexicon.sources.get(side, ()) if name in known]
    if not read:
        return None, None
    texts = [torch.from_numpy(np.ascontiguousarray(known[name].text)) for name in read]
    parts = [standard(_tensor(known[name].matrix), lexicon, name, dtype) for name in read]
    return (parts[0], texts[0]) if len(read) == 1 else (Stacked(parts), torch.stack(texts, dim=1))


def nears(
    known: Mapping[uses.Matrix, Knowledge],
    lexicon: Lexicon,
    rows: torch.Tensor,
    dtype: torch.dtype,
    codes: Mapping[str, torch.Tensor],
) -> tuple[torch.Tensor, ...]:
    """(n + 1, s) unit rows of each source of the similarity features; zero where it knows nothing.

    `rows`: (n + 1,) row of each item in the vocabulary; `codes`: (n + 1, m) of its fields.
    """
    out = []
    for source in lexicon.similar:
        if source == "genre":
            out.append(similarity.shared_values(codes[lexicon.genres], len(lexicon.item_fields[lexicon.genres]), dtype))
            continue
        if source == "cf":
            assert lexicon.factors is not None, "the lexicon has no factors"
            whole = torch.from_numpy(np.ascontiguousarray(lexicon.factors)).to(dtype)
            out.append(torch.cat([whole.new_zeros(1, whole.shape[1]), whole])[rows])
            continue
        name: uses.Matrix = "item" if source == "text" else "facts"
        mean, axes = (torch.from_numpy(np.ascontiguousarray(a)).to(dtype) for a in lexicon.axes[name])
        text = torch.from_numpy(np.ascontiguousarray(known[name].text))
        out.append(similarity.unit_rows(_tensor(known[name].matrix), text, mean, axes))
    return tuple(out)


def with_knowledge(
    known: Mapping[uses.Matrix, Knowledge], lexicon: Lexicon, side: uses.Side, plain: Entities, dtype: torch.dtype
) -> Entities:
    """The entities of a side with all that the model reads of their frozen vectors."""
    vectors, text = frozen(known, lexicon, side, dtype)
    near = nears(known, lexicon, plain.rows, dtype, plain.fields) if side == "item" else ()
    first = near[0] if near else None
    return replace(plain, vectors=vectors, text=text, near=first, more_near=near[1:])


def levels_of(ratings: Array, levels: Sequence[float]) -> npt.NDArray[np.uint8]:
    """Rating level 1.. of each rating: the last level that begins at or below it."""
    edges = np.asarray(levels, dtype=np.float32)
    return np.clip(np.searchsorted(edges, ratings, side="right"), 1, max(1, len(edges))).astype(np.uint8)


def field_codes(
    fields: pa.ChunkedArray, values: Mapping[str, Sequence[str]], numeric: Sequence[str] = ()
) -> dict[str, npt.NDArray[np.int64]]:
    """(n + 1, m) codes of each known field: 0 pads, 1 = unknown or none, then the values or buckets in order."""
    pieces: dict[str, list[tuple[Array, Array]]] = {name: [] for name in values}
    for owner, name, value in entries(fields):
        for field_name, vocabulary in values.items():
            here = pc.equal(name, field_name)
            own = value.filter(here)
            if field_name in numeric:
                places = bucket(own, vocabulary)
            else:
                found = pc.index_in(own, pa.array(vocabulary, pa.string()))
                places = pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)
            codes = np.where(places < 0, UNKNOWN_VALUE, places + 2)
            pieces[field_name].append((owner[here.to_numpy(zero_copy_only=False)], codes))
    return {name: _padded(parts, len(fields) + 1) for name, parts in pieces.items()}


def _padded(parts: list[tuple[Array, Array]], count: int) -> npt.NDArray[np.int64]:
    owner = np.concatenate([p[0] for p in parts]) if parts else np.zeros(0, dtype=np.int64)
    codes = np.concatenate([p[1] for p in parts]) if parts else np.zeros(0, dtype=np.int64)
    first = np.searchsorted(owner, owner)  # owners ascend
    place = np.arange(len(owner)) - first
    keep = place < _VALUES
    width = int(place[keep].max(initial=0)) + 1
    out = np.zeros((count, width), dtype=np.int64)
    out[:, 0] = UNKNOWN_VALUE
    out[owner[keep], place[keep]] = codes[keep]
    return out


def entries(fields: pa.ChunkedArray) -> list[tuple[Array, pa.Array, pa.Array]]:
    """(entity index, field name, value) of every value, chunk by chunk; entities ascend."""
    out, start = [], 1
    for chunk in fields.chunks:
        ends = chunk.offsets.to_numpy()
        names = chunk.keys.slice(ends[0], ends[-1] - ends[0])
        lists = chunk.items.slice(ends[0], ends[-1] - ends[0])
        bounds = lists.offsets.to_numpy()
        values = lists.values.slice(bounds[0], bounds[-1] - bounds[0])
        entry_owner = np.repeat(np.arange(start, start + len(chunk)), np.diff(ends))
        sizes = np.diff(bounds)
        entry = np.repeat(np.arange(len(names)), sizes)
        out.append((entry_owner[entry], names.take(pa.array(entry)), values))
        start += len(chunk)
    return out


def rate_bins(liked: Array, count: Array) -> Ints:
    """Bin 1..13 of liked / count; 0 where nothing was counted."""
    share = liked / np.maximum(count, 1)
    bins = np.minimum((share * (RATE_BINS - 1)).astype(np.int64), RATE_BINS - 2) + 1
    return np.asarray(np.where(count > 0, bins, 0))


def ranges(starts: Array, sizes: Array) -> Ints:
    """start, start + 1, ... of each range, one range after another."""
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    return np.asarray(np.arange(total) + np.repeat(starts - (ends - sizes), sizes), dtype=np.int64)


def _tensor(matrix: Array) -> torch.Tensor:
    """Shares memory with a read-only map: torch warns, but nothing here writes to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(matrix)
