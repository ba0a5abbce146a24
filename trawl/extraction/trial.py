"""The configured engine on a few prompts, its answers handed back and kept nowhere: for plans and the doctor.

What runs is what a run would use: an engine of this library in a worker, vLLM through Ray Data with all its arguments,
one engine of it. Only the marks of dying engines are written, to a folder that is removed at the end.
"""

import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from trawl.config import Config
from trawl.connection import address, connect
from trawl.errors import EngineDied, TrawlError
from trawl.extraction import feeding
from trawl.extraction.answers import ANSWER, TOO_LONG, answer_row, unasked_row
from trawl.extraction.asking import ask
from trawl.extraction.engines import Engine, Reply, Request, Settings, VllmEngine, label, make_engine
from trawl.extraction.key_factors import load_factors
from trawl.extraction.prompts import item_frame
from trawl.extraction.rendering import Renderer
from trawl.inputs import Inputs
from trawl.stage import Executor, Job, Stage
from trawl.store import Store

_BEGAN = "began"  # a file beside the marks: when the engine took its first prompt
_TITLE = "The Lantern (1990)"
_TEXT = "The Lantern is a 1990 comedy film directed by Ada Writer. It tells of a lighthouse keeper."


@dataclass(frozen=True)
class Trial:
    """What became of a few prompts."""

    answers: pa.Table  # schema ANSWER, in no order
    start_seconds: float  # until the engine took its first prompt
    seconds: float  # from then to its last answer
    on_gpu: bool


def try_prompts(side: str, rows: pa.Table, inputs: Inputs, cfg: Config, executor: Executor) -> Trial:
    """Ask one engine these rows of prompts (contract of `<side>_prompts`, and `owner`: whom each is about).

    Raises ConfigError when the engine finds no place, EngineDied when it ends without answering.
    """
    if cfg.extraction.engine != "vllm":
        trial: Trial = executor.call(_ask_rows, side, rows, inputs, cfg)
        return trial
    sent, unsent = executor.call(_as_sent, side, rows, inputs, cfg)
    return _through_ray_data(sent, unsent, inputs.store, cfg)


def try_one(cfg: Config, store: Store, executor: Executor) -> Trial:
    """Ask one engine a made-up item prompt. Raises as `try_prompts` does."""
    if cfg.extraction.engine != "vllm":
        trial: Trial = executor.call(_ask_made_up, cfg)
        return trial
    sent = executor.call(_made_up_as_sent, cfg)
    return _through_ray_data(sent, ANSWER.empty_table(), store, cfg)


def _made_up(cfg: Config) -> Request:
    frame = item_frame(_TITLE, load_factors(cfg.extraction.domain))
    return Request("trial", frame.render([_TEXT]), (_TEXT,), ("trial",), cfg.extraction.max_answer_tokens)


def _ask_made_up(cfg: Config) -> Trial:
    started = time.monotonic()
    engine = make_engine(cfg.extraction.engine, Settings(load_factors(cfg.extraction.domain), cfg.extraction))
    return _ask(engine, [_made_up(cfg)], cfg, started)


def _made_up_as_sent(cfg: Config) -> pa.Table:
    return _sent_table(VllmEngine(cfg.extraction), [_made_up(cfg)])


def _ask_rows(side: str, rows: pa.Table, inputs: Inputs, cfg: Config) -> Trial:
    """In a worker: an engine of this library."""
    started = time.monotonic()
    renderer = Renderer(side, inputs, cfg)
    return _ask(renderer.counted_by, list(renderer.requests(rows, cfg.resources.batch_rows)), cfg, started)


def _ask(engine: Engine, requests: Sequence[Request], cfg: Config, started: float) -> Trial:
    began = time.monotonic()
    answers = pa.concat_tables([ANSWER.empty_table(), *ask(engine, requests, None, cfg.resources.batch_rows)])
    return Trial(answers, began - started, time.monotonic() - began, on_gpu=False)


