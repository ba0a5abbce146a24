"""Raw behaviour and raw entities -> users, items, log, cutoffs, cold_items, splits, samples, entities, truth.

Part b of `users` and of every table of users is hash bucket b of the raw ids; so for `items` and `entities`. Only
splits, cold_items and samples depend on a split seed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trawl.config import Config
from trawl.data import behaviour, index, movielens, sources
from trawl.inputs import Inputs
from trawl.stage import Phase, Stage, Task, always, per_part
from trawl.store import Part


@dataclass(frozen=True)
class _Plan:
    """One task for each piece of a table's raw rows."""

    kind: str

    def __call__(self, inputs: Inputs, cfg: Config) -> list[Task]:
        pieces = sources.raw(self.kind, inputs.sources, cfg).pieces()
        return [Task(f"{i:06d}", {"number": i, "piece": list(piece)}) for i, piece in enumerate(pieces)]


@dataclass(frozen=True)
class _Scatter:
    """Raw rows to the bucket of their id."""

    kind: str

    def __call__(self, inputs: Inputs, cfg: Config) -> Callable[[Task], Iterator[tuple[int, pa.Table]]]:
        source, buckets = sources.raw(self.kind, inputs.sources, cfg), cfg.data.partitions

        def scatter(task: Task) -> Iterator[tuple[int, pa.Table]]:
            rows = source.read(*task.args["piece"])
            return index.scatter(rows, index.bucket_of(rows[sources.KEY[self.kind]], buckets), buckets)

        return scatter


def _buckets(inputs: Inputs, cfg: Config) -> int:
    return cfg.data.partitions


@dataclass(frozen=True)
class _Number:
    """A bucket's rows by id with their index. Raises InputError for an id that stands twice."""

    kind: str
    column: str

    def __call__(self, inputs: Inputs, cfg: Config) -> Callable[[Task], pa.Table]:
        source, key = sources.raw(self.kind, inputs.sources, cfg), sources.KEY[self.kind]

        def bucket(task: Task) -> pa.Table:
            counts = inputs.scattered_rows(0)
            rows = index.number(inputs.scattered(0, task.number), key, self.column, counts, task.number)
            again = index.repeated(rows, key)
            if again >= 0:
                raise source.wrong(rows["at"][again].as_py(), f"{key} {rows[key][again].as_py()!r} stands twice")
            return rows.drop_columns(["at"])

        return bucket


class _Log:
    """A bucket's ratings with indexes, in order. Raises InputError for an unknown id or a pair rated twice."""

    def __init__(self, inputs: Inputs, cfg: Config) -> None:
        self._inputs, self._like_above = inputs, cfg.data.like_above
        self._source = sources.raw("log", inputs.sources, cfg)
        self._items = inputs.table("items", ["item", "item_id"])

    def __call__(self, task: Task) -> pa.Table:
        rows = self._inputs.scattered(0, task.number)
        users = self._inputs.part("users", task.number, ["user", "user_id"])
        user = self._indexes(rows, "user_id", users, "user")
        item = self._indexes(rows, "item_id", self._items, "item")
        again = behaviour.repeated_pair(user, item, rows["at"].to_numpy())
        if again >= 0:
            row = rows.slice(again, 1).to_pylist()[0]
            raise self._source.wrong(row["at"], f"user {row['user_id']!r} rates {row['item_id']!r} a second time")
        return behaviour.order_log(rows, user, item, self._like_above)

    def _indexes(self, rows: pa.Table, key: str, known: pa.Table, column: str) -> behaviour.Ints:
        found = index.places(rows[key], known[key])
        if (found < 0).any():
            at = rows["at"].to_numpy()
            row = int(np.flatnonzero(found < 0)[at[found < 0].argmin()])
            raise self._source.wrong(int(at[row]), f"{key} {rows[key][row].as_py()!r} is not among the {column}s")
        numbers: behaviour.Ints = known[column].to_numpy()
        return numbers[found]


class _Cutoffs:
    def __init__(self, inputs: Inputs, cfg: Config) -> None:
        self._inputs, self._most = inputs, cfg.data.cutoff_max

    def __call__(self, task: Task) -> pa.Table:
        users = self._inputs.part("users", task.number, ["user"])["user"].to_numpy()
        events = self._inputs.part("log", task.number, ["user"])["user"].to_numpy()
        return behaviour.cutoffs(users, events, self._most)


class _Splits:
    def __init__(self, inputs: Inputs, cfg: Config) -> None:
        self._inputs = inputs
        self._split = behaviour.Split(inputs.count("cutoffs"), cfg.data.split, cfg.data.split_seed)

    def __call__(self, task: Task) -> pa.Table:
        rows = self._inputs.part("cutoffs", task.number, ["user", "cutoff"])
        return rows.append_column("part", pa.array(self._split.of(rows["user"].to_numpy()), pa.string()))


