"""The runner on toy stages: publish, skip, resume, refuse, count attempts, exchange rows."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from trawl.config import Config
from trawl.errors import ArtifactError, EngineDied, InputError, StoreError, TooManyFailures
from trawl.executors import Inline
from trawl.inputs import Inputs
from trawl.stage import Job, Phase, Stage, Task, fingerprint, numbered, per_part, run_stage
from trawl.store import MANIFEST, Store

CALLS: list[str] = []


def cutoffs(first: int, count: int) -> pa.Table:
    users = np.arange(first, first + count)
    return pa.table({"user": users, "cutoff": users * 2, "events": users * 3})


def make_cutoffs(inputs: Inputs, cfg: Config) -> Callable[[Task], pa.Table]:
    def work(task: Task) -> pa.Table:
        CALLS.append(task.name)
        return cutoffs(task.number * 10 + 1, 10).take(np.random.default_rng(0).permutation(10))

    return work


CUTOFFS = Stage(
    artifact="cutoffs",
    version=1,
    keys=lambda cfg: ("data.cutoff_max",),
    plan=lambda inputs, cfg: numbered(4),
    worker=make_cutoffs,
)


def make_splits(inputs: Inputs, cfg: Config) -> Callable[[Task], pa.Table]:
    def work(task: Task) -> pa.Table:
        rows = inputs.part("cutoffs", task.number)
        part = pa.array(["train"] * rows.num_rows)
        return pa.table({"user": rows["user"], "part": part, "cutoff": rows["cutoff"]})

    return work


SPLITS = Stage(
    artifact="splits",
    version=1,
    reads=lambda cfg: ("cutoffs",),
    plan=per_part("cutoffs"),
    worker=make_splits,
    covers="cutoffs",
)


class CrashAfter(Inline):
    """Ends like a machine that goes down after some tasks."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.left = tasks

    def run(self, job: Job, tasks: list[Task]) -> Iterator[dict[str, Any]]:
        for task in tasks:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield from super().run(job, [task])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    CALLS.clear()
    return Store(str(tmp_path / "store"))


def swap(stage: Stage, **changes: Any) -> Stage:
    return Stage(**{**vars(stage), **changes})


def test_a_table_is_published_sorted_with_its_manifest_last(store: Store) -> None:
    outcome = run_stage(CUTOFFS, Config(), store, {}, Inline())
    manifest = store.manifest("cutoffs", outcome.fingerprint)
    assert manifest is not None
    assert (outcome.rows, manifest.rows, len(manifest.parts), outcome.skipped) == (40, 40, 4, False)
    assert manifest.config == {"data.cutoff_max": 30}
    table = Inputs(store, {"cutoffs": outcome.fingerprint}).table("cutoffs")
    assert table["user"].to_pylist() == list(range(1, 41))
    assert store.names("cutoffs", outcome.fingerprint) == sorted(
        [MANIFEST, *(f"part-{i:05d}.parquet" for i in range(4))]
    ), "no scrap is left"


def test_a_published_table_is_not_made_again(store: Store) -> None:
    run_stage(CUTOFFS, Config(), store, {}, Inline())
    assert run_stage(CUTOFFS, Config(), store, {}, Inline()).skipped
    assert len(CALLS) == 4
    run_stage(CUTOFFS, Config().override("resources.actors=9", "training.lr=0.3"), store, {}, Inline())
    assert len(CALLS) == 4, "keys that the stage does not read do not matter"
    run_stage(CUTOFFS, Config().override("data.cutoff_max=3"), store, {}, Inline())
    assert len(CALLS) == 8


