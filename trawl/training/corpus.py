"""Tables as arrays: what training learns about the data before the first step, and the frozen world of the model.

`learn` looks at training users only: vocabularies of ids and field values, rating levels, centre and scale of the
vectors, principal axes. `build_world` then codes all entities with it, the same way for training and for scoring.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from trawl import uses
from trawl.config import Config
from trawl.errors import InputError
from trawl.model import similarity
from trawl.model.features import ID_STD
from trawl.model.lexicon import Array, Knowledge, Lexicon, entries, field_codes, rows_of, with_knowledge
from trawl.model.numeric import bounds, numbers
from trawl.model.world import Entities, World
from trawl.training.factors import Likes, factors

_GENRES = 512  # most values of the genres' field
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
    knowledge: Mapping[uses.Matrix, Knowledge] = field(default_factory=dict)

    @property
    def users(self) -> int:
        return len(self.user_fields)

    @property
    def items(self) -> int:
        return len(self.item_fields)


def learn(tables: Tables, kept: Array, cfg: Config) -> Lexicon:
    """`kept`: (log rows,) bool, false for what training users' histories leave out.

    Raises InputError for a named field that is not there, a numeric one without numbers, and for genres not there.
    """
    check_fields(tables, cfg)
    items, ratings = _of_training(tables, kept)
    item_fields = vocabulary(tables.item_fields, items, cfg)
    check_genres(item_fields, cfg)
    seen: dict[uses.Side, Array] = {"user": tables.train, "item": items}
    sources = {side: uses.sources(cfg, side) for side in uses.SIDES if uses.adapts(cfg, side)}
    centre, scale, reduced = {}, {}, {}
    for name in dict.fromkeys(name for names in sources.values() for name in names):
        known, own = tables.knowledge[name], seen[uses.OWNER[name]]
        centre[name], scale[name] = _moments(known, own)
        if 0 < cfg.model.knowledge_dim < known.matrix.shape[1]:
            reduced[name], scale[name] = _reduced(known, own, centre[name], cfg.model.knowledge_dim)
    return Lexicon(
        user_fields=vocabulary(tables.user_fields, tables.train, cfg, cfg.model.value_users),
        item_fields=item_fields,
        levels=_levels(ratings) if uses.stars(cfg) else [0.0],
        numeric=cfg.model.numeric_fields,
        users=np.flatnonzero(tables.train),
        items=np.flatnonzero(items),
        sources=sources,
        centre=centre,
        scale=scale,
        reduced=reduced,
        similar=uses.similar(cfg),
        genres=cfg.model.similarity_field,
        axes={name: axes_of(tables.knowledge[name], seen["item"], cfg.model.similarity_dim) for name in uses.axes(cfg)},
        factors=_likes(tables, kept, items, cfg) if "cf" in uses.similar(cfg) else None,
    )


def _likes(tables: Tables, kept: Array, items: Array, cfg: Config) -> Array:
    """(items of the vocabulary, s) unit rows of the SVD of what training users liked."""
    log = (tables.log_user, tables.log_item, tables.log_label)
    likes = Likes(*log, kept=kept, train=tables.train, vocabulary=np.flatnonzero(items))
    return factors(likes, cfg.model.similarity_dim)


def build_world(tables: Tables, lexicon: Lexicon, dtype: torch.dtype = torch.float32) -> World:
    """Entities of all users and items, coded by the lexicon."""
    users, items = (coded(tables, lexicon, side) for side in uses.SIDES)
    user_rows, item_rows = rows_of(lexicon.users, tables.users), rows_of(lexicon.items, tables.items)
    known = tables.knowledge
    return World(
        users=with_knowledge(known, lexicon, "user", Entities(user_rows, users), dtype),
        items=with_knowledge(known, lexicon, "item", Entities(item_rows, items), dtype),
    )


def coded(tables: Tables, lexicon: Lexicon, side: uses.Side) -> dict[str, torch.Tensor]:
    """field -> (n + 1, m) codes of its values, of all users or items."""
    fields, values = tables.user_fields, lexicon.user_fields
    if side == "item":
        fields, values = tables.item_fields, lexicon.item_fields
    return {name: torch.from_numpy(codes) for name, codes in field_codes(fields, values, lexicon.numeric).items()}


def axes_of(known: Knowledge, seen: Array, size: int) -> tuple[Array, Array]:
    """Mean (d,) and principal axes (d, size) of the vectors of what training saw ((n + 1,) bool)."""
    return similarity.principal(known.matrix[_some(known, seen)].astype(np.float32), size)


def first_items(tables: Tables, lexicon: Lexicon, width: int) -> torch.Tensor:
    """(rows of the item vocabulary + 1, width) of LLM2DIN's first ID embeddings (R Table 3), not a number where none.

    The principal components of the items' texts, those that the vectors have not as zero, all of them at the one scale
    that gives an embedding the size it would have at random.
    """
    known, seen = tables.knowledge["item"], np.zeros(tables.items + 1, dtype=bool)
    seen[lexicon.items] = True
    mean, axes = axes_of(known, seen, width)
    out = torch.full((len(lexicon.items) + 1, width), torch.nan)
    there = np.flatnonzero(known.text[lexicon.items])
    squares = 0.0
    for part in np.array_split(there, -(-len(there) // 65536) or 1):
        found = (known.matrix[lexicon.items[part]].astype(np.float64) - mean) @ axes
        squares += float((found**2).sum())
        out[part + 1] = torch.from_numpy(np.pad(found, ((0, 0), (0, width - found.shape[1])))).float()
    return out * (ID_STD / max(float(np.sqrt(squares / max(1, len(there) * width))), 1e-12))


def check_fields(tables: Tables, cfg: Config) -> None:
    """Raises InputError for a numeric or ignored field that neither users nor items have."""
    wanted = {key: getattr(cfg.model, key) for key in ("numeric_fields", "ignored_fields")}
    both = [tables.user_fields, tables.item_fields] if any(wanted.values()) else []
    there = {name for fields in both for _, names, _ in entries(fields) for name in pc.unique(names).to_pylist()}
    for key, names in wanted.items():
        if missing := [name for name in names if name not in there]:
            known = ", ".join(sorted(there)) or "there are none"
            raise InputError(f"model.{key}: neither users nor items have a field {missing[0]!r}; fields: {known}")


def check_genres(item_fields: Mapping[str, Sequence[str]], cfg: Config) -> None:
    """Raises InputError for a field of the genre similarity that is not there, or has too many values to compare."""
    if "genre" not in uses.similar(cfg):
        return
    name = cfg.model.similarity_field
    if name not in item_fields:
        known = ", ".join(item_fields) or "there are none"
        raise InputError(f"model.similarity_field: no item has a field {name!r}; fields: {known}")
    if len(item_fields[name]) > _GENRES:
        raise InputError(
            f"model.similarity_field: field {name!r} has {len(item_fields[name]):,} values, at most {_GENRES} are "
            'compared; take model.similarity_of = ["kg"] for such facts'
        )


def check_labels(samples: int, liked: int, cfg: Config) -> None:
    """Raises InputError where there is nothing to learn from or to tell apart, as in a log of clicks alone."""
    if not samples:
        raise InputError(
            "samples: there is no training row: give data.split a share of training users with interactions behind "
            "their cut-off (data.cutoff_max), and data.cold_items a share below 1"
        )
    if liked in (0, samples):
        above = f"{'above' if liked else 'not above'} data.like_above = {cfg.data.like_above:g}"
        raise InputError(
            f"samples: every training label is {int(liked > 0)} (all ratings are {above}); set data.like_above between "
            "the ratings; a log without negatives is not enough to train on"
        )


def vocabulary(fields: pa.ChunkedArray, seen: Array, cfg: Config, least: int = 1) -> dict[str, list[str]]:
    """The values of each field as `field_values`, of a numeric one the bounds of its buckets; without ignored ones."""
    numeric = cfg.model.numeric_fields
    found = field_values(fields, seen, least, (*numeric, *cfg.model.ignored_fields))
    values: dict[str, list[Array]] = {}
    for owner, name, value in entries(fields) if numeric else []:
        for field_name in set(pc.unique(name).to_pylist()) & set(numeric):
            own = pc.and_(pc.equal(name, field_name), pa.array(seen[owner]))
            values.setdefault(field_name, []).append(numbers(value.filter(own)))
    for field_name, pieces in values.items():
        whole = np.concatenate(pieces)
        if not np.isfinite(whole).any():
            raise InputError(f"model.numeric_fields: field {field_name!r} holds no number in training; leave it out")
        found[field_name] = bounds(whole, cfg.model.numeric_bins)
    return dict(sorted(found.items()))


def field_values(
    fields: pa.ChunkedArray, seen: Array, least: int = 1, without: Sequence[str] = ()
) -> dict[str, list[str]]:
    """The values of each field that at least `least` entities of `seen` ((n + 1,) bool) have, sorted."""
    found: dict[str, dict[str, int]] = {}
    for owner, name, value in entries(fields):
        there = pa.array(seen[owner])
        for field_name in set(pc.unique(name).to_pylist()) - set(without):
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


def _some(known: Knowledge, seen: Array) -> Array:
    """At most _PCA_ROWS of the informative entities, evenly spread."""
    rows = np.flatnonzero(_informative(known, seen))
    return rows[:: max(1, -(-len(rows) // _PCA_ROWS))]


def _reduced(known: Knowledge, seen: Array, centre: Array, size: int) -> tuple[Array, float]:
    """Principal axes (d, size), and the factor that brings the mean squared deviation along them to 1."""
    rows = known.matrix[_some(known, seen)].astype(np.float32)
    _, axes = similarity.principal(rows, size)
    spread = float((((rows - centre) @ axes) ** 2).sum(axis=1).mean()) if len(rows) else 0.0
    return axes, float(np.sqrt(axes.shape[1] / spread)) if spread > 1e-12 else 1.0


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
