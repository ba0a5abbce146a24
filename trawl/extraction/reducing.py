"""The prompt that merges the answers to the chunks of one entity, and the rows in which such a prompt travels.

The answers are what a model wrote about outside text, so they are outside text themselves: they stand between the same
delimiters. The prompt's digest holds theirs, so that another answer to a chunk is another prompt.
"""

from collections.abc import Sequence

import pyarrow as pa

from trawl.extraction.key_factors import Factor
from trawl.extraction.prompts import Frame, line
from trawl.extraction.words import ENGLISH, Words, fill
from trawl.schemas import INDEX, TEXT

TEMPLATE = "reduce-1"
_TITLE = 300  # most characters of a title
# Where an answer belongs. owner: the entity that the prompt is about; entity: the one that gets the answer.
PLACE = pa.schema(
    [
        ("entity", INDEX),
        ("owner", INDEX),
        ("step", pa.int32()),  # 0: read from the texts; n: merged by round n
        ("chunk", pa.int32()),
        ("chunks", pa.int32()),  # prompts of this entity in this step
        ("covers", pa.int32()),  # chunks that went into it
        ("lost", pa.int64()),  # tokens of the answers merged that were left out
        ("cutoff", INDEX),  # users: what the prompt saw ends before it
    ]
)
# A prompt that merges: what the engine's side needs to render it.
MERGE = pa.schema(
    [
        *PLACE,
        ("digest", pa.string()),
        ("plan", pa.string()),
        ("tokens", pa.int64()),
        ("kept", pa.list_(pa.int32())),
        ("text_tokens", pa.list_(pa.int32())),
        ("text_digests", pa.list_(pa.string())),
        ("texts", pa.list_(TEXT)),
    ]
)


def first_step(prompts: pa.Table) -> pa.Table:
    """Rows of a prompts table, each about its own entity and not merged of anything: with all columns of PLACE."""
    for name, values in (
        ("owner", prompts.column("entity")),
        ("covers", pa.repeat(pa.scalar(1, PLACE.field("covers").type), prompts.num_rows)),
        ("lost", pa.repeat(pa.scalar(0, PLACE.field("lost").type), prompts.num_rows)),
    ):
        prompts = prompts.append_column(name, values)
    return prompts


def reduce_frame(title: str | None, notes: int, factors: Sequence[Factor], words: Words = ENGLISH) -> Frame:
    """The words around the answers that are merged. title: of the item that they are about; None: about a user."""
    head = fill(
        words.reduce,
        notes=str(notes),
        about=words.reduce_item if title is not None else words.reduce_user,
        factors="\n".join(f"- {factor.name}: {factor.question}" for factor in factors),
    )
    named = (fill(words.note, number=str(n), of=str(notes)) for n in range(1, notes + 1))
    labels = tuple(line(f"{name} {title or ''}", _TITLE) for name in named)
    return Frame(TEMPLATE, head, labels, words.reduce_answer, words, ask=words.reduce_answer)
