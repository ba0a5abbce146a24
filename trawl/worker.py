"""What runs in a worker process: one task of a stage, its result left whole in the store."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from trawl import checks, schemas
from trawl.environment import peak_mib
from trawl.errors import ArtifactError, EngineDied
from trawl.inputs import Inputs
from trawl.stage import Job, Task
from trawl.store import Part, Store, digest_bytes

_ATTEMPTS = 3  # times that a task may take its worker down before the run gives up


def run_task(job: Job, task: Task, shared: Any = None) -> dict[str, Any]:
    """Run one task in this process and leave its result, whole, in the store. Called by executors, in workers.

    shared: the value of what the stage had made for all its workers.
    """
    store, home = job.inputs.store, (job.stage.artifact, job.fingerprint)
    label = _label(job.phase, task)
    _count_attempt(store, home, label)
    worker = _worker(job, shared)
    if job.phase is None:
        _finish_part(job, task, worker(task))
    else:
        _finish_scatter(job, task, worker(task))
    store.remove_file(*home, "_attempts", label)
    return {"task": task.name, "peak_mib": peak_mib()}


def _label(phase: int | None, task: Task) -> str:
    return f"{'part' if phase is None else f'phase-{phase}'}-{task.name}"


def forgive(inputs: Inputs, phase: int | None, task: Task) -> None:
    """Count a task's attempts anew: its worker knows what it died of and goes around it."""
    inputs.store.write_text("0", *inputs.work[:2], "_attempts", _label(phase, task))


def _count_attempt(store: Store, home: tuple[str, str], label: str) -> None:
    """Remember across processes how often a task was begun, so that one that kills its worker ends the run."""
    attempts = int(store.find_text(*home, "_attempts", label) or 0)
    if attempts >= _ATTEMPTS:
        raise EngineDied(
            f"{home[0]}: {label} took its worker down {attempts} times; see the worker's log, then run again"
        )
    store.write_text(str(attempts + 1), *home, "_attempts", label)


_WORKERS: dict[tuple[Any, ...], Any] = {}


def _worker(job: Job, shared: Any) -> Any:
    """The worker object of a job, built once per process; the one before it is let go."""
    key = (job.inputs.store.where(), *job.key, job.cfg.model_dump_json())  # what is not hashed counts here too
    if key not in _WORKERS:
        _WORKERS.clear()
        make = job.stage.worker if job.exchange is None else job.exchange.worker
        assert make is not None, f"{job.stage.artifact}: a table stage needs a worker"
        _WORKERS[key] = make(replace(job.inputs, shared=shared), job.cfg)
    return _WORKERS[key]


def _finish_part(job: Job, task: Task, table: pa.Table) -> None:
    store, home, name = job.inputs.store, (job.stage.artifact, job.fingerprint), f"part-{task.name}"
    table = checks.conform(schemas.CONTRACTS[job.stage.artifact], table, f"{name} of {job.stage.artifact}")
    if job.stage.side:
        store.write_bytes(job.stage.side(table), *home, f"{name}{job.stage.side_suffix}")
    size, digest = store.write_parquet(table, *home, f"{name}.parquet")
    part = replace(
        checks.describe(schemas.CONTRACTS[job.stage.artifact], table), path=f"{name}.parquet", bytes=size, digest=digest
    )
    store.write_text(json.dumps(vars(part)), *home, "_parts", f"{task.name}.json")


def _finish_scatter(job: Job, task: Task, pieces: Iterable[tuple[int, pa.Table]]) -> None:
    store, folder = job.inputs.store, (job.stage.artifact, job.fingerprint, "_work", f"phase-{job.phase}")
    assert job.exchange is not None
    count = job.exchange.buckets(job.inputs, job.cfg)
    buckets: list[list[pa.Table]] = [[] for _ in range(count)]
    schema = None
    for bucket, table in pieces:
        schema = table.schema
        buckets[bucket].append(table)
    if schema is None:
        raise ArtifactError(
            f"{job.stage.artifact}: task {task.name} of phase {job.phase} gave no table, not even an empty one"
        )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        for tables in buckets:
            whole = pa.concat_tables(tables).combine_chunks() if tables else schema.empty_table()
            batches = whole.to_batches()
            writer.write_batch(batches[0] if batches else pa.RecordBatch.from_pylist([], schema=schema))
    store.write_bytes(sink.getvalue(), *folder, f"{task.name}.arrow")
    store.write_text(json.dumps([sum(t.num_rows for t in tables) for tables in buckets]), *folder, f"{task.name}.json")


def run_folder(job: Job) -> dict[str, Any]:
    """Let the stage fill a folder on this machine, then copy its files into the store: parts, notes, peak_mib."""
    assert job.stage.folder is not None
    parts = []
    with TemporaryDirectory(prefix="trawl-") as name:
        notes = job.stage.folder(job.inputs, job.cfg, Path(name))
        for path in sorted(p for p in Path(name).rglob("*") if p.is_file()):
            data, relative = path.read_bytes(), path.relative_to(name).as_posix()
            job.inputs.store.write_bytes(data, job.stage.artifact, job.fingerprint, relative)
            parts.append(vars(Part(path=relative, rows=0, bytes=len(data), digest=digest_bytes(data))))
    peak = max(peak_mib(), float(notes.pop("peak_mib", 0.0)))
    return {"parts": parts, "notes": notes, "peak_mib": peak}
