"""Stages `user_positives` and `item_positives`: the training users' interactions -> the k best partners of each.

Only training users count, with their whole log, or with the days of it that swing.window_days says, weighing as
swing.half_life_days says: for them every position is training data. Positions of cold items are left out. Anchors and
partners are indexes; no row = no positive.

The adjacency is made once for both stages and shared by a node's workers, see `adjacency` and `sharing`. A normalised
score takes two passes: what all anchors are divided by, then partners.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trawl.config import Config
from trawl.inputs import Inputs
from trawl.pool import Pool
from trawl.schemas import TRAIN
from trawl.stage import Job, Phase, Shared, Stage, Task, numbered
from trawl.store import digest_json
from trawl.swing import adjacency, capping, sharing
from trawl.swing.adjacency import Side
from trawl.swing.days import DayNumbers, Window, to_days
from trawl.swing.formula import Formula
from trawl.swing.graph import Floats
from trawl.swing.mining import Miner

_TASKS_PER_PART = 2
_CAPS = {  # of each side's lists, and of both
    "user": ("users_per_item", "target_features", "exact_steps", "cap_seed", "leaders"),
    "item": ("items_per_user", "target_features", "exact_steps", "cap_seed", "leaders"),
}
_DAYS = ("window_days", "half_life_days")
_SAID = "shuffle"  # folder of what tasks tell of the bytes they fetched
Flags = npt.NDArray[np.bool_]


class Mine:
    """Keeps the side's graph, which all workers of a node share; a task is a range of anchors."""

    def __init__(self, inputs: Inputs, cfg: Config) -> None:
        self.inputs, self.top_k, self.formula = inputs, cfg.swing.top_k, formula_of(cfg)
        self.given: capping.Given = inputs.shared
        self.miner = Miner(self.given.open(), self.formula)

    def _tell(self, pass_: str, task: Task) -> None:
        if self.miner.fetched:
            told = {"blocks": len(self.miner.fetched), "bytes": sum(self.miner.fetched)}
            self.inputs.store.write_text(json.dumps(told), *self.inputs.work, _SAID, f"{pass_}-{task.name}.json")


class OwnScores(Mine):
    """The first pass: by what anchors are divided, in their order, to where every task of the second pass reads it."""

    def __call__(self, task: Task) -> Iterator[tuple[int, pa.Table]]:
        yield 0, pa.table({"own": self.miner.own(task.number)})
        self._tell("own", task)


class MineTask(Mine):
    """The partners of a range."""

    def __init__(self, inputs: Inputs, cfg: Config) -> None:
        super().__init__(inputs, cfg)
        self.own: Floats | None = None
        if _two_passes(inputs, cfg):
            self.own = inputs.scattered(0, 0).column("own").to_numpy()

    def __call__(self, task: Task) -> pa.Table:
        found = self.miner.topk(task.number, self.top_k, self.own)
        self._tell("topk", task)
        targets = self.miner.targets(task.number)
        error = capping.error_of(self.given, self.formula, targets, found, self.top_k, self.own)
        capping.tell(self.inputs, task.name, self.given, targets, self.miner.degrees, found, error)
        factor = 1.0 if self.formula.normalize == "cosine" else self.given.factor
        return pa.table(vars(found) | {"score": found.score * factor})


def formula_of(cfg: Config) -> Formula:
    return Formula(**{name: getattr(cfg.swing, name) for name in asdict(Formula())})


def share(side: Side, job: Job, pool: Pool) -> Shared:
    """The side's graph for all workers of a node; the exchange before it is done once for both sides."""
    inputs, cfg = job.inputs, job.cfg
    shape = (inputs.count("users") + 1, inputs.count("items") + 1)  # index 0 = unknown has no interaction

    def build() -> tuple[adjacency.Adjacency, float]:
        flags = pool.call(_counted, inputs)
        parts = [(inputs, number, flags, _liked(cfg)) for number in range(len(inputs.parts("log")))]
        window = _window(pool, parts, cfg)
        weights = None
        if window and window.half_life_days:
            weights = window.weights(np.arange(window.first, window.last + 1, dtype=np.int32))
        count = adjacency.partitions(inputs.count("log"))
        found = adjacency.build(pool, _pairs, [(*p, window) for p in parts], shape, count=count, weights=weights)
        return found, window.factor if window else 1.0

    kept = [_liked(cfg), cfg.swing.window_days, cfg.swing.half_life_days]
    both, factor = pool.keep(digest_json([inputs.store.where(), dict(inputs.fingerprints), *kept]), build)
    given, prepared = capping.give(
        pool,
        both,
        side,
        _tasks(inputs),
        cfg.swing,
        shuffle=cfg.resources.swing_shuffle,
        block_bytes=cfg.resources.swing_block_mib << 20,
    )
    return Shared(replace(given, factor=factor), prepared.costs)


def _liked(cfg: Config) -> bool:
    return cfg.swing.interactions == "liked"


