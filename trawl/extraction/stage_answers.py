"""The stages item_answers and user_answers: every prompt ends as one row, every entity has one.

Phase 0 sends prompt rows to buckets by digest, so that equal prompts meet. Phase 1 looks each digest up in the cache,
asks the engine for the rest and sends the answers to the part of their entity. The last pass adds who had no prompt.
The prompts of vllm are answered between the phases (`feeding`): phase 1 then finds all of them in the cache.
For `shuffled`, phase 0 exchanges the entities of the prompts; the prompts, and so the cache, stay the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trawl.checks import mix
from trawl.config import Config
from trawl.extraction.answers import ANSWER, TOO_LONG, check_failures, no_text_rows, unasked_row
from trawl.extraction.asking import ask
from trawl.extraction.cache import AnswerCache
from trawl.extraction.engines import CopyEngine, Engine, keys_of, label, models_of
from trawl.extraction.feeding import answer_missing
from trawl.extraction.grounded import Grounding, grounding_keys, plain
from trawl.extraction.key_factors import path_of
from trawl.extraction.rendering import Renderer, copies, each_once, failed_answers
from trawl.inputs import Inputs
from trawl.schemas import INDEX
from trawl.stage import Phase, Stage, Task, per_part
from trawl.store import Part

# owner: the entity that the prompt is about; entity: the one that gets the answer.
_SENT = ["entity", "digest", "items", "text_digests", "kept", "tokens"]
_HEX = 4  # digits of a digest that choose the bucket


def shuffled(entities: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """A permutation of the entities by hash: the n-th one's text goes to the n-th of the result."""
    keys = mix(entities.astype(np.uint64) ^ mix(np.array([seed]))[0])
    goal: npt.NDArray[np.int64] = entities[np.lexsort((entities, keys))]
    return goal


class Router:
    """Phase 0: prompt rows by digest; for shuffled, with the entity that will get the answer."""

    def __init__(self, side: str, inputs: Inputs, cfg: Config) -> None:
        self.inputs, self.prompts = inputs, f"{side}_prompts"
        self.all: npt.NDArray[np.int64] | None = None
        if cfg.extraction.source == "shuffled":
            self.all = np.asarray(inputs.array(self.prompts, "entity"))
            self.goal = shuffled(self.all, cfg.extraction.shuffle_seed)

    def __call__(self, task: Task) -> Iterator[tuple[int, pa.Table]]:
        rows = self.inputs.part(self.prompts, task.number, _SENT)
        rows = rows.append_column("owner", rows.column("entity"))
        if self.all is not None:
            order = np.argsort(self.all)
            here = np.searchsorted(self.all[order], rows.column("entity").to_numpy())
            rows = rows.set_column(0, "entity", pa.array(self.goal[order[here]], INDEX))
        yield 0, rows.slice(0, 0)
        if rows.num_rows:
            digests = pc.utf8_slice_codeunits(rows.column("digest"), 0, _HEX).to_pylist()
            bucket = np.array([int(d, 16) for d in digests]) * buckets(self.prompts, self.inputs) >> 4 * _HEX
            for number in np.unique(bucket):
                yield int(number), rows.filter(pa.array(bucket == number))


