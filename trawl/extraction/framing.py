"""Frames and texts of one side's prompts: the same where prompts are planned and where they are rendered.

Titles, fields and texts are memory-mapped once per node. What was extracted of items (`item_answers`) is mapped as
cleaned texts with digests and token counts, like `item_texts`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from trawl.config import Config
from trawl.extraction.answer_forms import in_form
from trawl.extraction.catalogue import Catalogue
from trawl.extraction.engines import Engine, label
from trawl.extraction.families import ITEM_ANSWERS, Subject, side_of
from trawl.extraction.key_factors import load_domain
from trawl.extraction.prompts import Frame
from trawl.extraction.shuffling import shuffled
from trawl.extraction.sources import text_rows
from trawl.extraction.words import fill
from trawl.inputs import Inputs, node_file
from trawl.store import digest_json

_TEXTS = ["item", "text", "digest", "tokens"]
_FORM = 1  # of the file of extracted knowledge; raise it when its rows change
_WITH_TEXT = ("ok", "truncated")


class Framer:
    """Makes the frames of one side and hands out the texts that go into them."""

    def __init__(self, side: str, inputs: Inputs, cfg: Config, engine: Engine) -> None:
        """`engine` counts the texts' tokens."""
        self.cfg, self.side = cfg.extraction, side_of(side, cfg)
        self.domain = load_domain(self.cfg.domain)
        columns = ["item", "title", *(("year", "fields") if self.side.described else ())]
        self.catalogue = Catalogue(inputs.mapped("items", columns), _texts(self.side.texts, inputs, cfg, engine))

    def frame(self, items: Sequence[int], ratings: Sequence[float], profile: Mapping[str, Sequence[str]]) -> Frame:
        """The frame around the texts of these items; of an item's own prompt they are that item alone."""
        described = self.side.described
        subject = Subject(
            titles=self.catalogue.titles(items),
            years=self.catalogue.years(items) if described else (),
            fields=self.catalogue.fields(items) if described else (),
            marks=[self._mark(rating) for rating in ratings] if self.side.rated else (),
            profile=profile,
        )
        return in_form(self.side.frame(self.domain, subject), self.domain.factors, self.cfg)

    def cited(self, items: Sequence[int]) -> list[int]:
        """The items whose texts go into the prompt: all, or none where the family has none."""
        return list(items) if self.side.texts else []

    def says_something(self, frame: Frame, items: Sequence[int]) -> bool:
        """Whether there is anything to ask about: a text, or what the frame itself tells."""
        return bool(frame.facts) or bool((self.catalogue.tokens[self.cited(items)] > 0).any())

    def _mark(self, rating: float) -> str:
        words = self.domain.words
        if self.cfg.history == "liked":
            return words.liked if rating > 0 else words.disliked
        return fill(words.rated, rating=f"{rating:.4g}")


def _texts(table: str, inputs: Inputs, cfg: Config, engine: Engine) -> pa.Table | None:
    if not table:
        return None
    return _knowledge(inputs, cfg, engine) if table == ITEM_ANSWERS else inputs.mapped(table, _TEXTS)


def _knowledge(inputs: Inputs, cfg: Config, engine: Engine) -> pa.Table:
    """What was extracted of each item, as rows of item_texts; from a file that is built once per node."""
    owner = _owners(inputs, cfg)

    def build(path: Path) -> None:
        sink: Any = None
        for part in inputs.each(ITEM_ANSWERS, ["entity", "status", "text"]):
            pairs = zip(part.column("status").to_pylist(), part.column("text").to_pylist(), strict=True)
            texts = [text if status in _WITH_TEXT else None for status, text in pairs]
            entities = part.column("entity").to_numpy()
            items = pa.array(owner[entities] if owner is not None else entities, pa.int64())
            rows = text_rows(items, texts, engine.count)
            sink = sink or pa.ipc.new_file(str(path), rows.schema)
            sink.write_table(rows)
        sink.close()

    # By content: a model may word an answer otherwise in another store, under the same fingerprint.
    content = [part.digest for part in inputs.parts(ITEM_ANSWERS)]
    key = digest_json(["knowledge", _FORM, inputs.fingerprints[ITEM_ANSWERS], content, label(engine)])
    return pa.ipc.open_file(pa.memory_map(str(node_file(key, ".arrow", build)))).read_all()


def _owners(inputs: Inputs, cfg: Config) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    """Whose text each item has got, by item index; None when each has its own.

    User prompts are about the items' own knowledge in the null control too: its users' answers are exchanged after.
    """
    if cfg.extraction.source != "shuffled":
        return None
    mine = np.unique(inputs.array("item_prompts", "entity"))
    owner = np.arange(inputs.count("items") + 1)
    owner[shuffled(mine, cfg.extraction.shuffle_seed)] = mine
    return owner
