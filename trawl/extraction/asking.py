"""Asking an engine what is not in the cache yet: each batch is kept at once, a row that fails does so alone."""

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from trawl.errors import EngineDied, TrawlError
from trawl.extraction.answers import ANSWER, FAILED, answer_row
from trawl.extraction.cache import AnswerCache
from trawl.extraction.engines import Engine, Reply, Request, Unfinished, label


def ask(engine: Engine, requests: Iterable[Request], cache: AnswerCache | None, batch_rows: int) -> Iterator[pa.Table]:
    """Answers (schema ANSWER) to all requests, a table per batch. A crash loses the batch that was being answered.

    Failed rows are not kept in the cache, so that another run asks them again. Raises EngineDied, and what an engine
    stops with in the middle of a batch, once the answers that it has are kept.
    """
    waiting = iter(requests)
    while batch := list(islice(waiting, batch_rows)):
        started = time.monotonic()
        try:
            replies, attempts = _replies(engine, batch)
        except Unfinished as cut:
            _kept(engine, batch, cut.replies, started, 1, cache)
            raise cut.error from cut
        yield _kept(engine, batch, replies, started, attempts, cache)


def _kept(
    engine: Engine,
    batch: Sequence[Request],
    replies: Sequence[Reply | None],
    started: float,
    attempts: int,
    cache: AnswerCache | None,
) -> pa.Table:
    """The rows of those that were answered, the good ones put into the cache."""
    share = (time.monotonic() - started) / len(batch)
    rows = pa.Table.from_pylist(
        [
            answer_row(
                request.digest,
                reply,
                label(engine),
                share if reply.seconds is None else reply.seconds,
                attempts + reply.attempts - 1,
            )
            for request, reply in zip(batch, replies, strict=True)
            if reply is not None
        ],
        schema=ANSWER,
    )
    if cache is not None:
        cache.append(rows.filter(pc.not_equal(rows.column("status"), FAILED)))
    return rows


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
