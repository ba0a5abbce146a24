"""Answers prompts with vLLM through Ray Data, before the stage's own actors look for the answers in the cache.

    buckets of prompts -> what is missing, by its beginning -> rendered -> engine actors -> segments of the cache

Each bucket is read by one task, which sends its missing prompts to groups in which equal beginnings meet (`prefixes`).
Each group is rendered by one task as token ids, in its order; blocks of `resources.engine_rows` rows feed the engines;
each answered block becomes segments of the cache at once. The driver gets counts per block. A run that is killed asks
only what is missing when it is started again. What an engine is started with stands in `launching`.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trawl.errors import Failed
from trawl.extraction import prefixes
from trawl.extraction.answer_forms import as_lines
from trawl.extraction.answers import ANSWER, FAILED, TOO_LONG, answer_row, unasked_row
from trawl.extraction.cache import answer_cache
from trawl.extraction.engines import Reply, Settings, VllmEngine, label, make_engine
from trawl.extraction.key_factors import Factor, load_factors
from trawl.extraction.launching import processor as _processor
from trawl.extraction.rendering import Renderer, copies, each_once, failed_answers
from trawl.extraction.starting import Failures
from trawl.stage import ASKED, Job, Task

_ROW = "__data"  # the column that Ray's engine stage works on
_SENT = pa.schema(
    {_ROW: pa.struct({"digest": pa.string(), "prompt": pa.binary(), "max_tokens": pa.int32()}.items())}.items()
)
_AT_ONCE = 256  # prompts that a rendering task holds as text
_GROUPS = 256  # most groups of prompts by their beginnings
_NEAR, _FAR = 1.0, 10.0  # seconds between two words about how far it is, in a store on this machine, elsewhere


@dataclass
class Fed:
    """What came of the prompts, in numbers. `cached`: tokens of prompts that an engine had read before."""

    rows: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cached: int = 0


def answer_missing(side: str, job: Job, tasks: list[Task]) -> Fed:
    """Ask the engine for every prompt of these buckets that is not in the cache. Nothing for other engines.

    Raises ConfigError when vLLM is not installed, refuses its arguments or the cluster is too small, EngineDied when
    engines do not start or keep dying.
    """
    if job.cfg.extraction.engine != "vllm" or copies(side, job.cfg):
        return Fed()
    import ray

    for scrap in ("failed", ASKED):
        job.inputs.store.remove(*job.inputs.work, scrap)
    prefixes.forget(job.inputs)
    groups = min(len(tasks), _GROUPS)
    buckets = _numbered(task.number for task in tasks)
    counts = buckets.map_batches(_count_missing, fn_args=(side, job, groups), batch_size=1, batch_format="pyarrow")
    missing = sum(row["missing"] for row in counts.take_all())
    if not missing:
        return Fed()
    engines = min(job.cfg.resources.engines, ceil(missing / job.cfg.resources.engine_rows))
    engine = _processor(job, engines)
    prompts = _numbered(range(groups)).map_batches(_render, fn_args=(side, job), batch_size=1, batch_format="pyarrow")
    answers = engine(prompts.repartition(target_num_rows_per_block=job.cfg.resources.engine_rows))
    kept = answers.map_batches(_keep, fn_args=(job, _label(job)), batch_size=None, batch_format="pyarrow")
    try:
        fed = _followed(job, kept, missing)
    except ray.exceptions.RayError:
        if failure := Failures(job.inputs.store, (*job.inputs.work[:-1], "_attempts")).found():
            raise failure from None
        raise
    prefixes.forget(job.inputs)
    if fed.rows > missing:
        raise Failed(f"{job.stage.artifact}: {fed.rows} answers to {missing} prompts; this is a fault of trawl")
    return fed


def _numbered(numbers: Any) -> Any:
    """A dataset of these numbers, each a block of its own."""
    import ray

    rows = [{"number": number} for number in numbers]
    return ray.data.from_items(rows, override_num_blocks=len(rows))


def _label(job: Job) -> str:
    return label(make_engine("vllm", Settings((), job.cfg.extraction)))


def _followed(job: Job, kept: Any, missing: int) -> Fed:
    """The counts of all blocks; how far it is stands in the store meanwhile, for who watches."""
    fed, told = Fed(), 0.0
    pause = _NEAR if job.inputs.store.place.local else _FAR
    for block in kept.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for row in block.to_pylist():
            fed = Fed(*(getattr(fed, name) + row[name] for name in vars(fed)))
        if time.monotonic() - told >= pause:
            told = time.monotonic()
            job.inputs.store.write_text(f"{fed.rows}/{missing}", *job.inputs.work, ASKED)
    job.inputs.store.remove(*job.inputs.work, ASKED)
    return fed


def _missing(side: str, job: Job, number: int) -> pa.Table:
    """Prompts of a bucket that have room for a text and no answer yet, each digest once, sorted by digest."""
    assert job.phase is not None
    rows = job.inputs.scattered(job.phase - 1, number).sort_by([("digest", "ascending"), ("entity", "ascending")])
    room = job.cfg.extraction.max_prompt_tokens - job.cfg.extraction.max_answer_tokens
    known = answer_cache(job.inputs, job.cfg).lookup(rows.column("digest").unique().to_pylist())
    fresh = each_once(rows, known)
    return fresh.filter(pc.less_equal(fresh.column("tokens"), room))


def _count_missing(batch: pa.Table, side: str, job: Job, groups: int) -> pa.Table:
    """How many prompts of a bucket are missing; they themselves go to their groups."""
    missing = 0
    for number in batch.column("number").to_pylist():
        rows = _missing(side, job, number)
        prefixes.scatter(rows, job.inputs, number, groups)
        missing += rows.num_rows
    return pa.table({"missing": [missing]})


def _render(batch: pa.Table, side: str, job: Job) -> Iterator[pa.Table]:
    """The missing prompts of a group as token ids; those that turn out too long become rows at once."""
    renderer = Renderer(side, job.inputs, job.cfg)
    engine = renderer.counted_by
    assert isinstance(engine, VllmEngine)
    yield _SENT.empty_table()
    for number in batch.column("number").to_pylist():
        rows, too_long = prefixes.gather(job.inputs, number), []
        if rows is None:
            continue
        sent: list[dict[str, Any]] = []
        for request in renderer.requests(rows, _AT_ONCE):
            ids = engine.tokens.ids(request.prompt)
            if len(ids) > renderer.room:
                reason = f"{len(ids)} tokens as rendered, there is room for {renderer.room}"
                too_long.append(unasked_row(request.digest, TOO_LONG, reason, len(ids), label(engine)))
                continue
            prompt = np.array(ids, np.int32).tobytes()
            sent.append({"digest": request.digest, "prompt": prompt, "max_tokens": request.max_tokens})
            if len(sent) == _AT_ONCE:
                yield _rows(sent)
                sent = []
        if too_long:
            failed_answers(job.inputs).append(pa.Table.from_pylist(too_long, schema=ANSWER))
        yield _rows(sent)


def _rows(sent: list[dict[str, Any]]) -> pa.Table:
    return pa.table({_ROW: pa.array(sent, _SENT.field(_ROW).type)})


def _keep(batch: pa.Table, job: Job, engine: str) -> pa.Table:
    """Judge a block of replies and keep them: answers in the shared cache, failed rows beside the stage's work."""
    factors = load_factors(job.cfg.extraction.domain) if job.cfg.extraction.output == "json" else ()
    rows, fed = [], Fed()
    for row in batch.column(_ROW).to_pylist() if _ROW in batch.column_names else ():  # an empty block has no column
        reply = _reply(row, factors)
        rows.append(answer_row(row["digest"], reply, engine, row["seconds"], row["attempts"]))
        fed.tokens_in += reply.tokens_in
        fed.tokens_out += reply.tokens_out
        fed.cached += row["tokens_cached"]
    table = pa.Table.from_pylist(rows, schema=ANSWER)
    failed = pc.equal(table.column("status"), FAILED)
    answer_cache(job.inputs, job.cfg).append(table.filter(pc.invert(failed)))
    failed_answers(job.inputs).append(table.filter(failed))
    fed.rows = len(rows)
    return pa.table({name: [count] for name, count in vars(fed).items()})


def _reply(row: dict[str, Any], factors: tuple[Factor, ...]) -> Reply:
    """`factors`: where answers are JSON."""
    reply = Reply(row["text"], row["tokens_in"], row["tokens_out"], row["finished"], row["error"])
    return as_lines(reply, factors) if factors else reply