def _counted(inputs: Inputs) -> tuple[Flags, Flags]:
    """Whether each user's and item's interactions count, by index."""
    train = np.zeros(inputs.count("users") + 1, dtype=bool)
    for splits in inputs.each("splits", ["user", "part"]):
        train[splits.column("user").to_numpy()] = splits.column("part").to_numpy(zero_copy_only=False) == TRAIN
    warm = np.ones(inputs.count("items") + 1, dtype=bool)
    if inputs.has("cold_items"):
        for rows in inputs.each("cold_items"):
            warm[rows.column("item").to_numpy()] = ~rows.column("cold").to_numpy(zero_copy_only=False)
    return train, warm


def _pairs(
    inputs: Inputs, number: int, flags: tuple[Flags, Flags], liked: bool, window: Window | None
) -> Iterable[tuple[npt.NDArray[Any], ...]]:
    """The interactions of a part of the log that count, with a half-life also how many days after the first each is."""
    user, item, day = _rows(inputs, number, flags, liked, window is not None)
    if window is None:
        yield user, item
        return
    keep = window.counts(day)
    yield (user[keep], item[keep], *([day[keep] - window.first] if window.half_life_days else []))


def _rows(
    inputs: Inputs, number: int, flags: tuple[Flags, Flags], liked: bool, dated: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], DayNumbers]:
    """(users, items, days) of a part of the log, of all days; without days where these are not wanted."""
    rows = inputs.part("log", number, ["user", "item", "label", *(["time"] if dated else [])])
    user, item = rows.column("user").to_numpy(), rows.column("item").to_numpy()
    keep = flags[0][user] & flags[1][item]
    if liked:
        keep &= rows.column("label").to_numpy(zero_copy_only=False)
    days = to_days(rows.column("time").combine_chunks(), "s", "log", "time") if dated else np.empty(0, np.int32)
    return user[keep], item[keep], days[keep] if dated else days


def _span(inputs: Inputs, number: int, flags: tuple[Flags, Flags], liked: bool) -> tuple[int, int] | None:
    """The first and the last day of a part's interactions that count."""
    days = _rows(inputs, number, flags, liked, True)[2]
    return (int(days.min()), int(days.max())) if len(days) else None


def _window(pool: Pool, parts: Sequence[Sequence[Any]], cfg: Config) -> Window | None:
    """The days that count, up to the newest of the training users' interactions; None where all count alike."""
    days, half_life = cfg.swing.window_days, cfg.swing.half_life_days
    if not (days or half_life):
        return None
    spans = [span for span in map(pool.get, pool.calls(_span, parts)) if span is not None]
    newest, oldest = max((last for _, last in spans), default=0), min((first for first, _ in spans), default=0)
    whole = Window(last=newest, days=days, half_life_days=half_life)
    return replace(whole, days=newest - max(whole.first, oldest) + 1)  # no longer than there are interactions


def _two_passes(inputs: Inputs, cfg: Config) -> bool:
    """Whether a score is divided by something of both anchors."""
    return bool(cfg.swing.normalize != "none")


def _tasks(inputs: Inputs) -> int:
    """Of each pass; by the log alone, so that a run that goes on elsewhere finds the same parts."""
    return sharing.tasks(inputs.count("log"), _TASKS_PER_PART * len(inputs.parts("log")))


def _buckets(inputs: Inputs, cfg: Config) -> int:
    """Self scores all go to bucket 0; there is one for each task of the second pass."""
    return _tasks(inputs)


def plan(inputs: Inputs, cfg: Config) -> list[Task]:
    return numbered(_tasks(inputs))


def told(inputs: Inputs, cfg: Config) -> dict[str, Any]:
    """For the manifest: caps and their error, and how much the tasks fetched where the graph stayed in partitions."""
    said = capping.told(inputs, formula_of(cfg), cfg.swing.interactions, cfg.swing.top_k)
    names = inputs.store.names(*inputs.work, _SAID)
    found = [json.loads(inputs.store.read_text(*inputs.work, _SAID, name)) for name in names]
    if not found:
        return said
    return said | {"shuffle": {"blocks": sum(f["blocks"] for f in found), "bytes": sum(f["bytes"] for f in found)}}


def reads(cfg: Config) -> tuple[str, ...]:
    return ("log", "splits", "users", "items", *(("cold_items",) if cfg.data.cold_items > 0 else ()))


def keys(side: Side, cfg: Config) -> tuple[str, ...]:
    names = ["normalize", "interactions", "alpha", "diagonal", "top_k"]
    if cfg.swing.node_weight != "none":
        names.append("node_weight")
    if cfg.swing.node_weight == "power":
        names += ["node_a", "node_b"]
    if cfg.swing.inverted:
        names.append("inverted")
    fields = type(cfg.swing).model_fields
    names += [name for name in (*_CAPS[side], *_DAYS) if getattr(cfg.swing, name) != fields[name].default]
    return tuple(f"swing.{name}" for name in names)


def _stage(side: Side) -> Stage:
    return Stage(
        artifact=f"{side}_positives",
        version=2,
        reads=reads,
        keys=partial(keys, side),
        plan=plan,
        shared=partial(share, side),
        phases=(Phase(worker=OwnScores, buckets=_buckets, when=_two_passes),),
        worker=MineTask,
        notes=told,
    )


STAGES: tuple[Stage, ...] = (_stage("item"), _stage("user"))
