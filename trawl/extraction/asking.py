"""Asking an engine what is not in the cache yet: each batch is kept at once, a row that fails does so alone.

A batch in which a worker died twice is asked row by row. A row with which a worker died alone is a failed row from then
on (`engine_death`), and the others go on.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from trawl.errors import EngineDied, TrawlError
from trawl.extraction.answers import ANSWER, ENGINE_DEATH, FAILED, answer_row
from trawl.extraction.cache import AnswerCache
from trawl.extraction.deaths import DEATHS, Deaths
from trawl.extraction.engines import Engine, Reply, Request, Unfinished, label


def ask(
    engine: Engine,
    requests: Iterable[Request],
    cache: AnswerCache | None,
    batch_rows: int,
    deaths: Deaths | None = None,
) -> Iterator[pa.Table]:
    """Answers (schema ANSWER) to all requests, a table per batch. A crash loses the batch that was being answered.

    Failed rows are not kept in the cache, so that another run asks them again. Raises EngineDied, and what an engine
    stops with in the middle of a batch, once the answers that it has are kept.
    """
    dead = deaths.alone() if deaths else set[str]()
    culprits: list[Request] = []

    def alive() -> Iterator[Request]:
        for request in requests:
            if request.digest in dead:
                culprits.append(request)
            else:
                yield request

    waiting = alive()
    while batch := list(islice(waiting, batch_rows)):
        for answered in _batch(engine, batch, deaths):
            yield from _kept(answered, cache)
        if deaths:
            deaths.end(batch)
    if culprits:
        error = f"{ENGINE_DEATH}: the engine died with only this prompt in it"
        yield _table(engine, culprits, [Reply("", error=error)] * len(culprits), 0.0, DEATHS + 1)


@dataclass(frozen=True)
class _Answered:
    """The rows of a batch, and what the engine stopped with in the middle of it."""

    rows: pa.Table
    error: Exception | None = None
    cause: Exception | None = None


def _kept(answered: _Answered, cache: AnswerCache | None) -> Iterator[pa.Table]:
    """The rows, once the good ones are in the cache; then what the engine stopped with."""
    if cache is not None:
        cache.append(answered.rows.filter(pc.not_equal(answered.rows.column("status"), FAILED)))
    if answered.error is not None:
        raise answered.error from answered.cause
    yield answered.rows


def _batch(engine: Engine, batch: Sequence[Request], deaths: Deaths | None) -> Iterator[_Answered]:
    """The answers of a batch as one table, or as one of each row when workers died in it."""
    died = deaths.begin(batch) if deaths else 0
    if not deaths or died < DEATHS:
        yield _answers(engine, batch, died)
        return
    for request in batch:
        deaths.begin_row(request)
        yield _answers(engine, [request], died)
        deaths.end_row(request)


def _answers(engine: Engine, batch: Sequence[Request], died: int) -> _Answered:
    started = time.monotonic()
    try:
        replies, attempts = _replies(engine, batch)
    except Unfinished as cut:
        share = (time.monotonic() - started) / len(batch)
        return _Answered(_table(engine, batch, cut.replies, share, 1 + died), cut.error, cut)
    return _Answered(_table(engine, batch, replies, (time.monotonic() - started) / len(batch), attempts + died))


def _table(
    engine: Engine, batch: Sequence[Request], replies: Sequence[Reply | None], seconds: float, attempts: int
) -> pa.Table:
    """Rows of the requests that have a reply. `seconds`: of each, where the engine does not say."""
    rows = [
        answer_row(
            request.digest,
            reply,
            label(engine),
            seconds if reply.seconds is None else reply.seconds,
            attempts + reply.attempts - 1,
        )
        for request, reply in zip(batch, replies, strict=True)
        if reply is not None
    ]
    return pa.Table.from_pylist(rows, schema=ANSWER)


def _replies(engine: Engine, batch: Sequence[Request]) -> tuple[list[Reply], int]:
    """Replies and how often each was sent. A batch that fails is sent row by row; the culprit becomes failed."""
    try:
        replies = engine.answer(batch)
    except TrawlError:  # the engine is gone, or asked wrongly: no row is to blame
        raise
    except Exception as error:
        if len(batch) == 1:
            return [Reply("", error=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")], 1
        return [_replies(engine, [request])[0][0] for request in batch], 2
    if len(replies) != len(batch):
        raise EngineDied(
            f"engine {engine.name}: {len(replies)} replies to {len(batch)} prompts; see its log, run again"
        )
    return replies, 1
