"""The stages item_texts, item_prompts, user_prompts; those that ask are in stage_answers.

Prompts depend on the texts and not on what is done with the answers: the sources raw, extracted and shuffled share
them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trawl.config import Config
from trawl.extraction import families, refreshing
from trawl.extraction.catalogue import People
from trawl.extraction.engines import Settings, keys_of, label, make_engine, models_of
from trawl.extraction.framing import Framer
from trawl.extraction.key_factors import domain_keys, domain_sources, load_factors
from trawl.extraction.plans import Clip, Planner, budget_keys
from trawl.extraction.prompts import Frame, prompt_digest
from trawl.extraction.recent import last_before_cutoff
from trawl.extraction.sources import given_texts, page_texts, text_rows
from trawl.extraction.stage_answers import ITEM_ANSWERS, USER_ANSWERS
from trawl.inputs import Inputs
from trawl.schemas import CONTRACTS
from trawl.stage import Stage, Task, Worker, numbered, per_part

Profile = Mapping[str, Sequence[str]]
_PROMPT_KEYS = ("extraction.max_prompt_tokens", "extraction.max_answer_tokens")


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

    def __init__(self, side: str, inputs: Inputs, cfg: Config) -> None:
        self.inputs, self.cfg = inputs, cfg.extraction
        self.factors = load_factors(self.cfg.domain)
        self.engine = make_engine(self.cfg.engine, Settings(self.factors, self.cfg, cfg.http))
        self.label = label(self.engine)
        self.planner = Planner(self.cfg, self.engine)
        self.framer = Framer(side, inputs, cfg, self.engine)
        self.catalogue = self.framer.catalogue

    def rows(
        self, about: tuple[int, int], items: Sequence[int], ratings: Sequence[float] | None, profile: Profile
    ) -> Iterator[dict[str, Any]]:
        """The rows of an entity (index, cut-off) in the prompts table: digests and clip plan, no text.

        One, but for chunks; none where there is nothing to say.
        """
        cited = self.framer.cited(items)

        def chosen(places: Sequence[int]) -> tuple[list[int], list[float] | None]:
            at = places if cited else range(len(items))  # without texts there is nothing to divide
            return [items[n] for n in at], None if ratings is None else [ratings[n] for n in at]

        def frame_of(places: Sequence[int]) -> Frame:
            mine, marks = chosen(places)
            return self.framer.frame(mine, marks or (), profile)

        def read(place: int) -> str:
            return self.catalogue.texts([cited[place]], self.catalogue.digests([cited[place]]))[0]

        if self.framer.says_something(frame_of(range(len(items))), items):
            there = self.catalogue.tokens[cited].tolist()
            for clip, frame, tokens in self.planner.plan(there, read, frame_of):
                mine, marks = chosen(clip.places)
                own = {"entity": about[0], "cutoff": about[1], "tokens": tokens, "items": mine, "ratings": marks}
                yield {**own, **self._row(clip, frame, self.framer.cited(mine))}

    def _row(self, clip: Clip, frame: Frame, cited: list[int]) -> dict[str, Any]:
        digests = self.catalogue.digests(cited)
        return {
            "step": 0,
            "chunk": clip.chunk,
            "digest": prompt_digest(frame, digests, clip.digested, self.label, self.cfg.max_answer_tokens),
            "template": frame.template,
            "text_digests": digests,
            "plan": clip.plan,
            "kept": clip.kept,
            "ranges": clip.ranges,
            "there": clip.there,
            "cut": clip.there - sum(clip.kept),
            "texts_cut": clip.texts_cut,
            "chunks": clip.chunks,
        }


class ItemPrompter(_Prompter):
    """item_prompts: one row per item of which there is anything to say."""

    def __init__(self, inputs: Inputs, cfg: Config) -> None:
        super().__init__("item", inputs, cfg)

    def __call__(self, task: Task) -> pa.Table:
        items = self.inputs.part(self.framer.side.texts or "items", task.number, ["item"]).column("item").to_pylist()
        return _prompts("item_prompts", (row for item in items for row in self.rows((item, 0), [item], None, {})))


class UserPrompter(_Prompter):
    """user_prompts: one row per user of whom, before the cut-off, there is anything to say."""

    def __init__(self, inputs: Inputs, cfg: Config) -> None:
        super().__init__("user", inputs, cfg)

    def __call__(self, task: Task) -> pa.Table:
        return self.at(task, self.inputs.part("cutoffs", task.number, ["user", "cutoff"]))

    def at(self, task: Task, cutoffs: pa.Table) -> pa.Table:
        """The prompts of a part's users at these cut-offs (user, cutoff), one for each of its users."""
        return _prompts("user_prompts", self._rows(task.number, cutoffs))

    def _rows(self, number: int, cutoffs: pa.Table) -> Iterator[dict[str, Any]]:
        owners, cuts = (cutoffs.column(name).to_numpy() for name in ("user", "cutoff"))
        items, ratings, where = self._last(number, owners, cuts)
        people = People(self.inputs.part("users", number, ["user", "fields"]))
        for user, cutoff in zip(owners.tolist(), cuts.tolist(), strict=True):
            mine = where.get(user, slice(0, 0))
            cited, thought = items[mine].tolist(), ratings[mine].tolist() if ratings is not None else None
            yield from self.rows((user, cutoff), cited, thought, people.profile(user))

    def _last(self, number: int, owners: Any, cuts: Any) -> tuple[Any, Any, dict[int, slice]]:
        """Of the part's users the last items before the cut-off, oldest first; their ratings, or 1 where liked and 0
        where not, if the family states them; and where each user's stand.
        """
        stated = {"liked": "label", "ratings": "rating"}[self.cfg.history] if self.framer.side.rated else None
        log = self.inputs.part("log", number, ["user", "position", "item", *([stated] if stated else [])])
        user, position, item = (log.column(name).to_numpy() for name in ("user", "position", "item"))
        rows = np.arange(log.num_rows)
        users, start, kept = last_before_cutoff(user, position, rows, owners, cuts, self.cfg.user_items)
        where = {u: slice(start[n], start[n + 1]) for n, u in enumerate(users.tolist())}
        ratings = log.column(stated).to_numpy().astype(np.float32)[kept] if stated else None
        return item[kept], ratings, where


