"""Answers to chunks become one answer: the prompts that merge them, and the one row that an entity ends as.

    phase 1          answers to every chunk, and to every entity that is one prompt
    phases 2, 4, 6   the prompts that merge, by digest: an entity's answers, or groups of them where they are long
    phases 3, 5, 7   their answers, to the part of their entity

The answers of a round's groups are merged by the next round. The last one makes one prompt of what is left, whose
answers lose their middle where they are still too long; that is told in the row.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trawl.extraction.answers import (
    ANSWER,
    EMPTY,
    FAILED,
    OK,
    REFUSED,
    REPETITIVE,
    SKIPPED,
    TOO_LONG,
    TRUNCATED,
    UNGROUNDED,
)
from trawl.extraction.budget import clip_plan
from trawl.extraction.engines import label
from trawl.extraction.plans import REDUCE
from trawl.extraction.prompts import Frame, prompt_digest
from trawl.extraction.rendering import Renderer
from trawl.schemas import GROUNDING
from trawl.store import digest_bytes

ROUNDS = 3
_KEPT = ("entity", "cutoff", *ANSWER.names, *GROUNDING)
_WORST = (FAILED, TOO_LONG, REPETITIVE, REFUSED, SKIPPED, EMPTY, UNGROUNDED, TRUNCATED, OK)


def merges(renderer: Renderer, answers: pa.Table, last: bool) -> Iterator[dict[str, Any]]:
    """Prompts (MERGE) for the entities of which several answers with text are left. answers: PLACE and ANSWER."""
    for _, rows in _by_entity(answers.filter(pc.greater(answers.column("chunks"), 1))):
        told = [row for row in rows if row["text"]]
        if len(told) > 1:
            runs = _runs(renderer, told, last)
            for number, run in enumerate(runs):
                yield _merge(renderer, run) | {"chunk": number, "chunks": len(runs)}


def _runs(renderer: Renderer, told: Sequence[dict[str, Any]], last: bool) -> list[list[dict[str, Any]]]:
    """The answers in as few runs as fit, of at least two each; in the last round one."""
    for row in told:
        row["tokens"] = renderer.counted_by.count(row["text"])
    most = 1 if last else max(1, len(told) // 2)
    runs = [list(told)]
    for count in range(1, most + 1):
        runs = [[told[n] for n in run] for run in np.array_split(np.arange(len(told)), count)]
        if all(sum(row["tokens"] for row in run) <= _room(renderer, run)[0] for run in runs):
            break
    return runs


def _room(renderer: Renderer, run: Sequence[Mapping[str, Any]]) -> tuple[int, Frame, int]:
    """Tokens that the answers may have, the words around them, and what those have."""
    frame = renderer.reduce_frame(run[0]["owner"], len(run))
    around = renderer.planner.around(frame)
    return renderer.room - around, frame, around


def _merge(renderer: Renderer, run: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    room, frame, around = _room(renderer, run)
    there, mark = [row["tokens"] for row in run], renderer.planner.mark
    kept = clip_plan(there, room, mark)
    digests = [digest_bytes(row["text"].encode("utf-8", "replace")) for row in run]
    engine = label(renderer.counted_by)
    marks = mark * sum(0 < k < t for k, t in zip(kept, there, strict=True))
    return {
        "entity": run[0]["entity"],
        "owner": run[0]["owner"],
        "cutoff": run[0]["cutoff"],
        "step": run[0]["step"] + 1,
        "covers": sum(row["covers"] for row in run),
        "lost": sum(there) - sum(kept) + sum(row["lost"] for row in run),
        "digest": prompt_digest(frame, digests, kept, engine, renderer.cfg.max_answer_tokens),
        "plan": REDUCE,
        "tokens": around + sum(kept) + marks,
        "kept": kept,
        "text_tokens": there,
        "text_digests": digests,
        "texts": [row["text"] for row in run],
    }


def gathered(rounds: Sequence[pa.Table], copied: bool) -> pa.Table:
    """One row (entity, cutoff, ANSWER, grounding) per entity of all its answers.

    rounds: PLACE, ANSWER and grounding, the texts' first.

    copied: the answers are the texts themselves and stand one behind another.
    """
    first = rounds[0]
    single = first.filter(pc.equal(first.column("chunks"), 1)).select(_KEPT)
    several = pa.concat_tables([first.filter(pc.greater(first.column("chunks"), 1)), *rounds[1:]])
    merged = [_one(rows, copied) for _, rows in _by_entity(several)]
    return pa.concat_tables([single, pa.Table.from_pylist(merged, schema=single.schema)])


def _by_entity(answers: pa.Table) -> Iterable[tuple[int, list[dict[str, Any]]]]:
    rows = answers.sort_by([(name, "ascending") for name in ("entity", "step", "chunk")]).to_pylist()
    for entity, group in groupby(rows, key=lambda row: int(row["entity"])):
        yield entity, list(group)


def _one(rows: Sequence[dict[str, Any]], copied: bool) -> dict[str, Any]:
    """The last step's answer with the tokens, attempts and seconds of all; a reason where something is missing."""
    top = [row for row in rows if row["step"] == rows[-1]["step"]]
    told = [row for row in top if row["text"]]
    sums = {name: sum(row[name] for row in rows) for name in ("tokens_in", "tokens_out", "attempts", "seconds")}
    # A round whose other groups failed leaves one answer with text: it is the merged one.
    base = told[0] if told else min(top, key=lambda row: _WORST.index(row["status"]))
    text = "\n\n".join(row["text"] for row in told) if copied and told else base["text"]
    covers = sum(row["covers"] for row in told) if copied else base["covers"] if told else 0
    status, reason = base["status"], _reason(rows, base, covers, told=bool(told))
    return (
        {name: base[name] for name in _KEPT}
        | sums
        | {
            "status": status,
            "reason": reason,
            "text": text,
        }
    )


def _reason(rows: Sequence[Mapping[str, Any]], base: Mapping[str, Any], covers: int, *, told: bool) -> str | None:
    """How many of the chunks are missing and why, what a merge left out, and the row's own reason."""
    chunks = int(rows[0]["chunks"])
    odd = [row["status"] for row in rows if row["status"] != OK and row is not base]
    causes = ", ".join(f"{status} {odd.count(status)}" for status in _WORST if status in odd)
    parts = [base["reason"] or ""] if base["reason"] else []
    if covers < chunks or causes:
        merged = f"merged from {covers} of {chunks} chunks" if told else f"none of {chunks} chunks is in an answer"
        parts.append(f"{merged} ({causes})" if causes else merged)
    if base["lost"]:
        parts.append(f"{base['lost']} tokens of the chunks' answers were left out")
    return "; ".join(parts) or None
