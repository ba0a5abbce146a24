"""Tables as arrays: what training learns about the data before the first step, and the frozen world of the model.

`learn` looks at training users only: vocabularies of ids and field values, rating levels, centre and scale of the
vectors, principal axes. `build_world` then codes all entities with it, the same way for training and for scoring.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from trawl.config import Config
from trawl.model import similarity, uses
from trawl.model.features import UNKNOWN_VALUE
from trawl.model.recommender import Sizes
from trawl.model.world import Entities, Frozen, World

Array = npt.NDArray[Any]
_VALUES = 32  # most values of a field that are read per entity
_LEVELS = 16  # most rating levels; finer scales are cut at quantiles
_PCA_ROWS = 200_000  # most vectors that the principal axes are computed from


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """Frozen vectors of one side."""

    matrix: Array  # (n + 1, d) float16, row = index, may be memory-mapped
    text: Array  # (n + 1,) bool


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The published tables as arrays. `n` users and items are numbered 1..n; row 0 of per-index arrays is unknown."""

    user_fields: pa.ChunkedArray  # (n users,) map of field -> values, in order of the index
    item_fields: pa.ChunkedArray
    log_user: Array  # the log, sorted by user and position
    log_item: Array
    log_rating: Array
    log_label: Array
    train: Array  # (n users + 1,) bool: training users
    cutoff: Array  # (n users + 1,) first position after the knowledge cut-off
    cold: Array | None = None  # (n items + 1,) bool: training must not see these
    knowledge: Mapping[uses.Side, Knowledge] = field(default_factory=dict)

    @property
    def users(self) -> int:
        return len(self.user_fields)

    @property
    def items(self) -> int:
        return len(self.item_fields)


@dataclass(frozen=True, kw_only=True)
class Lexicon:
    """What was learned about the data before training; part of the bundle."""

    user_fields: dict[str, list[str]]  # field -> values seen in training, sorted; code = place + 2
    item_fields: dict[str, list[str]]
    levels: list[float]  # smallest rating of each level
    users: Array  # indexes of the vocabulary, ascending; row = place + 1
    items: Array
    centre: dict[uses.Side, Array] = field(default_factory=dict)
    scale: dict[uses.Side, float] = field(default_factory=dict)
    axes: tuple[Array, Array] | None = None  # mean (d,) and principal axes (d, s) of the item vectors

    def sizes(self) -> Sizes:
        return Sizes(
            user_rows=len(self.users) + 1,
            item_rows=len(self.items) + 1,
            user_fields={k: len(v) + 2 for k, v in self.user_fields.items()},
            item_fields={k: len(v) + 2 for k, v in self.item_fields.items()},
            levels=len(self.levels),
            user_vector=len(self.centre.get("user", ())),
            item_vector=len(self.centre.get("item", ())),
        )


