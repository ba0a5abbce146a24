"""The runner on a real cluster: Ray tasks and Ray Data actors, errors that cross processes, workers that die."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from trawl.config import Config
from trawl.errors import EngineDied, InputError, TrawlError
from trawl.executors import Inline, OnRay
from trawl.inputs import Inputs
from trawl.stage import Phase, Stage, Task, numbered, run_stage
from trawl.store import Store

pytestmark = pytest.mark.usefixtures("ray_cluster")


def rows(number: int) -> pa.Table:
    users = np.arange(number * 5 + 1, number * 5 + 6)
    return pa.table({"user": users, "cutoff": users, "events": users})


class Plain:
    def __init__(self, inputs: Inputs, cfg: Config) -> None:
        self.folder = Path(inputs.store.root)

    def __call__(self, task: Task) -> pa.Table:
        (self.folder / f"ran-{task.name}-{os.getpid()}").touch()
        return rows(task.number)


class DiesOnce(Plain):
    """Ends its process at the first try of task 2."""

    def __call__(self, task: Task) -> pa.Table:
        mark = self.folder / "died"
        if task.number == 2 and not mark.exists():
            mark.touch()
            os._exit(1)
        return super().__call__(task)


class DiesAlways(Plain):
    def __call__(self, task: Task) -> pa.Table:
        if task.number == 2:
            os._exit(1)
        return super().__call__(task)


class Refuses(Plain):
    def __call__(self, task: Task) -> pa.Table:
        raise InputError.at("ratings.dat", "line 7", "three fields where four are due")


class Breaks(Plain):
    def __call__(self, task: Task) -> pa.Table:
        raise ZeroDivisionError("a fault of the code")


class Spread(Plain):
    def __call__(self, task: Task) -> Iterator[tuple[int, pa.Table]]:  # type: ignore[override]
        table = rows(task.number)
        for bucket in range(2):
            yield bucket, table.filter(pa.array(table["user"].to_numpy() % 2 == bucket))


class Gather:
    def __init__(self, inputs: Inputs, cfg: Config) -> None:
        self.inputs = inputs

    def __call__(self, task: Task) -> pa.Table:
        return self.inputs.scattered(0, task.number)


def six(inputs: Inputs, cfg: Config) -> list[Task]:
    return numbered(6)


def two(inputs: Inputs, cfg: Config) -> int:
    return 2


def stage(worker: Callable[..., Any], heavy: bool = False) -> Stage:
    return Stage(artifact="cutoffs", version=1, plan=six, worker=worker, heavy=heavy)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "store").mkdir()
    return Store(str(tmp_path / "store"))


def table(store: Store, mark: str) -> pa.Table:
    return Inputs(store, {"cutoffs": mark}).table("cutoffs")


@pytest.mark.parametrize("heavy", [False, True], ids=["tasks", "actors"])
def test_same_table_as_in_one_process(store: Store, tmp_path: Path, heavy: bool) -> None:
    local = Store(str(tmp_path / "here"))
    (tmp_path / "here").mkdir()
    here = run_stage(stage(Plain), Config(), local, {}, Inline())
    there = run_stage(stage(Plain, heavy), Config(), store, {}, OnRay(Config()))
    assert table(store, there.fingerprint).equals(table(local, here.fingerprint))
    assert there.peak_mib > 0


@pytest.mark.parametrize("heavy", [False, True], ids=["tasks", "actors"])
def test_a_worker_that_dies_is_replaced(store: Store, heavy: bool) -> None:
    outcome = run_stage(stage(DiesOnce, heavy), Config(), store, {}, OnRay(Config()))
    assert table(store, outcome.fingerprint)["user"].to_pylist() == list(range(1, 31))
    assert (Path(store.root) / "died").exists()


@pytest.mark.parametrize("heavy", [False, True], ids=["tasks", "actors"])
def test_a_task_that_kills_every_worker_ends_the_run(store: Store, heavy: bool) -> None:
    with pytest.raises(EngineDied, match="part-00002 took its worker down 3 times"):
        run_stage(stage(DiesAlways, heavy), Config(), store, {}, OnRay(Config()))


@pytest.mark.parametrize("heavy", [False, True], ids=["tasks", "actors"])
def test_an_error_of_ours_keeps_its_class_and_line(store: Store, heavy: bool) -> None:
    with pytest.raises(InputError) as caught:
        run_stage(stage(Refuses, heavy), Config(), store, {}, OnRay(Config()))
    assert str(caught.value) == "ratings.dat, line 7: three fields where four are due"


@pytest.mark.parametrize("heavy", [False, True], ids=["tasks", "actors"])
def test_a_fault_of_the_code_is_one_line_too(store: Store, heavy: bool) -> None:
    with pytest.raises(TrawlError, match=r"cutoffs: .*a fault of the code") as caught:
        run_stage(stage(Breaks, heavy), Config(), store, {}, OnRay(Config()))
    assert "\n" not in str(caught.value)


def test_rows_are_exchanged_between_tasks(store: Store) -> None:
    exchanged = Stage(
        artifact="cutoffs", version=1, plan=six, worker=Gather, phases=(Phase(worker=Spread, buckets=two),)
    )
    outcome = run_stage(exchanged, Config(), store, {}, OnRay(Config()))
    users = table(store, outcome.fingerprint)["user"].to_pylist()
    assert users == [*range(2, 31, 2), *range(1, 31, 2)]