class Asker:
    """Phase 1: one row per prompt of the bucket, from the cache or the engine, to the part of its entity."""

    def __init__(self, side: str, inputs: Inputs, cfg: Config) -> None:
        self.inputs = inputs
        self.renderer = Renderer(side, inputs, cfg)
        self.engine: Engine = CopyEngine() if copies(side, cfg) else self.renderer.counted_by
        self.cache = None if copies(side, cfg) else AnswerCache(inputs.store)
        self.batch_rows = cfg.resources.batch_rows
        grounds = cfg.extraction.grounding and not copies(side, cfg)
        self.judged = Grounding(self.renderer, cfg.extraction, self.batch_rows) if grounds else None
        self.lasts = np.array([part.last for part in inputs.parts(f"{side}s")])

    def __call__(self, task: Task) -> Iterator[tuple[int, pa.Table]]:
        rows = self.inputs.scattered(0, task.number).sort_by([("digest", "ascending"), ("entity", "ascending")])
        digests = rows.column("digest")
        known = self._known(digests.unique().to_pylist())
        answers = pa.concat_tables([known, *self._asked(rows, known)])
        answers = self.judged(rows, answers) if self.judged else plain(answers)
        yield 0, _with_entity(pa.array([], INDEX), plain(ANSWER.empty_table()))
        if rows.num_rows:
            where = pc.index_in(digests, value_set=answers.column("digest"))
            whole = _with_entity(rows.column("entity"), answers.take(where))
            part = self._part_of(rows.column("entity").to_numpy())
            for number in np.unique(part):
                yield int(number), whole.filter(pa.array(part == number))

    def _known(self, digests: list[str]) -> pa.Table:
        """What the cache holds, or what failed when the prompts were asked before this phase."""
        if self.cache is None:
            return ANSWER.empty_table()
        return pa.concat_tables([self.cache.lookup(digests), failed_answers(self.inputs).lookup(digests)])

    def _asked(self, rows: pa.Table, known: pa.Table) -> Iterator[pa.Table]:
        """Answers to the prompts that are not known, each digest once."""
        fresh, room = each_once(rows, known), self.renderer.room
        over = pc.greater(fresh.column("tokens"), room)
        for row in fresh.filter(over).to_pylist():
            reason = f"{row['tokens']} tokens without any text, there is room for {room}"
            yield pa.Table.from_pylist(
                [unasked_row(row["digest"], TOO_LONG, reason, row["tokens"], label(self.engine))], schema=ANSWER
            )
        requests = self.renderer.requests(fresh.filter(pc.invert(over)), self.batch_rows)
        yield from ask(self.engine, requests, self.cache, self.batch_rows)

    def _part_of(self, entities: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The part that holds an index; parts are contiguous, empty ones have last = 0."""
        filled = np.flatnonzero(self.lasts)
        found: npt.NDArray[np.int64] = filled[np.searchsorted(self.lasts[filled], entities)]
        return found


def _with_entity(entities: Any, answers: pa.Table) -> pa.Table:
    return answers.add_column(0, pa.field("entity", INDEX), entities)


class Gatherer:
    """The last pass: each entity of the part with its answer, or with no_text."""

    def __init__(self, side: str, inputs: Inputs, cfg: Config) -> None:
        self.inputs, self.side = inputs, side

    def __call__(self, task: Task) -> pa.Table:
        entities = self.inputs.part(f"{self.side}s", task.number, [self.side]).column(0).combine_chunks()
        answers = self.inputs.scattered(1, task.number)
        silent = entities.filter(pc.invert(pc.is_in(entities, value_set=answers.column("entity"))))
        return pa.concat_tables([answers, _with_entity(silent, plain(no_text_rows(len(silent))))])


def buckets(prompts: str, inputs: Inputs) -> int:
    """Buckets of the exchange by digest."""
    return max(1, len(inputs.parts(prompts)))


@dataclass(frozen=True)
class _ByDigest:
    side: str

    def __call__(self, inputs: Inputs, cfg: Config) -> int:
        return buckets(f"{self.side}_prompts", inputs)


@dataclass(frozen=True)
class _ByEntity:
    side: str

    def __call__(self, inputs: Inputs, cfg: Config) -> int:
        return len(inputs.parts(f"{self.side}s"))


@dataclass(frozen=True)
class _Check:
    """Raises TooManyFailures before anything is published."""

    side: str

    def __call__(self, parts: Sequence[Part], cfg: Config) -> None:
        counts: dict[str, int] = {}
        for part in parts:
            for status, count in part.statuses.items():
                counts[status] = counts.get(status, 0) + count
        check_failures(f"{self.side}_answers", counts, cfg.extraction.failures, cfg.extraction.failure_limit)


def _keys(side: str, cfg: Config) -> tuple[str, ...]:
    shuffle = ("shuffle_of", "shuffle_seed") if cfg.extraction.source == "shuffled" else ()
    always = ("source", "domain", "max_prompt_tokens", "max_answer_tokens")
    judged = () if copies(side, cfg) else grounding_keys(cfg.extraction)
    return (*keys_of(cfg.extraction), *(f"extraction.{key}" for key in (*always, *shuffle, *judged)))


def _models(cfg: Config) -> dict[str, str]:
    return models_of(cfg.extraction)


def _factors(cfg: Config) -> dict[str, str]:
    return {"factors": str(path_of(cfg.extraction.domain))}


def _reads(side: str, cfg: Config) -> tuple[str, ...]:
    people = ("users",) if side == "user" else ()
    return (*people, "items", "item_texts", f"{side}_prompts")


def _stage(side: str) -> Stage:
    return Stage(
        artifact=f"{side}_answers",
        version=1,
        reads=partial(_reads, side),
        keys=partial(_keys, side),
        models=_models,
        sources=_factors,
        plan=per_part(f"{side}_prompts"),
        phases=(
            Phase(worker=partial(Router, side), buckets=_ByDigest(side)),
            Phase(worker=partial(Asker, side), buckets=_ByEntity(side), before=partial(answer_missing, side)),
        ),
        worker=partial(Gatherer, side),
        covers=f"{side}s",
        check=_Check(side),
        heavy=True,
    )


ITEM_ANSWERS, USER_ANSWERS = _stage("item"), _stage("user")