def _user_prompter(inputs: Inputs, cfg: Config) -> Worker:
    prompter = UserPrompter(inputs, cfg)
    return refreshing.Refreshed(prompter.at, inputs, cfg) if refreshing.active(cfg) else prompter


def _prompts(name: str, rows: Iterable[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=CONTRACTS[name].schema)


def _text_inputs(cfg: Config) -> tuple[str, ...]:
    return ("items",) if cfg.extraction.base == "given" else ("items", "knowledge")


def _given(cfg: Config) -> dict[str, str]:
    return {"given": cfg.extraction.given} if cfg.extraction.base == "given" else {}


def _text_keys(cfg: Config) -> tuple[str, ...]:
    return keys_of(cfg.extraction)  # they count the tokens


def _prompt_keys(side: str, cfg: Config) -> tuple[str, ...]:
    own = (*domain_keys(cfg.extraction.domain), *families.keys(side, cfg))
    most = ("extraction.user_items", *refreshing.keys(cfg)) if side == "user" else ()
    return (*keys_of(cfg.extraction), *own, *_PROMPT_KEYS, *budget_keys(cfg.extraction), *most)


def _prompt_reads(side: str, cfg: Config) -> tuple[str, ...]:
    behaviour = ("log", "cutoffs") if side == "user" else ()
    return (*families.reads(side, cfg), *behaviour)


def _item_parts(inputs: Inputs, cfg: Config) -> list[Task]:
    return numbered(len(inputs.parts(families.side_of("item", cfg).texts or "items")))


def _models(cfg: Config) -> dict[str, str]:
    return models_of(cfg.extraction)


def _user_models(cfg: Config) -> dict[str, str]:
    return models_of(cfg.extraction) | refreshing.models(cfg)


def _factors(cfg: Config) -> dict[str, str]:
    return domain_sources(cfg.extraction.domain)


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
        reads=partial(_prompt_reads, "item"),
        keys=partial(_prompt_keys, "item"),
        models=_models,
        sources=_factors,
        plan=_item_parts,
        worker=ItemPrompter,
    ),
    ITEM_ANSWERS,
    Stage(
        artifact="user_prompts",
        version=2,
        reads=partial(_prompt_reads, "user"),
        keys=partial(_prompt_keys, "user"),
        models=_user_models,
        sources=_factors,
        plan=per_part("log"),
        worker=_user_prompter,
        notes=refreshing.notes,
    ),
    USER_ANSWERS,
)
