"""Stages `user_positives` and `item_positives`: the training users' interactions -> the k best partners of each.

Only training users count, with their whole log: for them every position is training data. Positions of cold items
are left out. Anchors and partners are indexes; no row = no positive.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trawl.config import Config
from trawl.inputs import Inputs
from trawl.schemas import TRAIN
from trawl.stage import Stage, Task, Worker, numbered
from trawl.swing.formula import Formula
from trawl.swing.graph import bipartite, cost_ranges
from trawl.swing.kernel import Swing

_TASKS_PER_PART = 2


class MineTask:
    """Keeps the graph of one side; a task is a range of anchors, the ranges being of about equal cost."""

    def __init__(self, side: str, inputs: Inputs, cfg: Config) -> None:
        users, items = _pairs(inputs, cfg)
        shape = (inputs.count("users") + 1, inputs.count("items") + 1)  # index 0 = unknown has no interaction
        graph = bipartite(users, items, shape) if side == "user" else bipartite(items, users, shape[::-1])
        self.bounds = cost_ranges(graph, _tasks(inputs))
        self.top_k = cfg.swing.top_k
        self.swing = Swing(graph, formula_of(cfg))

    def __call__(self, task: Task) -> pa.Table:
        found = self.swing.topk(range(*self.bounds[task.number : task.number + 2].tolist()), self.top_k)
        return pa.table(vars(found))


def formula_of(cfg: Config) -> Formula:
    return Formula(**{name: getattr(cfg.swing, name) for name in asdict(Formula())})


def _pairs(inputs: Inputs, cfg: Config) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The interactions that count, as arrays of user and item indexes."""
    train = np.zeros(inputs.count("users") + 1, dtype=bool)
    for splits in inputs.each("splits", ["user", "part"]):
        train[splits.column("user").to_numpy()] = splits.column("part").to_numpy(zero_copy_only=False) == TRAIN
    warm = np.ones(inputs.count("items") + 1, dtype=bool)
    if inputs.has("cold_items"):
        for rows in inputs.each("cold_items"):
            warm[rows.column("item").to_numpy()] = ~rows.column("cold").to_numpy(zero_copy_only=False)
    kept = list(_kept(inputs, train, warm, cfg.swing.interactions == "liked"))
    users, items = (np.concatenate([np.empty(0, np.int64), *(k[i] for k in kept)]) for i in (0, 1))
    return users, items


def _kept(
    inputs: Inputs, train: npt.NDArray[np.bool_], warm: npt.NDArray[np.bool_], liked: bool
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    for rows in inputs.each("log", ["user", "item", "label"]):
        user, item = rows.column("user").to_numpy(), rows.column("item").to_numpy()
        keep = train[user] & warm[item]
        if liked:
            keep &= rows.column("label").to_numpy(zero_copy_only=False)
        yield user[keep], item[keep]


def _tasks(inputs: Inputs) -> int:
    return _TASKS_PER_PART * len(inputs.parts("log"))


def plan(inputs: Inputs, cfg: Config) -> list[Task]:
    return numbered(_tasks(inputs))


def reads(cfg: Config) -> tuple[str, ...]:
    return ("log", "splits", "users", "items", *(("cold_items",) if cfg.data.cold_items > 0 else ()))


def keys(cfg: Config) -> tuple[str, ...]:
    names = ["normalize", "interactions", "alpha", "diagonal", "top_k"]
    if cfg.swing.node_weight != "none":
        names.append("node_weight")
    if cfg.swing.node_weight == "power":
        names += ["node_a", "node_b"]
    if cfg.swing.inverted:
        names.append("inverted")
    return tuple(f"swing.{name}" for name in names)


def mine_users(inputs: Inputs, cfg: Config) -> Worker:
    return MineTask("user", inputs, cfg)


def mine_items(inputs: Inputs, cfg: Config) -> Worker:
    return MineTask("item", inputs, cfg)


def _stage(side: str, worker: Callable[[Inputs, Config], Worker]) -> Stage:
    return Stage(artifact=f"{side}_positives", version=2, reads=reads, keys=keys, plan=plan, worker=worker)


STAGES: tuple[Stage, ...] = (_stage("item", mine_items), _stage("user", mine_users))
