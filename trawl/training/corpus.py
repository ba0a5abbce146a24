"""Tables as arrays: what training learns about the data before the first step, and the frozen world of the model.

`learn` looks at training users only: vocabularies of ids and field values, rating levels, centre and scale of the
vectors, principal axes. `build_world` then codes all entities with it, the same way for training and for scoring.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from trawl.config import Config
from trawl.model import similarity, uses
from trawl.model.lexicon import Array, Knowledge, Lexicon, entries, field_codes, frozen, rows_of
from trawl.model.world import Entities, World

_LEVELS = 16  # most rating levels; finer scales are cut at quantiles
_LOG_ROWS = 1 << 22  # of the log that are looked at at a time
_PCA_ROWS = 200_000  # most vectors that the principal axes are computed from


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


def learn(tables: Tables, kept: Array, cfg: Config) -> Lexicon:
    """`kept`: (log rows,) bool, false for what training users' histories leave out."""
    items, ratings = _of_training(tables, kept)
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
        levels=_levels(ratings),
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


def field_values(fields: pa.ChunkedArray, seen: Array, least: int = 1) -> dict[str, list[str]]:
    """The values of each field that at least `least` entities of `seen` ((n + 1,) bool) have, sorted."""
    found: dict[str, dict[str, int]] = {}
    for owner, name, value in entries(fields):
        there = pa.array(seen[owner])
        for field_name in pc.unique(name).to_pylist():
            counts = found.setdefault(field_name, {})
            for entry in pc.value_counts(value.filter(pc.and_(pc.equal(name, field_name), there))).to_pylist():
                counts[entry["values"]] = counts.get(entry["values"], 0) + entry["counts"]
    return {name: sorted(v for v, n in found[name].items() if n >= least) for name in sorted(found)}


def _of_training(tables: Tables, kept: Array) -> tuple[Array, Counter[float]]:
    """(n items + 1,) bool: items that training users met; how often they gave each rating. A block at a time."""
    items, ratings = np.zeros(tables.items + 1, dtype=bool), Counter[float]()
    for start in range(0, len(tables.log_user), _LOG_ROWS):
        part = slice(start, start + _LOG_ROWS)
        seen = tables.train[tables.log_user[part]] & kept[part]
        items[tables.log_item[part][seen]] = True
        values, counts = np.unique(tables.log_rating[part][seen], return_counts=True)
        ratings.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    return items, ratings


def _levels(ratings: Counter[float]) -> list[float]:
    """Smallest rating of each level: all there are, or the lower quantiles of so many that levels are as frequent."""
    distinct = np.array(sorted(ratings))
    if len(distinct) > _LEVELS:
        rows = np.cumsum([ratings[v] for v in distinct])
        places = np.floor(np.linspace(0, 1, _LEVELS, endpoint=False) * (rows[-1] - 1))
        distinct = np.unique(distinct[np.searchsorted(rows, places, side="right")])
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