def _as_sent(side: str, rows: pa.Table, inputs: Inputs, cfg: Config) -> tuple[pa.Table, pa.Table]:
    """In a worker: the prompts as token ids, and answers of those that have no room."""
    renderer = Renderer(side, inputs, cfg)
    engine = renderer.counted_by
    assert isinstance(engine, VllmEngine)
    fits, unsent = [], []
    for request in renderer.requests(rows, cfg.resources.batch_rows):
        count = engine.whole(request.prompt)
        if count <= renderer.room:
            fits.append(request)
        else:
            unsent.append(unasked_row(request.digest, TOO_LONG, "no room for it", count, label(engine)))
    return _sent_table(engine, fits), pa.Table.from_pylist(unsent, schema=ANSWER)


def _sent_table(engine: VllmEngine, requests: Sequence[Request]) -> pa.Table:
    rows = [
        {"digest": r.digest, "tokenized_prompt": engine.tokens.ids(r.prompt), "max_tokens": r.max_tokens}
        for r in requests
    ]
    return pa.Table.from_pylist(rows, schema=feeding._SENT)


def _through_ray_data(sent: pa.Table, unsent: pa.Table, store: Store, cfg: Config) -> Trial:
    """One vLLM engine, as `feeding` builds it, on these prompts."""
    connect(cfg)
    import ray

    if not sent.num_rows:
        return Trial(unsent, 0.0, 0.0, on_gpu=False)
    with tempfile.TemporaryDirectory(prefix="trawl-trial-") as folder:
        # The engine's node must see the marks: on a cluster elsewhere they go to the store.
        place = store if address(cfg) else Store(str(Path(folder)))
        home = ("trials", uuid.uuid4().hex)
        started = time.time()
        try:
            processor = _timed_processor(Job(_NO_STAGE, None, Inputs(place, {}, {}, (*home, "_work")), cfg, ""))
            prompts = ray.data.from_arrow(sent).repartition(target_num_rows_per_block=cfg.resources.engine_rows)
            rows = [row for row in processor(prompts).take_all() if "digest" in row]
            began = float(place.find_text(*home, _BEGAN) or started)
        except ray.exceptions.RayError as error:
            raise _told(error) from None
        finally:
            place.remove(*home)
        on_gpu = bool(ray.cluster_resources().get("GPU"))
    ended = max((row["seconds"] for row in rows), default=began)
    answers = pa.concat_tables([_judged(rows, cfg), unsent])
    return Trial(answers, max(0.0, began - started), max(0.0, ended - began), on_gpu)


_NO_STAGE = Stage(artifact="trial", version=1, plan=lambda inputs, cfg: [])


def _timed_processor(job: Job) -> Any:
    """The processor of a run, whose rows say when they were answered instead of how long they took."""
    processor = feeding._processor(job, 1)
    (name,) = processor.list_stage_names()
    stage = processor.get_stage_by_name(name)
    processor.stages[name] = type(stage).model_construct(
        fn=_timed(stage.fn),
        fn_constructor_kwargs=stage.fn_constructor_kwargs,
        map_batches_kwargs=stage.map_batches_kwargs,
    )
    return processor


def _timed(base: type) -> type:
    """A worker class of `watched` with the time in `seconds`; its first batch leaves the file `began`."""

    class Timed(base):  # type: ignore[misc]
        async def udf(self, batch: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
            if not self.marks.store.exists(*self.marks.home[:-1], _BEGAN):
                self.marks.store.write_text(str(time.time()), *self.marks.home[:-1], _BEGAN)
            async for out in super().udf(batch):
                yield out | {"seconds": time.time()}

    return Timed


def _judged(rows: Sequence[dict[str, Any]], cfg: Config) -> pa.Table:
    engine, ends = label(make_engine("vllm", Settings((), cfg.extraction))), feeding._ends(cfg)
    out = []
    for row in rows:
        finished = row["tokens_out"] < row["max_tokens"] or row["last"] in ends
        reply = Reply(row["text"], row["tokens_in"], row["tokens_out"], finished, row["error"])
        out.append(answer_row(row["digest"], reply, engine, 0.0, row["attempts"]))
    return pa.Table.from_pylist(out, schema=ANSWER)


def _told(error: BaseException) -> TrawlError:
    """What Ray wraps: our own error, or the last line of another's."""
    found: BaseException | None = error
    while found is not None:
        cause = getattr(found, "cause", None) or found.__cause__
        if isinstance(cause, TrawlError):
            return type(cause)(str(cause))
        found = cause
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return EngineDied(f"vllm: the engine gave no answer: {lines[-1] if lines else type(error).__name__}")