def test_after_a_crash_only_missing_parts_are_made(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_stage(CUTOFFS, Config(), store, {}, CrashAfter(3))
    mark = fingerprint(CUTOFFS, Config(), {})
    assert store.manifest("cutoffs", mark) is None
    CALLS.clear()
    assert run_stage(CUTOFFS, Config(), store, {}, Inline()).rows == 40
    assert CALLS == ["00003"]


def test_a_missing_upstream_table_names_what_to_run(store: Store) -> None:
    with pytest.raises(ArtifactError, match="cutoffs/abc: not published; run `trawl run RECIPE --until cutoffs`"):
        run_stage(SPLITS, Config(), store, {"cutoffs": "abc"}, Inline())


def broken(store: Store, how: str) -> str:
    """Publish cut-offs and harm them; returns the fingerprint."""
    mark = run_stage(CUTOFFS, Config(), store, {}, Inline()).fingerprint
    path = store.path("cutoffs", mark, "part-00002.parquet")
    data = bytearray(Path(path).read_bytes())
    if how == "altered":
        data[len(data) // 2] ^= 1
        Path(path).write_bytes(data)
    elif how == "cut":
        Path(path).write_bytes(data[:-10])
    elif how == "missing":
        Path(path).unlink()
    elif how == "contract":
        manifest = json.loads(store.read_text("cutoffs", mark, MANIFEST))
        store.write_text(json.dumps(manifest | {"contract": 99}), "cutoffs", mark, MANIFEST)
    elif how == "manifest":
        store.write_text("{}", "cutoffs", mark, MANIFEST)
    return mark


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("altered", "part-00002.parquet: altered"),
        ("cut", "part-00002.parquet: .* bytes where"),
        ("missing", "part-00002.parquet: missing"),
        ("contract", "cutoffs/.*contract version 99"),
        ("manifest", "not a manifest"),
    ],
)
def test_a_broken_input_is_refused_by_name(tmp_path: Path, how: str, says: str) -> None:
    store = Store(str(tmp_path / how))
    mark = broken(store, how)
    with pytest.raises(ArtifactError, match=says):
        run_stage(SPLITS, Config(), store, {"cutoffs": mark}, Inline())
    made = fingerprint(SPLITS, Config(), {"cutoffs": mark})
    assert not store.exists("splits", made, MANIFEST)


def harmful(change: Callable[[pa.Table], pa.Table]) -> Stage:
    def make(inputs: Inputs, cfg: Config) -> Callable[[Task], pa.Table]:
        return lambda task: change(make_splits(inputs, cfg)(task))

    return swap(SPLITS, worker=make, version=id(change))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.slice(1), "rows for 36 indexes where 40 are due"),
        (lambda t: pa.concat_tables([t, t.slice(0, 1)]), "twice the key user = "),
        (lambda t: t.drop_columns(["cutoff"]), r"columns missing \['cutoff'\]"),
        (lambda t: t.append_column("more", t["user"]), r"not in the contract \['more'\]"),
        (lambda t: t.set_column(0, "user", pa.array([0, *t["user"].to_pylist()[1:]])), "user below 1"),
        (lambda t: t.set_column(0, "user", pa.array(np.arange(t.num_rows) + 10**6)), "twice|not the same ones"),
        (lambda t: t.set_column(1, "part", pa.array(["all"] * t.num_rows)), "part = all at user = .*allowed"),
        (lambda t: t.set_column(2, "cutoff", pa.nulls(t.num_rows, pa.int64())), "cutoff is null at user = "),
        (lambda t: t.set_column(2, "cutoff", t["part"]), "does not fit the contract"),
    ],
)
def test_a_table_that_breaks_its_contract_is_not_published(
    store: Store, change: Callable[[pa.Table], pa.Table], says: str
) -> None:
    mark = run_stage(CUTOFFS, Config(), store, {}, Inline()).fingerprint
    stage = harmful(change)
    with pytest.raises(ArtifactError, match=says):
        run_stage(stage, Config(), store, {"cutoffs": mark}, Inline())
    assert store.manifest("splits", fingerprint(stage, Config(), {"cutoffs": mark})) is None


def test_a_task_that_takes_its_worker_down_is_not_tried_for_ever(store: Store) -> None:
    class Dies(Inline):
        def run(self, job: Job, tasks: list[Task]) -> Iterator[dict[str, Any]]:
            for _ in range(10):  # as a cluster that replaces the worker each time
                try:
                    yield from super().run(job, tasks[:1])
                except MemoryError:
                    continue

    def make(inputs: Inputs, cfg: Config) -> Callable[[Task], pa.Table]:
        def work(task: Task) -> pa.Table:
            CALLS.append(task.name)
            raise MemoryError

        return work

    with pytest.raises(EngineDied, match="part-00000 took its worker down 3 times"):
        run_stage(swap(CUTOFFS, worker=make), Config(), store, {}, Dies())
    assert CALLS == ["00000"] * 3


def by_last_digit(inputs: Inputs, cfg: Config) -> Callable[[Task], Iterator[tuple[int, pa.Table]]]:
    def work(task: Task) -> Iterator[tuple[int, pa.Table]]:
        CALLS.append(task.name)
        rows = cutoffs(task.number * 10 + 1, 10)
        for row in range(10):
            yield int(rows["user"][row].as_py()) % 3, rows.slice(row, 1)

    return work


