"""Grounding as columns of the answers: mentions, grounded, unsupported; and the status `ungrounded` below a threshold.

It is done where a prompt's row and its answer meet, so that answers from the cache are looked at too, and the cache
holds what was paid for and nothing that can be derived from it.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from trawl.extraction.answers import OK, TRUNCATED, UNGROUNDED
from trawl.extraction.grounding import Grounded, Grounder
from trawl.extraction.key_factors import Factor
from trawl.extraction.rendering import Renderer
from trawl.extraction.wording import Wording, fold
from trawl.schemas import GROUNDING
from trawl.sections import Extraction

_NAMED = 3  # unsupported mentions in the reason of a row


def grounding_keys(cfg: Extraction) -> tuple[str, ...]:
    """Keys of the section that change the columns of grounding."""
    return ("grounding", "grounding_threshold") if cfg.grounding and cfg.grounding_threshold else ("grounding",)


def wording_of(factors: Sequence[Factor]) -> Wording:
    """What the key factors say of how answers are worded: their names as labels, their listed values as no names."""
    phrases = [phrase for f in factors for phrase in (f.name, *f.values, *f.after, *f.before)]
    ordinary = frozenset(word for phrase in phrases for word in fold(phrase))
    return Wording({fold(factor.name): factor.kind for factor in factors}, ordinary)


def plain(answers: pa.Table) -> pa.Table:
    """The answers with the columns of grounding, not judged: sources that copy, rows without text."""
    return _with(answers, [None] * answers.num_rows)


class Grounding:
    """Judges the answers of one side against what their prompts showed."""

    def __init__(self, renderer: Renderer, cfg: Extraction, batch_rows: int) -> None:
        self.renderer, self.threshold, self.batch_rows = renderer, cfg.grounding_threshold, batch_rows
        self.grounder = Grounder(wording_of(renderer.factors))

    def __call__(self, rows: pa.Table, answers: pa.Table) -> pa.Table:
        """`answers` (one per digest) with the columns of grounding; `rows`: the prompts, any number per digest.

        A prompt that showed no text at all is not judged: what the model knows by itself has no source here.
        """
        place = pc.index_in(answers.column("digest"), value_set=rows.column("digest"))
        found: list[Grounded | None] = []
        for at in range(0, answers.num_rows, self.batch_rows):
            piece = answers.slice(at, self.batch_rows)
            with_text = pc.is_in(piece.column("status"), pa.array([OK, TRUNCATED]))
            prompts = rows.take(place.slice(at, self.batch_rows).filter(with_text))
            texts = dict(zip(*(piece.column(c).filter(with_text).to_pylist() for c in ("digest", "text")), strict=True))
            judged = {
                request.digest: self.grounder.ground(texts[request.digest], (*request.texts, *request.facts))
                for request in self.renderer.requests(prompts, self.batch_rows)
                if any(request.texts)
            }
            found += [judged.get(digest) for digest in piece.column("digest").to_pylist()]
        return self._marked(_with(answers, found), found)

    def _marked(self, answers: pa.Table, found: Sequence[Grounded | None]) -> pa.Table:
        """Rows below the threshold lose their text and say why."""
        reasons = [self._reason(one) if one else None for one in found]
        if not any(reasons):
            return answers
        mask = pa.array([reason is not None for reason in reasons])
        for name, value in (
            ("status", pa.scalar(UNGROUNDED)),
            ("reason", pa.array(reasons, pa.string())),
            ("text", None),
        ):
            place = answers.column_names.index(name)
            field = answers.schema.field(name)
            new = pa.scalar(None, field.type) if value is None else value
            answers = answers.set_column(place, field, pc.if_else(mask, new, answers.column(name)))
        return answers

    def _reason(self, one: Grounded) -> str | None:
        """What is wrong with an answer; None when its share is high enough, or when it names nothing."""
        if one.share is None or one.share >= self.threshold:
            return None
        named = ", ".join(text[:60] for text in one.unsupported[:_NAMED])
        more = len(one.unsupported) - _NAMED
        return f"grounded {one.share:.2f}, below {self.threshold:g}: {named}{f' and {more} more' if more > 0 else ''}"


def _with(answers: pa.Table, found: Sequence[Grounded | None]) -> pa.Table:
    columns = (
        [one and one.mentions for one in found],
        [one and one.share for one in found],
        [list(one.unsupported) if one else None for one in found],
    )
    for (name, kind), values in zip(GROUNDING.items(), columns, strict=True):
        answers = answers.append_column(pa.field(name, kind), pa.array(values, kind))
    return answers
