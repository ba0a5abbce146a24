"""The stages item_texts, item_prompts, user_prompts; those that ask are in stage_answers.

Prompts depend on the texts and not on what is done with the answers: the sources raw, extracted and shuffled share
them.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trawl.config import Config
from trawl.extraction.budget import clip_plan
from trawl.extraction.catalogue import Catalogue, People
from trawl.extraction.engines import Settings, keys_of, label, make_engine, models_of
from trawl.extraction.key_factors import load_factors, path_of
from trawl.extraction.prompts import Frame, item_frame, prompt_digest, user_frame
from trawl.extraction.recent import last_before_cutoff
from trawl.extraction.rendering import base_source
from trawl.extraction.sources import given_texts, page_texts, text_rows
from trawl.extraction.stage_answers import ITEM_ANSWERS, USER_ANSWERS
from trawl.inputs import Inputs
from trawl.schemas import CONTRACTS
from trawl.stage import Stage, Task, always, per_part

_PROMPT_KEYS = ("extraction.domain", "extraction.max_prompt_tokens", "extraction.max_answer_tokens")


class TextWorker:
    """item_texts: one row per item, from linked pages or from the given file."""

    def __init__(self, inputs: Inputs, cfg: Config) -> None:
        self.inputs = inputs
        self.engine = make_engine(cfg.extraction.engine, Settings((), cfg.extraction, cfg.http))
        self.given: pa.Table | None = None
        if not inputs.has("knowledge"):
            ids = inputs.table("items", ["item_id"]).column("item_id").combine_chunks()
            self.given = given_texts(inputs.sources["given"], ids)

    def __call__(self, task: Task) -> pa.Table:
        items = self.inputs.part("items", task.number, ["item", "item_id"])
        index = items.column("item").combine_chunks()
        if self.given is None:
            texts = page_texts(index, self.inputs.part("knowledge", task.number, ["item", "rank", "text"]))
        else:
            where = pc.index_in(items.column("item_id").combine_chunks(), value_set=self.given.column("item_id"))
            texts = self.given.column("text").take(where).to_pylist()
        return text_rows(index, texts, self.engine.count)


class _Prompter:
    """What item and user prompts share: factors, engine, the room for texts, the row."""

    def __init__(self, inputs: Inputs, cfg: Config) -> None:
        self.inputs, self.cfg = inputs, cfg.extraction
        self.factors = load_factors(self.cfg.domain)
        self.engine = make_engine(self.cfg.engine, Settings(self.factors, self.cfg, cfg.http))
        self.label = label(self.engine)
        columns = ["item", "text", "digest", "tokens"]
        self.catalogue = Catalogue(inputs.mapped("items", ["item", "title"]), inputs.mapped("item_texts", columns))

    def row(self, entity: int, frame: Frame, items: Sequence[int], cutoff: int) -> dict[str, Any]:
        """A row of the prompts table: digests and clip plan, no text."""
        there = self.catalogue.tokens[list(items)]
        around = self.engine.whole(frame.render([""] * len(items)))
        room = self.cfg.max_prompt_tokens - self.cfg.max_answer_tokens - around
        kept = clip_plan(there.tolist(), room)
        digests = self.catalogue.digests(items)
        return {
            "entity": entity,
            "step": 0,
            "chunk": 0,
            "digest": prompt_digest(frame, digests, kept, self.label, self.cfg.max_answer_tokens),
            "template": frame.template,
            "items": list(items),
            "text_digests": digests,
            "kept": kept,
            "cut": int(there.sum()) - sum(kept),
            "tokens": around + sum(kept),
            "cutoff": cutoff,
        }


class ItemPrompter(_Prompter):
    """item_prompts: one row per item that has a text."""

    def __call__(self, task: Task) -> pa.Table:
        items = self.inputs.part("item_texts", task.number, ["item", "digest"])
        with_text = items.filter(pc.is_valid(items.column("digest"))).column("item").to_pylist()
        titles = self.catalogue.titles(with_text)
        rows = (
            self.row(item, item_frame(title, self.factors), [item], 0)
            for item, title in zip(with_text, titles, strict=True)
        )
        return _prompts("item_prompts", rows)


class UserPrompter(_Prompter):
    """user_prompts: one row per user of whose last k items before the cut-off at least one has a text."""

    def __call__(self, task: Task) -> pa.Table:
        log = self.inputs.part("log", task.number, ["user", "position", "item"])
        cutoffs = self.inputs.part("cutoffs", task.number, ["user", "cutoff"])
        owners, cuts = (cutoffs.column(name).to_numpy() for name in ("user", "cutoff"))
        user, position, item = (log.column(name).to_numpy() for name in ("user", "position", "item"))
        users, start, items = last_before_cutoff(user, position, item, owners, cuts, self.cfg.user_items)
        has_text = np.add.reduceat(self.catalogue.tokens[items] > 0, start[:-1]) > 0 if len(users) else users > 0
        people = People(self.inputs.part("users", task.number, ["user", "fields"]))
        chosen = np.flatnonzero(has_text)
        cut_of = dict(zip(owners.tolist(), cuts.tolist(), strict=True))

        def rows() -> Iterable[dict[str, Any]]:
            for n in chosen:
                mine = items[start[n] : start[n + 1]].tolist()
                frame = user_frame(self.catalogue.titles(mine), people.profile(int(users[n])), self.factors)
                yield self.row(int(users[n]), frame, mine, cut_of[int(users[n])])

        return _prompts("user_prompts", rows())


def _prompts(name: str, rows: Iterable[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=CONTRACTS[name].schema)


def _text_inputs(cfg: Config) -> tuple[str, ...]:
    return ("items",) if base_source(cfg) == "given" else ("items", "knowledge")


def _given(cfg: Config) -> dict[str, str]:
    return {"given": cfg.extraction.given} if base_source(cfg) == "given" else {}


def _text_keys(cfg: Config) -> tuple[str, ...]:
    return keys_of(cfg.extraction)  # they count the tokens


def _item_prompt_keys(cfg: Config) -> tuple[str, ...]:
    return (*keys_of(cfg.extraction), *_PROMPT_KEYS)


def _user_prompt_keys(cfg: Config) -> tuple[str, ...]:
    return (*_item_prompt_keys(cfg), "extraction.user_items")


def _models(cfg: Config) -> dict[str, str]:
    return models_of(cfg.extraction)


def _factors(cfg: Config) -> dict[str, str]:
    return {"factors": str(path_of(cfg.extraction.domain))}


STAGES = (
    Stage(
        artifact="item_texts",
        version=1,
        reads=_text_inputs,
        keys=_text_keys,
        models=_models,
        sources=_given,
        plan=per_part("items"),
        worker=TextWorker,
        covers="items",
    ),
    Stage(
        artifact="item_prompts",
        version=1,
        reads=always("items", "item_texts"),
        keys=_item_prompt_keys,
        models=_models,
        sources=_factors,
        plan=per_part("item_texts"),
        worker=ItemPrompter,
    ),
    ITEM_ANSWERS,
    Stage(
        artifact="user_prompts",
        version=1,
        reads=always("users", "items", "item_texts", "log", "cutoffs"),
        keys=_user_prompt_keys,
        models=_models,
        sources=_factors,
        plan=per_part("log"),
        worker=UserPrompter,
    ),
    USER_ANSWERS,
)
