"""One suite that every stage of every room passes, on a small whole run.

Run; skip when published; crash in the middle and resume with no row twice or lost; refuse a broken input by name;
the same result when rows come in another order.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import small

from trawl import pipeline, schemas
from trawl.config import Config
from trawl.errors import ArtifactError
from trawl.executors import Inline
from trawl.inputs import Inputs
from trawl.stage import Job, Task, run_stage
from trawl.store import MANIFEST, Store

STAGES = list(pipeline.stages())
TABLES = [name for name in STAGES if name in schemas.CONTRACTS]
# What may differ between two runs of the same work.
VOLATILE = {"seconds", "attempts"}
# Rows that these stages find by their place: the runner publishes every part in the order of its key.
_BEHAVIOUR = {"users", "items", "log", "samples", "splits", "cold_items", "cutoffs"}
BY_PLACE = {
    "cutoffs": {"users", "log"},
    "samples": _BEHAVIOUR,
    "user_prompts": {"log"},
    "item_positives": {"log"},
    "user_positives": {"log"},
    "predictions": _BEHAVIOUR,
}


@dataclass(frozen=True)
class Whole:
    store: Store
    cfg: Config
    marks: dict[str, str]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    store = Store(str(tmp_path_factory.mktemp("whole") / "store"))
    cfg = small.config(*small.EVERY)
    outcomes = small.run_all(store, cfg)
    return Whole(store, cfg, {name: o.fingerprint for name, o in outcomes.items()})


class Watched(Inline):
    """Counts tasks, and goes down before one of them when asked to."""

    def __init__(self, crash_before: int = -1) -> None:
        super().__init__()
        self.crash_before = crash_before
        self.ran: list[tuple[int | None, str]] = []

    def run(self, job: Job, tasks: list[Task]) -> Iterator[dict[str, Any]]:
        for task in tasks:
            if len(self.ran) == self.crash_before:
                raise KeyboardInterrupt
            self.ran.append((job.phase, task.name))
            yield from super().run(job, [task])

    def fill(self, job: Job) -> dict[str, Any]:
        if self.crash_before >= 0:
            raise KeyboardInterrupt
        self.ran.append((None, "folder"))
        return super().fill(job)


def same(one: pa.Table, two: pa.Table) -> bool:
    kept = [name for name in one.column_names if name not in VOLATILE]
    return bool(one.select(kept).equals(two.select(kept)))


def run(whole: Whole, store: Store, name: str, executor: Inline) -> Any:
    return run_stage(pipeline.stages()[name], whole.cfg, store, whole.marks, executor)


def test_the_small_run_makes_every_stage(whole: Whole) -> None:
    assert set(whole.marks) == set(STAGES)
    for name in TABLES:
        assert whole.store.manifest(name, whole.marks[name]).rows > 0, f"{name} is empty: the suite would prove nothing"  # type: ignore[union-attr]


@pytest.mark.parametrize("name", STAGES)
def test_skips_what_is_published(whole: Whole, name: str) -> None:
    executor = Watched()
    assert run(whole, whole.store, name, executor).skipped
    assert executor.ran == []


@pytest.mark.parametrize("name", STAGES)
def test_resumes_after_a_crash_in_the_middle(whole: Whole, tmp_path: Path, name: str) -> None:
    store = small.copy_store(whole.store, tmp_path / "store", name, "cache")
    full = Watched()
    run(whole, small.copy_store(whole.store, tmp_path / "full", name, "cache"), name, full)
    crash = Watched(crash_before=len(full.ran) // 2)
    with pytest.raises(KeyboardInterrupt):
        run(whole, store, name, crash)
    assert store.manifest(name, whole.marks[name]) is None, "nothing is published half done"
    again = Watched()
    run(whole, store, name, again)
    if name in schemas.CONTRACTS:
        assert crash.ran + again.ran == full.ran, "what was done is not done again, what was not is"
        assert same(small.table(store, whole.marks, name), small.table(whole.store, whole.marks, name))
    else:
        one, two = (s.manifest(name, whole.marks[name]) for s in (store, whole.store))
        assert one is not None and two is not None
        weights = [{p.path: p.digest for p in m.parts if p.path.endswith(".safetensors")} for m in (one, two)]
        assert weights[0] == weights[1] != {}


def reads(name: str) -> list[str]:
    return list(pipeline.stages()[name].reads(small.config(*small.EVERY)))


@pytest.mark.parametrize(("name", "upstream"), [(n, u) for n in STAGES for u in reads(n)])
def test_refuses_a_broken_input_by_name(whole: Whole, tmp_path: Path, name: str, upstream: str) -> None:
    store = small.copy_store(whole.store, tmp_path / "store", name)
    part = store.manifest(upstream, whole.marks[upstream]).parts[0].path  # type: ignore[union-attr]
    path = Path(store.path(upstream, whole.marks[upstream], part))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=f"{upstream}/.*{part}"):
        run(whole, store, name, Inline())
    manifest = json.loads(store.read_text(upstream, whole.marks[upstream], MANIFEST))
    store.write_text(json.dumps(manifest | {"contract": 99}), upstream, whole.marks[upstream], MANIFEST)
    if upstream in schemas.CONTRACTS:
        with pytest.raises(ArtifactError, match=f"{upstream}/.*contract version 99"):
            run(whole, store, name, Inline())
    store.remove(upstream, whole.marks[upstream])
    with pytest.raises(ArtifactError, match=f"{upstream}/.*not published"):
        run(whole, store, name, Inline())
    assert store.manifest(name, whole.marks[name]) is None


def reorder(store: Store, name: str, mark: str) -> None:
    """Publish a table anew with the rows of each part in another order, under the same fingerprint."""
    manifest = json.loads(store.read_text(name, mark, MANIFEST))
    inputs = Inputs(store, {name: mark})
    for number, part in enumerate(manifest["parts"]):
        rows = inputs.part(name, number)
        order = np.random.default_rng(number).permutation(rows.num_rows)
        part["bytes"], part["digest"] = store.write_parquet(rows.take(order), name, mark, part["path"])
    store.write_text(json.dumps(manifest), name, mark, MANIFEST)


@pytest.mark.parametrize("name", [n for n in TABLES if reads(n)])
def test_same_result_when_rows_come_in_another_order(
    whole: Whole, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAWL_NODE_CACHE", str(tmp_path / "node"))  # mapped files know tables by fingerprint
    store = small.copy_store(whole.store, tmp_path / "store", name, "cache")
    for upstream in reads(name):
        if upstream in schemas.CONTRACTS and upstream not in BY_PLACE.get(name, ()):
            reorder(store, upstream, whole.marks[upstream])
    run(whole, store, name, Inline())
    one, two = (small.table(s, whole.marks, name) for s in (store, whole.store))
    if name == "predictions":
        assert np.allclose(one["score"].to_numpy(), two["score"].to_numpy(), atol=1e-6)
        one, two = one.drop_columns(["score"]), two.drop_columns(["score"])
    if name in ("item_vectors", "user_vectors"):  # a row's place in a matrix product may show in its last bit
        for column in ("vector", "norm"):
            values = [np.asarray(pc.list_flatten(t[column]) if column == "vector" else t[column]) for t in (one, two)]
            assert np.allclose(*values, atol=1e-6)
        one, two = (t.drop_columns(["vector", "norm"]) for t in (one, two))
    assert same(one, two)


def test_what_a_stage_does_not_read_leaves_its_fingerprint(whole: Whole) -> None:
    """Another split, k of SWING or backbone size changes no knowledge, prompt, answer or vector."""
    upstream = ["knowledge", "item_texts", "item_prompts", "user_prompts", "item_answers", "user_answers"]
    upstream += ["item_embeddings", "user_embeddings", "users", "items", "log", "cutoffs", "entities", "facts"]
    for change in ("data.split_seed=9", "swing.top_k=2", "model.embedding=8", "training.seed=5", "resources.actors=7"):
        marks = pipeline.plan(small.config(*small.EVERY, change)).fingerprints
        assert {n: marks[n] for n in upstream} == {n: whole.marks[n] for n in upstream}, change
    changed = pipeline.plan(small.config(*small.EVERY, "data.split_seed=9")).fingerprints
    assert changed["splits"] != whole.marks["splits"]
    assert changed["user_positives"] != whole.marks["user_positives"]
