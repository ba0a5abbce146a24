"""A stage is a record: "from these tables, raw inputs and config keys, this table". One runner does the rest.

A room writes a `Stage` whose `worker` turns a task into one part of the table. The runner opens the inputs, skips what
is published, resumes what is half done, conforms each part to the contract, proves completeness and publishes the
manifest last. Rows that must meet (by user, by digest) are exchanged in `phases` before the worker sees them.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from trawl import checks, schemas
from trawl.config import Config
from trawl.environment import commit, libraries, source_digest
from trawl.errors import ArtifactError, TooManyFailures
from trawl.inputs import Inputs
from trawl.pool import Pool
from trawl.store import MANIFEST, Manifest, Part, Store, digest_json

EPOCH = "epoch"  # a file in the work folder of a training: "2/5", for who watches
ASKED = "asked"  # the same of prompts that are answered before a phase: "120/4000"

_READERS = 8


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
    before: "Callable[[Job, list[Task]], object] | None" = None  # on the driver, with Ray, before these tasks are run
    heavy: bool = False  # loads a model or engine: long-lived actors instead of tasks
    when: Callable[[Inputs, Config], bool] = lambda inputs, cfg: True  # whether it has anything to do; else left out


@dataclass(frozen=True, kw_only=True)
class Stage:
    """How one artifact is made. All callables are module-level (they travel to workers by name)."""

    artifact: str
    version: int
    plan: Callable[[Inputs, Config], list[Task]]  # the tasks of the first phase, or of the worker
    reads: Callable[[Config], tuple[str, ...]] = lambda cfg: ()
    keys: Callable[[Config], tuple[str, ...]] = lambda cfg: ()  # dotted config keys that change the result
    sources: Callable[[Config], dict[str, str]] = lambda cfg: {}  # raw inputs: name -> path, by content digest
    models: Callable[[Config], dict[str, str]] = lambda cfg: {}  # models with weights: recipe key -> what they are
    worker: Callable[[Inputs, Config], Worker] | None = None
    shared: "Callable[[Job, Pool], Shared] | None" = None  # made once for all workers, before the first task
    phases: tuple[Phase, ...] = ()
    rounds: Callable[[Config], tuple[Phase, ...]] = lambda cfg: ()  # further phases that only some recipes have
    folder: Callable[[Inputs, Config, Path], dict[str, Any]] | None = None  # fills a folder instead of a table
    covers: str | None = None  # an index table: each of its indexes appears here, none other
    check: Callable[[Sequence[Part], Config], None] | None = None
    verify: Callable[[Sequence[Part], Inputs, Config], None] | None = None  # the same, with what the tasks left
    notes: Callable[[Inputs, Config], dict[str, Any]] | None = None  # of a table, for the manifest
    side: Callable[[pa.Table], bytes] | None = None  # a second file beside each part
    side_suffix: str = ""
    heavy: bool = False  # the worker loads a model or engine: long-lived actors instead of tasks
    gpus: Callable[[Config], float] = lambda cfg: 0.0  # of each such actor

    def phases_of(self, cfg: Config) -> tuple[Phase, ...]:
        """The exchanges of a recipe, in their order."""
        return (*self.phases, *self.rounds(cfg))


@dataclass(frozen=True)
class Shared:
    """What a stage has made once per run for all its workers; they find it as `inputs.shared`."""

    value: Any  # a handle of the pool, or plain data, perhaps with handles in it
    costs: Sequence[float] = ()  # of the tasks by their numbers, where known: the dearest begin first


@dataclass(frozen=True)
class Job:
    """What a worker process needs to run one task of a stage. `phase` None: the worker itself."""

    stage: Stage
    phase: int | None
    inputs: Inputs
    cfg: Config
    fingerprint: str

    @property
    def exchange(self) -> Phase | None:
        """The phase as it stands in the stage; None: the worker."""
        return None if self.phase is None else self.stage.phases_of(self.cfg)[self.phase]

    @property
    def heavy(self) -> bool:
        return self.stage.heavy if self.exchange is None else self.exchange.heavy

    @property
    def key(self) -> tuple[str, str, int | None]:
        return (self.stage.artifact, self.fingerprint, self.phase)


class Executor(Protocol):
    """Runs the tasks of a job somewhere and yields (task name, outcome) as they end."""

    def run(self, job: Job, tasks: list[Task]) -> Iterable[dict[str, Any]]: ...

    def fill(self, job: Job) -> dict[str, Any]:
        """Run `run_folder` somewhere and return what it returns."""
        ...

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function somewhere that may hold a table."""
        ...


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
    notes: Mapping[str, Any] = field(default_factory=dict)  # of a table


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
        **({"models": dict(sorted(models.items()))} if (models := stage.models(cfg)) else {}),
    }


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
        filled = executor.fill(Job(stage, None, opened, cfg, mark))
        parts, notes, peak = tuple(Part(**p) for p in filled["parts"]), filled["notes"], float(filled["peak_mib"])
    else:
        parts, notes, peak = _run_parts(stage, cfg, opened, mark, executor)
    manifest = _manifest(stage, cfg, inputs, parts, time.monotonic() - started, peak, notes)
    store.write_text(manifest.to_json(), stage.artifact, mark, MANIFEST)
    for scrap in ("_work", "_parts", "_attempts"):
        store.remove(stage.artifact, mark, scrap)
    told = notes if stage.notes else {}
    return Outcome(stage.artifact, mark, manifest.rows, manifest.seconds, peak, False, manifest.statuses, told)


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
    sizes = inputs.store.sizes(name, manifest.fingerprint)
    for part in manifest.parts:
        size = sizes.get(part.path, -1)
        if size != part.bytes:
            where = inputs.store.where(name, manifest.fingerprint, part.path)
            what = "missing" if size < 0 else f"{size} bytes where {part.bytes} were published"
            raise ArtifactError(f"{where}: {what}; remove {name}/{manifest.fingerprint} and run again")


