"""From replies to rows: what became of each prompt, as a status with a reason."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from trawl.errors import TooManyFailures
from trawl.extraction.engines import Reply
from trawl.schemas import CONTRACTS, GROUNDING

OK, TRUNCATED, EMPTY, REPETITIVE = "ok", "truncated", "empty", "repetitive"
REFUSED, TOO_LONG, FAILED, NO_TEXT = "refused", "too_long", "failed", "no_text"
ENGINE_DEATH = "engine_death"  # the reason of a failed row that took its engine down begins so
SKIPPED = "skipped"  # not asked, as the recipe wants it
UNGROUNDED = "ungrounded"

# A row of the cache: what was paid for, without whose it is and without what is derived from it.
ANSWER = pa.schema([f for f in CONTRACTS["item_answers"].schema if f.name not in {"entity", *GROUNDING}])
_REFUSAL = re.compile(
    r"^\W*(?:i['’]?m sorry|i am sorry|i can(?:no|['’])t|i am unable|i['’]m unable|as an ai\b)", re.IGNORECASE
)
_LOOP_WORDS, _LOOP_SHARE = 40, 0.5


def judge(reply: Reply) -> tuple[str, str | None]:
    """(status, reason) of a reply."""
    if reply.error:
        return reply.status, reply.error
    if not reply.text.strip():
        return EMPTY, "the engine answered nothing"
    if reply.verbatim:
        return OK, None
    if _REFUSAL.match(reply.text):
        return REFUSED, f"refusal: {' '.join(reply.text.split())[:80]}"
    if repeats(reply.text):
        return REPETITIVE, "the same words over and over"
    return (OK, None) if reply.finished else (TRUNCATED, "stopped at the token limit")


def repeats(text: str) -> bool:
    """A text of some length in which one run of four words makes up half of all."""
    words = text.lower().split()
    if len(words) < _LOOP_WORDS:
        return False
    runs = Counter(zip(words, words[1:], words[2:], words[3:], strict=False))
    return 4 * max(runs.values()) > _LOOP_SHARE * len(words)


def answer_row(digest: str, reply: Reply, engine: str, seconds: float, attempts: int) -> dict[str, Any]:
    """One row in the schema ANSWER; text only with the statuses that carry it."""
    status, reason = judge(reply)
    return {
        "status": status,
        "reason": reason,
        "text": reply.text if status in (OK, TRUNCATED) else None,
        "tokens_in": reply.tokens_in,
        "tokens_out": reply.tokens_out,
        "attempts": attempts,
        "seconds": seconds,
        "engine": engine,
        "digest": digest,
    }


def unasked_row(digest: str, status: str, reason: str, tokens: int, engine: str) -> dict[str, Any]:
    """A prompt that was not sent."""
    return answer_row(digest, Reply("", tokens_in=tokens), engine, 0.0, 0) | {"status": status, "reason": reason}


def no_text_rows(count: int) -> pa.Table:
    """Rows of entities that have no prompt."""
    row = {"status": NO_TEXT, "tokens_in": 0, "tokens_out": 0, "attempts": 0, "seconds": 0.0, "engine": ""}
    return pa.table({f.name: pa.repeat(pa.scalar(row.get(f.name), f.type), count) for f in ANSWER}, schema=ANSWER)


def check_failures(
    artifact: str,
    counts: Mapping[str, int],
    failures: Sequence[str],
    limit: float,
    reasons: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Raises TooManyFailures when the failing share of the prompts is above the limit.

    Skipped ones were not asked: they count among the prompts only where they count as failures.
    `reasons`: count, status, reason, entity and digest of an example, the commonest first.
    """
    prompts = sum(n for status, n in counts.items() if status != NO_TEXT and (status != SKIPPED or status in failures))
    failed = {status: n for status, n in counts.items() if status in failures and n}
    if prompts and sum(failed.values()) > limit * prompts:
        common = ", ".join(f"{status} {n}" for status, n in sorted(failed.items(), key=lambda c: (-c[1], c[0])))
        raise TooManyFailures(
            f"{artifact}: {sum(failed.values())} of {prompts} prompts failed ({common}), the limit is {limit:.1%}; "
            f"{_commonest(reasons)}nothing was published; mend the cause or raise extraction.failure_limit"
        )


def _commonest(reasons: Sequence[Mapping[str, Any]]) -> str:
    """The three commonest reasons, each with an example."""
    told = [
        f"{r['count']} x {r['status']}: {' '.join((r['reason'] or 'no reason').split())[:200]} "
        f"(as entity {r['entity']}, prompt {r['digest']})"
        for r in reasons[:3]
    ]
    return f"the commonest reasons: {'; '.join(told)}; " if told else ""
