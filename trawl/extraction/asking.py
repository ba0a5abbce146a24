"""Asking an engine what is not in the cache yet: each batch is kept at once, a row that fails does so alone."""

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from trawl.errors import EngineDied, TrawlError
from trawl.extraction.answers import ANSWER, FAILED, answer_row
from trawl.extraction.cache import AnswerCache
from trawl.extraction.engines import Engine, Reply, Request, label


def ask(engine: Engine, requests: Iterable[Request], cache: AnswerCache | None, batch_rows: int) -> Iterator[pa.Table]:
    """Answers (schema ANSWER) to all requests, a table per batch. A crash loses the batch that was being answered.

    Failed rows are not kept in the cache, so that another run asks them again. Raises EngineDied.
    """
    waiting = iter(requests)
    while batch := list(islice(waiting, batch_rows)):
        rows = pa.Table.from_pylist(_answers(engine, batch), schema=ANSWER)
        if cache is not None:
            cache.append(rows.filter(pc.not_equal(rows.column("status"), FAILED)))
        yield rows


def _answers(engine: Engine, batch: Sequence[Request]) -> list[dict[str, object]]:
    started = time.monotonic()
    replies, attempts = _replies(engine, batch)
    seconds = (time.monotonic() - started) / len(batch)
    return [
        answer_row(request.digest, reply, label(engine), seconds, attempts)
        for request, reply in zip(batch, replies, strict=True)
    ]


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