def _run_parts(
    stage: Stage, cfg: Config, inputs: Inputs, mark: str, executor: Executor
) -> tuple[tuple[Part, ...], dict[str, Any], float]:
    tasks = stage.plan(inputs, cfg)
    store, home = inputs.store, (stage.artifact, mark)
    store.remove(*home, "_attempts")
    peak = 0.0
    phases = stage.phases_of(cfg)
    for phase in (*range(len(phases)), None):
        folder = (*home, "_parts" if phase is None else f"_work/phase-{phase}")
        ready = set(store.names(*folder))
        left = [t for t in tasks if f"{t.name}.json" not in ready]
        if phase is not None and not phases[phase].when(inputs, cfg):
            left = []
        job = Job(stage, phase, inputs, cfg, mark)
        for outcome in executor.run(job, left):
            peak = max(peak, float(outcome["peak_mib"]))
        if phase is not None:
            tasks = numbered(phases[phase].buckets(inputs, cfg))
    with ThreadPoolExecutor(_READERS) as pool:  # each is a round trip where the store is far away
        texts = pool.map(lambda t: store.read_text(*home, "_parts", f"{t.name}.json"), tasks)
        parts = tuple(Part(**json.loads(text)) for text in texts)
    checks.complete(stage.artifact, parts, inputs.parts(stage.covers) if stage.covers else None)
    if stage.check or stage.verify:
        try:
            if stage.check:
                stage.check(parts, cfg)
            if stage.verify:
                stage.verify(parts, inputs, cfg)
        except TooManyFailures:  # what failed is made again by the next run, not read from here
            for scrap in ("_parts", *(f"_work/phase-{n}" for n in range(1, len(phases)))):
                store.remove(*home, scrap)
            raise
    return parts, stage.notes(inputs, cfg) if stage.notes else {}, peak


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
