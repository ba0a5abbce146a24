"""The configured engine on a few prompts, through the very stages of a run, kept nowhere: for plans and the doctor.

Everything is written to a store of its own that is removed at the end: answers, marks, what workers send each other.
The tables are read where they are.
"""

import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from trawl.config import Config
from trawl.connection import address
from trawl.extraction.answers import ANSWER
from trawl.extraction.stage import STAGES
from trawl.inputs import Inputs
from trawl.raw import join
from trawl.schemas import CONTRACTS
from trawl.stage import Executor, Job, Stage, Task, Worker, always, numbered, run_stage
from trawl.store import Manifest, Part, Store

_ASK = 1  # the phase that asks: `stage_answers`
_TITLE = "The Lantern (1990)"
_TEXT = "The Lantern is a 1990 comedy film directed by Ada Writer. It tells of a lighthouse keeper."


@dataclass(frozen=True)
class Trial:
    """What became of a few prompts. `seconds`: of one engine at work; `start_seconds`: all else that it took."""

    answers: pa.Table  # schema ANSWER
    start_seconds: float
    seconds: float


@dataclass(frozen=True)
class _Few(Inputs):
    """The tables of `tables`, and as what is scattered to bucket 0 these rows of prompts; written is elsewhere."""

    tables: Inputs = field(kw_only=True)
    rows: pa.Table = field(kw_only=True)

    def manifest(self, name: str) -> Manifest:
        return self.tables.manifest(name)

    def has(self, name: str) -> bool:
        return self.tables.has(name)

    def part(self, name: str, number: int, columns: list[str] | None = None) -> pa.Table:
        return self.tables.part(name, number, columns)

    def part_bytes(self, name: str, entry: Part) -> pa.Buffer:
        return self.tables.part_bytes(name, entry)

    def mapped(self, name: str, columns: list[str] | None = None) -> pa.Table:
        return self.tables.mapped(name, columns)

    def array(self, name: str, column: str) -> Any:
        return self.tables.array(name, column)

    def scattered(self, phase: int, bucket: int) -> pa.Table:
        if phase:
            return super().scattered(phase, bucket)
        return self.rows if bucket == 0 else self.rows.slice(0, 0)


def try_prompts(side: str, rows: pa.Table, tables: Inputs, cfg: Config, executor: Executor) -> Trial:
    """Ask one engine these rows of prompts (contract of `<side>_prompts`, and `owner`: whom each is about).

    Raises what asking them in a run would raise.
    """
    stage = next(s for s in STAGES if s.artifact == f"{side}_answers")
    cfg = _one_engine(cfg)
    with _scratch(tables.store, cfg) as store:
        inputs = _Few(store, tables.fingerprints, {}, (stage.artifact, "trial", "_work"), tables=tables, rows=rows)
        job = Job(stage, _ASK, inputs, cfg, "trial")
        started = time.monotonic()
        for _ in executor.run(job, [Task("00000", {"number": 0})]):
            pass
        whole = time.monotonic() - started
        buckets = range(stage.phases[_ASK].buckets(inputs, cfg))
        answers = pa.concat_tables([inputs.scattered(_ASK, n).select(ANSWER.names) for n in buckets])
    busy = min(whole, _busy(answers, cfg))
    return Trial(answers, whole - busy, busy)


def _busy(answers: pa.Table, cfg: Config) -> float:
    """Seconds of the engine's work: batches one after another; vllm takes all prompts of a trial at once."""
    found = pc.max(answers.column("seconds")) if cfg.extraction.engine == "vllm" else pc.sum(answers.column("seconds"))
    return float(found.as_py() or 0.0)


def most(cfg: Config) -> int:
    """Prompts that a trial takes."""
    in_flight = 8 * cfg.resources.engine_rows  # feeding: more would wait for others, and their seconds with them
    return min(cfg.plan.probe_prompts, in_flight) if cfg.extraction.engine == "vllm" else cfg.plan.probe_prompts


def _one_engine(cfg: Config) -> Config:
    return cfg.override("resources.engines=1", "resources.answer_cache=")  # no answer of a trial is kept


@contextmanager
def _scratch(store: Store, cfg: Config) -> Iterator[Store]:
    """A store of a trial's own: on this machine, or beside the tables where workers are elsewhere."""
    if not address(cfg):
        with tempfile.TemporaryDirectory(prefix="trawl-trial-") as folder:
            yield Store(folder)
        return
    name = f"trial-{uuid.uuid4().hex}"
    try:
        yield Store(join(store.uri, name))
    finally:
        store.remove(name)


def try_one(cfg: Config, store: Store, executor: Executor) -> dict[str, Any]:
    """The row of answers of a made-up item, by the configured engine: text, prompt and answer through their stages.

    Raises what they raise.
    """
    cfg = _one_engine(cfg.override("extraction.source=extracted", "extraction.failure_limit=1.0"))
    stages = {stage.artifact: stage for stage in (*_MADE_UP, *STAGES)}
    with _scratch(store, cfg) as scratch:
        marks: dict[str, str] = {}
        for name in _needed("item_answers", stages, cfg):
            marks[name] = run_stage(stages[name], cfg, scratch, marks, executor).fingerprint
        row: dict[str, Any] = Inputs(scratch, marks).table("item_answers").to_pylist()[0]
    return row


def _needed(name: str, stages: dict[str, Stage], cfg: Config) -> list[str]:
    """What a table is made of, upstream first, and itself."""
    out: list[str] = []
    for read in stages[name].reads(cfg):
        out += [n for n in _needed(read, stages, cfg) if n not in out]
    return [*out, name]


def _item(inputs: Inputs, cfg: Config) -> Worker:
    row = {"item": 1, "item_id": "1", "title": _TITLE, "year": 1990, "fields": []}
    return lambda task: pa.Table.from_pylist([row], schema=CONTRACTS["items"].schema)


def _page(inputs: Inputs, cfg: Config) -> Worker:
    row = {"item": 1, "rank": 0, "entity_id": "1", "text": _TEXT, "similarity": 1.0, "method": "exact", "ties": 0}
    return lambda task: pa.Table.from_pylist([row], schema=CONTRACTS["knowledge"].schema)


def _one_task(inputs: Inputs, cfg: Config) -> list[Task]:
    return numbered(1)


_MADE_UP = (
    Stage(artifact="items", version=0, plan=_one_task, worker=_item),
    Stage(artifact="knowledge", version=0, plan=_one_task, reads=always("items"), worker=_page),
)