def gather(inputs: Inputs, cfg: Config) -> Callable[[Task], pa.Table]:
    def work(task: Task) -> pa.Table:
        assert sum(inputs.scattered_rows(0)) == 40
        return inputs.scattered(0, task.number)

    return work


EXCHANGED = Stage(
    artifact="cutoffs",
    version=2,
    plan=lambda inputs, cfg: numbered(4),
    phases=(Phase(worker=by_last_digit, buckets=lambda inputs, cfg: 3),),
    worker=gather,
)


def test_an_exchange_brings_rows_to_their_bucket_and_resumes(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_stage(EXCHANGED, Config(), store, {}, CrashAfter(5))  # four scatters and one gather
    CALLS.clear()
    outcome = run_stage(EXCHANGED, Config(), store, {}, Inline())
    assert CALLS == [], "nothing was scattered again"
    inputs = Inputs(store, {"cutoffs": outcome.fingerprint})
    for bucket in range(3):
        users = inputs.part("cutoffs", bucket)["user"].to_pylist()
        assert users == [u for u in range(1, 41) if u % 3 == bucket]
    assert not store.exists("cutoffs", outcome.fingerprint, "_work")


def test_memory_mapped_views_agree_with_the_table(store: Store) -> None:
    mark = run_stage(CUTOFFS, Config(), store, {}, Inline()).fingerprint
    inputs = Inputs(store, {"cutoffs": mark})
    whole = inputs.table("cutoffs")
    assert inputs.mapped("cutoffs").equals(whole)
    array = inputs.array("cutoffs", "events")
    assert isinstance(array, np.memmap)
    assert array.tolist() == whole["events"].to_pylist()


def test_a_raw_input_counts_by_content(store: Store, tmp_path: Path) -> None:
    raw = tmp_path / "raw.csv"
    stage = swap(CUTOFFS, sources=lambda cfg: {"raw": str(raw)})
    with pytest.raises(InputError, match=r"raw\.csv: no such file"):
        fingerprint(stage, Config(), {})
    raw.write_text("a")
    first = fingerprint(stage, Config(), {})
    moved = tmp_path / "sub" / "raw.csv"
    moved.parent.mkdir()
    moved.write_text("a")
    assert fingerprint(swap(CUTOFFS, sources=lambda cfg: {"raw": str(moved)}), Config(), {}) == first
    raw.write_text("b")
    assert fingerprint(stage, Config(), {}) != first


def test_a_check_that_fails_publishes_nothing(store: Store) -> None:
    def refuse(parts: Any, cfg: Config) -> None:
        raise TooManyFailures("cutoffs: 3 of 4 failed")

    stage = swap(CUTOFFS, check=refuse)
    with pytest.raises(TooManyFailures):
        run_stage(stage, Config(), store, {}, Inline())
    assert store.manifest("cutoffs", fingerprint(stage, Config(), {})) is None


def test_a_failed_write_leaves_no_scrap_and_the_old_file(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_text("old", "runs", "a", "x.json")

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    class Full:
        def __getattr__(self, name: str) -> Any:
            return full if name == "move" else getattr(store_fs, name)

    store_fs = store.fs
    monkeypatch.setattr(store, "fs", Full())
    with pytest.raises(StoreError, match=r"no space left on .* while writing runs/a/x\.json; free space"):
        store.write_text("new", "runs", "a", "x.json")
    monkeypatch.setattr(store, "fs", store_fs)
    assert store.read_text("runs", "a", "x.json") == "old"
    assert store.names("runs", "a") == ["x.json"]


def test_a_folder_stage_is_published_whole(store: Store) -> None:
    def fill(inputs: Inputs, cfg: Config, path: Path) -> dict[str, Any]:
        (path / "deep").mkdir()
        (path / "deep" / "weights.bin").write_bytes(b"123")
        return {"epochs": 2}

    stage = Stage(artifact="model", version=1, plan=lambda i, c: [], folder=fill)
    outcome = run_stage(stage, Config(), store, {}, Inline())
    manifest = store.manifest("model", outcome.fingerprint)
    assert manifest is not None
    assert manifest.notes == {"epochs": 2}
    assert [p.path for p in manifest.parts] == ["deep/weights.bin"]
    assert store.read_bytes("model", outcome.fingerprint, "deep/weights.bin").to_pybytes() == b"123"