class _ColdItems:
    def __init__(self, inputs: Inputs, cfg: Config) -> None:
        self._inputs = inputs
        self._cold = behaviour.Cold(inputs.count("items"), cfg.data.cold_items, cfg.data.split_seed)
        if inputs.has("log"):
            rated = {item for part in inputs.each("log", ["item"]) for item in pc.unique(part["item"]).to_pylist()}
            movielens.check_count("rated", len(rated))

    def __call__(self, task: Task) -> pa.Table:
        items = self._inputs.part("items", task.number, ["item"])["item"].to_numpy()
        return pa.table({"item": items, "cold": self._cold.of(items)})


def _cold_reads(cfg: Config) -> tuple[str, ...]:
    """MovieLens-1M's rated films are counted here: the first stage after the log that is about films."""
    return ("items", "log") if sources.counted(cfg) else ("items",)


class _Samples:
    def __init__(self, inputs: Inputs, cfg: Config) -> None:
        self._inputs = inputs
        self._cold = inputs.array("cold_items", "cold")

    def __call__(self, task: Task) -> pa.Table:
        log = self._inputs.part("log", task.number, ["user", "position", "item", "label"])
        splits = self._inputs.part("splits", task.number)
        users, rated = splits["user"].to_numpy(), log["user"].to_numpy()
        cutoff, split = (behaviour.of_each(splits[name], users, rated) for name in ("cutoff", "part"))
        return behaviour.samples(log, cutoff, split, self._cold[log["item"].to_numpy() - 1])


@dataclass(frozen=True)
class _Truth:
    """Accepted entity ids of a bucket's items. Raises InputError for an unknown item or one that stands twice."""

    def __call__(self, inputs: Inputs, cfg: Config) -> Callable[[Task], pa.Table]:
        source = sources.raw("truth", inputs.sources, cfg)

        def bucket(task: Task) -> pa.Table:
            rows = inputs.scattered(0, task.number)
            rows = rows.take(pc.sort_indices(rows, [("item_id", "ascending"), ("at", "ascending")]))
            items = inputs.part("items", task.number, ["item", "item_id"])
            found, again = index.places(rows["item_id"], items["item_id"]), index.repeated(rows, "item_id")
            unknown = int((found < 0).argmax()) if (found < 0).any() else -1
            for row, what in ((unknown, "is not among the items"), (again, "stands twice")):
                if row >= 0:
                    raise source.wrong(rows["at"][row].as_py(), f"item_id {rows['item_id'][row].as_py()!r} {what}")
            return pa.table({"item": items["item"].to_numpy()[found], "entity_ids": rows["entity_ids"]})

        return bucket


@dataclass(frozen=True)
class _Keys:
    """The keys of a table's raw rows, and some more."""

    kind: str
    more: tuple[str, ...] = ()

    def __call__(self, cfg: Config) -> tuple[str, ...]:
        return (*sources.keys(self.kind, cfg), *self.more)


@dataclass(frozen=True)
class _Sources:
    kind: str

    def __call__(self, cfg: Config) -> dict[str, str]:
        return sources.files(self.kind, cfg)


@dataclass(frozen=True)
class _Counted:
    """MovieLens-1M has so many of these."""

    kind: str

    def __call__(self, parts: Sequence[Part], cfg: Config) -> None:
        if sources.counted(cfg):
            movielens.check_count(self.kind, sum(part.rows for part in parts))


def _from_raw(kind: str, **rest: Any) -> Stage:
    """A stage whose rows come from raw pieces and meet by their id."""
    phase = Phase(worker=_Scatter(kind), buckets=_buckets)
    given: dict[str, Any] = {"keys": _Keys(kind)} | rest
    return Stage(artifact=kind, version=1, plan=_Plan(kind), sources=_Sources(kind), phases=(phase,), **given)


STAGES = (
    _from_raw("users", worker=_Number("users", "user"), check=_Counted("users")),
    _from_raw("items", worker=_Number("items", "item"), check=_Counted("items")),
    _from_raw(
        "log",
        reads=always("users", "items"),
        keys=_Keys("log", ("data.like_above",)),
        worker=_Log,
        check=_Counted("log"),
    ),
    Stage(
        artifact="cutoffs",
        version=1,
        reads=always("users", "log"),
        keys=always("data.cutoff_max"),
        plan=per_part("users"),
        worker=_Cutoffs,
        covers="users",
    ),
    Stage(
        artifact="cold_items",
        version=1,
        reads=_cold_reads,
        keys=always("data.cold_items", "data.split_seed"),
        plan=per_part("items"),
        worker=_ColdItems,
        covers="items",
    ),
    Stage(
        artifact="splits",
        version=1,
        reads=always("cutoffs"),
        keys=always("data.split", "data.split_seed"),
        plan=per_part("cutoffs"),
        worker=_Splits,
        covers="cutoffs",
    ),
    Stage(
        artifact="samples",
        version=1,
        reads=always("log", "splits", "cold_items"),
        plan=per_part("log"),
        worker=_Samples,
    ),
    _from_raw("entities", worker=_Number("entities", "entity")),
    _from_raw("truth", reads=always("items"), worker=_Truth()),
)
