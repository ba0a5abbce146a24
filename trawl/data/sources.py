"""Where raw rows come from: the MovieLens files, entity and truth files, or the synthetic world.

Which one is told by the declared raw files alone: with none, the rows are generated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from trawl.config import Config
from trawl.data.entities import EntityFiles, TruthFile
from trawl.data.index import kept
from trawl.data.movielens import FILES, MovieLens
from trawl.data.synthetic.world import World
from trawl.errors import ConfigError, InputError
from trawl.raw import join

# What of data.synthetic each table is generated from.
_GENERATED = {
    "users": ("seed", "users"),
    "items": ("seed", "items", "misspelt"),
    "log": ("seed", "users", "items", "events_per_user"),
    "entities": ("seed", "items", "distractors", "unlinked", "empty_pages", "noise"),
    "truth": ("seed", "items", "unlinked"),
}
KEY = {"users": "user_id", "items": "item_id", "log": "user_id", "entities": "entity_id", "truth": "item_id"}
_LINKING = ("entities", "truth")
_OF_USERS = ("users", "log")


@dataclass(frozen=True)
class Raw:
    """The raw rows of one table: pieces to read one at a time, and the error that names a row by its `at`."""

    pieces: Callable[[], Sequence[tuple[int, ...]]]
    read: Callable[..., pa.Table]
    wrong: Callable[[int, str], InputError]


def files(kind: str, cfg: Config) -> dict[str, str]:
    """The raw files of a table: name -> path; none where it is generated.

    Raises ConfigError when MovieLens is to be linked and no entities are named.
    """
    if kind in _LINKING:
        path = {"entities": cfg.linking.entities, "truth": cfg.linking.truth}[kind]
        if not path and cfg.data.source != "synthetic":
            what = {"entities": "a Parquet file of entities", "truth": "a file of accepted links"}[kind]
            raise ConfigError(f"linking.{kind} is needed with data.source={cfg.data.source}: set it to {what}")
        return {kind: path} if path else {}
    if cfg.data.source == "movielens":
        return {FILES[kind]: join(cfg.data.path, FILES[kind])}
    return {}


def keys(kind: str, cfg: Config) -> tuple[str, ...]:
    """The config keys that the raw rows and their numbering depend on."""
    share = ("data.user_share",) if kind in _OF_USERS and cfg.data.user_share < 1 else ()
    if not files(kind, cfg):
        return ("data.partitions", *(f"data.synthetic.{name}" for name in _GENERATED[kind]), *share)
    # A table whose counts were checked is another promise than one whose were not.
    return ("data.partitions",) if kind in _LINKING else ("data.partitions", "data.check_counts", *share)


def raw(kind: str, there: Mapping[str, str], cfg: Config) -> Raw:
    """The rows of a table from its declared files."""
    if "entities" in there:
        entities = EntityFiles(there["entities"])
        return Raw(entities.pieces, entities.rows, entities.wrong)
    if "truth" in there:
        truth = TruthFile(there["truth"])
        return Raw(lambda: [()], truth.rows, truth.wrong)
    source = MovieLens(there) if there else World(cfg.data.synthetic)
    read: Callable[..., pa.Table] = partial(source.rows, kind)
    if kind in _OF_USERS and cfg.data.user_share < 1:
        read = partial(_some_users, read, cfg.data.user_share)
    return Raw(partial(source.pieces, kind), read, partial(source.wrong, kind))


def counted(cfg: Config) -> bool:
    """The tables are to have the counts of MovieLens-1M."""
    return cfg.data.source == "movielens" and cfg.data.check_counts and cfg.data.user_share == 1


def _some_users(read: Callable[..., pa.Table], share: float, *piece: int) -> pa.Table:
    rows = read(*piece)
    return rows.filter(pa.array(kept(rows["user_id"], share)))