def learn(tables: Tables, kept: Array, cfg: Config) -> Lexicon:
    """`kept`: (log rows,) bool, false for what training users' histories leave out."""
    seen_rows = tables.train[tables.log_user] & kept
    items = np.zeros(tables.items + 1, dtype=bool)
    items[tables.log_item[seen_rows]] = True
    seen: dict[uses.Side, Array] = {"user": tables.train, "item": items}
    centre, scale = {}, {}
    for side, known in tables.knowledge.items():
        centre[side], scale[side] = _moments(known, seen[side])
    axes = None
    if uses.similarity(cfg):
        known = tables.knowledge["item"]
        rows = np.flatnonzero(_informative(known, seen["item"]))
        rows = rows[:: max(1, -(-len(rows) // _PCA_ROWS))]
        axes = similarity.principal(known.matrix[rows].astype(np.float32), cfg.model.similarity_dim)
    return Lexicon(
        user_fields=field_values(tables.user_fields, tables.train, cfg.model.value_users),
        item_fields=field_values(tables.item_fields, items),
        levels=_levels(tables.log_rating[seen_rows]),
        users=np.flatnonzero(tables.train),
        items=np.flatnonzero(items),
        centre=centre,
        scale=scale,
        axes=axes,
    )


def build_world(tables: Tables, lexicon: Lexicon, dtype: torch.dtype = torch.float32) -> World:
    """Entities of all users and items, coded by the lexicon."""
    users = {k: torch.from_numpy(v) for k, v in field_codes(tables.user_fields, lexicon.user_fields).items()}
    items = {k: torch.from_numpy(v) for k, v in field_codes(tables.item_fields, lexicon.item_fields).items()}
    user_rows, item_rows = rows_of(lexicon.users, tables.users), rows_of(lexicon.items, tables.items)
    return World(
        users=Entities(user_rows, users, *frozen(tables.knowledge.get("user"), lexicon, "user", dtype)),
        items=Entities(item_rows, items, *frozen(tables.knowledge.get("item"), lexicon, "item", dtype)),
    )


def rows_of(vocabulary: Array, count: int) -> torch.Tensor:
    """(count + 1,) row of each index; 0 for those outside the vocabulary."""
    rows = np.zeros(count + 1, dtype=np.int64)
    rows[vocabulary] = np.arange(1, len(vocabulary) + 1)
    return torch.from_numpy(rows)


def frozen(
    known: Knowledge | None, lexicon: Lexicon, side: uses.Side, dtype: torch.dtype
) -> tuple[Frozen | None, torch.Tensor | None, torch.Tensor | None]:
    """Vectors, has-text and unit rows for the similarity features, as Entities takes them."""
    if known is None:
        return None, None, None
    matrix, text = _tensor(known.matrix), torch.from_numpy(np.ascontiguousarray(known.text))
    near = None
    if side == "item" and lexicon.axes is not None:
        mean, axes = (torch.from_numpy(np.ascontiguousarray(a)).to(dtype) for a in lexicon.axes)
        near = similarity.unit_rows(matrix, text, mean, axes)
    return Frozen(matrix, torch.from_numpy(lexicon.centre[side]), lexicon.scale[side], dtype), text, near


def levels_of(ratings: Array, levels: Sequence[float]) -> npt.NDArray[np.uint8]:
    """Rating level 1.. of each rating: the last level that begins at or below it."""
    edges = np.asarray(levels, dtype=np.float32)
    return np.clip(np.searchsorted(edges, ratings, side="right"), 1, max(1, len(edges))).astype(np.uint8)


def field_values(fields: pa.ChunkedArray, seen: Array, least: int = 1) -> dict[str, list[str]]:
    """The values of each field that at least `least` entities of `seen` ((n + 1,) bool) have, sorted."""
    found: dict[str, dict[str, int]] = {}
    for owner, name, value in _entries(fields):
        there = pa.array(seen[owner])
        for field_name in pc.unique(name).to_pylist():
            counts = found.setdefault(field_name, {})
            for entry in pc.value_counts(value.filter(pc.and_(pc.equal(name, field_name), there))).to_pylist():
                counts[entry["values"]] = counts.get(entry["values"], 0) + entry["counts"]
    return {name: sorted(v for v, n in found[name].items() if n >= least) for name in sorted(found)}


def field_codes(fields: pa.ChunkedArray, values: Mapping[str, Sequence[str]]) -> dict[str, npt.NDArray[np.int64]]:
    """(n + 1, m) codes of each known field: 0 pads, 1 = unknown or none, then the values in order."""
    pieces: dict[str, list[tuple[Array, Array]]] = {name: [] for name in values}
    for owner, name, value in _entries(fields):
        for field_name, vocabulary in values.items():
            here = pc.equal(name, field_name)
            found = pc.index_in(value.filter(here), pa.array(vocabulary, pa.string()))
            codes = pc.fill_null(found, UNKNOWN_VALUE - 2).to_numpy(zero_copy_only=False).astype(np.int64) + 2
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


def _entries(fields: pa.ChunkedArray) -> list[tuple[Array, pa.Array, pa.Array]]:
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


def _levels(ratings: Array) -> list[float]:
    distinct = np.unique(ratings)
    if len(distinct) > _LEVELS:
        distinct = np.unique(np.quantile(ratings, np.linspace(0, 1, _LEVELS, endpoint=False), method="lower"))
    return [float(v) for v in distinct] or [0.0]


def _informative(known: Knowledge, seen: Array) -> Array:
    """Seen entities with text; all with text where training saw none of them."""
    both = known.text & seen
    return both if both.any() else known.text


def _moments(known: Knowledge, seen: Array) -> tuple[Array, float]:
    """Centre (d,) and the one factor that brings the mean squared deviation to 1."""
    rows = np.flatnonzero(_informative(known, seen))
    total, squares = np.zeros(known.matrix.shape[1]), 0.0
    for part in np.array_split(rows, -(-len(rows) // 65536) or 1):
        block = known.matrix[part].astype(np.float64)
        total += block.sum(axis=0)
        squares += float((block**2).sum())
    centre = total / max(1, len(rows))
    spread = squares / max(1, len(rows)) - float(centre @ centre)
    return centre, float(np.sqrt(len(centre) / spread)) if spread > 1e-12 else 1.0


def _tensor(matrix: Array) -> torch.Tensor:
    """Shares memory with a read-only map: torch warns, but nothing here writes to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(matrix)
