"""From rows of prompts to prompts as text: rendered beside the engine and nowhere stored."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trawl.config import Config
from trawl.extraction.answer_forms import in_form
from trawl.extraction.cache import AnswerCache, asker
from trawl.extraction.catalogue import People
from trawl.extraction.engines import Engine, Request, Settings, make_engine
from trawl.extraction.families import ITEM_ANSWERS
from trawl.extraction.framing import Framer
from trawl.extraction.key_factors import load_factors
from trawl.extraction.plans import REDUCE, Planner, clipped_texts, noted
from trawl.extraction.prompts import Frame
from trawl.extraction.reducing import reduce_frame
from trawl.inputs import Inputs

__all__ = ["Renderer", "copies", "each_once", "failed_answers"]


def copies(side: str, cfg: Config) -> bool:
    """Whether the answers of this side are the texts themselves, so that nobody is asked."""
    source = cfg.extraction.base
    return source == "raw" or (source == "given" and side == "item")


def failed_answers(inputs: Inputs) -> AnswerCache:
    """Failed rows of this run's prompts: kept until the stage ends, so that another run asks them again."""
    return AnswerCache(inputs.store, (*inputs.work, "failed"), origin=asker(inputs))


class Renderer:
    """Renders the prompts of one side. Titles, texts and profiles are memory-mapped once per node."""

    def __init__(self, side: str, inputs: Inputs, cfg: Config) -> None:
        self.cfg = cfg.extraction
        self.factors = load_factors(self.cfg.domain)
        self.counted_by: Engine = make_engine(self.cfg.engine, Settings(self.factors, self.cfg, cfg.http))
        self.planner = Planner(self.cfg, self.counted_by)
        self.room = self.planner.room
        self.framer = Framer(side, inputs, cfg, self.counted_by)
        self.catalogue = self.framer.catalogue
        self.people = People(inputs.mapped("users", ["user", "fields"])) if side == "user" else None

    def requests(self, rows: pa.Table, at_once: int) -> Iterator[Request]:
        """The prompts of these rows; `at_once` rows are held as plain data."""
        for batch in rows.to_batches(max_chunksize=at_once):
            for row in batch.to_pylist():
                yield self._request(row)

    def reduce_frame(self, owner: int, notes: int) -> Frame:
        """The words around the answers to an entity's chunks."""
        title = self.catalogue.titles([owner])[0] if self.people is None else None
        return in_form(reduce_frame(title, notes, self.factors, self.framer.domain.words), self.factors, self.cfg)

    def _request(self, row: Mapping[str, Any]) -> Request:
        if row["plan"] == REDUCE:
            return self._reduce(row)
        items, digests = self.framer.cited(row["items"]), row["text_digests"]
        there = self.catalogue.tokens[items].tolist()
        clip = (row["plan"], row["kept"], row["ranges"])
        texts = clipped_texts(self.catalogue.texts(items, digests), clip, there, self.counted_by.spans)
        profile = self.people.profile(row["owner"]) if self.people else {}
        frame = noted(self.framer.frame(row["items"], row["ratings"] or (), profile), row["chunk"] + 1, row["chunks"])
        return Request(
            row["digest"],
            frame.render(texts),
            texts if any(texts) else frame.facts,
            tuple(digests),
            self.cfg.max_answer_tokens,
            extracted=self.framer.side.texts == ITEM_ANSWERS and any(texts),
            facts=(*frame.labels, *frame.facts, *(f"{name}: {', '.join(values)}" for name, values in profile.items())),
        )

    def _reduce(self, row: Mapping[str, Any]) -> Request:
        """The prompt that merges answers, which come with the row."""
        clip, digests = (REDUCE, row["kept"], ()), tuple(row["text_digests"])
        texts = clipped_texts(row["texts"], clip, row["text_tokens"], self.counted_by.spans)
        prompt = self.reduce_frame(row["owner"], len(texts)).render(texts)
        return Request(row["digest"], prompt, texts, digests, self.cfg.max_answer_tokens, merges=True)


def each_once(rows: pa.Table, known: pa.Table) -> pa.Table:
    """The rows whose digest is not known, each digest once."""
    codes = rows.column("digest").combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    first = rows.take(pa.array(np.unique(codes, return_index=True)[1]))
    return first.filter(pc.invert(pc.is_in(first.column("digest"), value_set=known.column("digest"))))
