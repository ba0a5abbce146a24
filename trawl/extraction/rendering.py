"""From rows of prompts to prompts as text: rendered beside the engine and nowhere stored."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trawl.config import Config
from trawl.extraction.cache import AnswerCache
from trawl.extraction.catalogue import Catalogue, People
from trawl.extraction.engines import Engine, Request, Settings, make_engine
from trawl.extraction.key_factors import load_factors
from trawl.extraction.prompts import clipped, item_frame, user_frame
from trawl.inputs import Inputs


def base_source(cfg: Config) -> str:
    """The knowledge source, of shuffled texts the one that was shuffled."""
    return cfg.extraction.shuffle_of if cfg.extraction.source == "shuffled" else cfg.extraction.source


def copies(side: str, cfg: Config) -> bool:
    """Whether the answers of this side are the texts themselves, so that nobody is asked."""
    source = base_source(cfg)
    return source == "raw" or (source == "given" and side == "item")


def failed_answers(inputs: Inputs) -> AnswerCache:
    """Failed rows of this run's prompts: kept until the stage ends, so that another run asks them again."""
    return AnswerCache(inputs.store, (*inputs.work, "failed"))


class Renderer:
    """Renders the prompts of one side. Titles, texts and profiles are memory-mapped once per node."""

    def __init__(self, side: str, inputs: Inputs, cfg: Config) -> None:
        self.cfg = cfg.extraction
        self.factors = load_factors(self.cfg.domain)
        self.counted_by: Engine = make_engine(self.cfg.engine, Settings(self.factors, self.cfg))
        self.room = self.cfg.max_prompt_tokens - self.cfg.max_answer_tokens
        columns = ["item", "text", "digest", "tokens"]
        self.catalogue = Catalogue(inputs.mapped("items", ["item", "title"]), inputs.mapped("item_texts", columns))
        self.people = People(inputs.mapped("users", ["user", "fields"])) if side == "user" else None

    def requests(self, rows: pa.Table, at_once: int) -> Iterator[Request]:
        """The prompts of these rows; `at_once` rows are held as plain data."""
        for batch in rows.to_batches(max_chunksize=at_once):
            for row in batch.to_pylist():
                yield self._request(row)

    def _request(self, row: Mapping[str, Any]) -> Request:
        items, digests = row["items"], row["text_digests"]
        there = self.catalogue.tokens[items].tolist()
        texts = clipped(self.catalogue.texts(items, digests), row["kept"], there, self.counted_by.spans)
        titles = self.catalogue.titles(items)
        profile = self.people.profile(row["owner"]) if self.people else {}
        if self.people is None:
            frame = item_frame(titles[0], self.factors)
        else:
            frame = user_frame(titles, profile, self.factors)
        facts = (*frame.labels, *(f"{name}: {', '.join(values)}" for name, values in profile.items()))
        return Request(row["digest"], frame.render(texts), texts, tuple(digests), self.cfg.max_answer_tokens, facts)


def each_once(rows: pa.Table, known: pa.Table) -> pa.Table:
    """The rows whose digest is not known, each digest once."""
    codes = rows.column("digest").combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    first = rows.take(pa.array(np.unique(codes, return_index=True)[1]))
    return first.filter(pc.invert(pc.is_in(first.column("digest"), value_set=known.column("digest"))))
