"""The stages item_answers and user_answers: every prompt ends as one row, every entity has one.

Phase 0 sends prompt rows to buckets by digest, so that equal prompts meet. Phase 1 looks each digest up in the cache,
asks the engine for the rest and sends the answers to the part of their entity. The last pass adds who had no prompt.
The prompts of vllm are answered between the phases (`feeding`): phase 1 then finds all of them in the cache.
Where texts are read in chunks, rounds follow that merge their answers (`gathering`), two phases each.
For `shuffled`, phase 0 exchanges the entities of the prompts; the prompts, and so the cache, stay the same.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trawl.config import Config
from trawl.errors import InputError
from trawl.extraction import families, tally
from trawl.extraction.answers import (
    NO_TEXT,
    check_failures,
    no_text_rows,
)
from trawl.extraction.asker import Asker
from trawl.extraction.engines import keys_of, models_of
from trawl.extraction.engines.http import refuse_user_text
from trawl.extraction.feeding import answer_missing
from trawl.extraction.gathering import ROUNDS, gathered, merges
from trawl.extraction.grounded import grounding_keys, plain
from trawl.extraction.key_factors import domain_keys, domain_sources
from trawl.extraction.plans import CHUNKS, budget_keys
from trawl.extraction.reducing import MERGE, first_step
from trawl.extraction.rendering import Renderer, copies
from trawl.extraction.shuffling import shuffled
from trawl.inputs import Inputs
from trawl.schemas import INDEX
from trawl.stage import Phase, Stage, Task, per_part
from trawl.store import Part

_SENT = ["entity", "step", "chunk", "chunks", "digest", "plan", "items", "text_digests", "kept", "ranges", "tokens"]
_SENT += ["ratings", "cutoff"]
_HEX = 4  # digits of a digest that choose the bucket


class Router:
    """Phase 0: prompt rows by digest; for shuffled, with the entity that will get the answer."""

    def __init__(self, side: str, inputs: Inputs, cfg: Config) -> None:
        self.inputs, self.prompts = inputs, f"{side}_prompts"
        self.all: npt.NDArray[np.int64] | None = None
        if cfg.extraction.source == "shuffled":
            self.all = np.unique(inputs.array(self.prompts, "entity"))  # an entity's chunks stay together
            self.goal = shuffled(self.all, cfg.extraction.shuffle_seed)

    def __call__(self, task: Task) -> Iterator[tuple[int, pa.Table]]:
        rows = first_step(self.inputs.part(self.prompts, task.number, _SENT))
        if self.all is not None:
            here = np.searchsorted(self.all, rows.column("entity").to_numpy())
            rows = rows.set_column(0, "entity", pa.array(self.goal[here], INDEX))
        yield from _by_digest(rows, buckets(self.prompts, self.inputs))


def _by_digest(rows: pa.Table, count: int) -> Iterator[tuple[int, pa.Table]]:
    """Prompts to the bucket of their digest, an empty table first."""
    yield 0, rows.slice(0, 0)
    if rows.num_rows:
        digests = pc.utf8_slice_codeunits(rows.column("digest"), 0, _HEX).to_pylist()
        bucket = np.array([int(d, 16) for d in digests]) * count >> 4 * _HEX
        for number in np.unique(bucket):
            yield int(number), rows.filter(pa.array(bucket == number))


class Merger:
    """The first phase of a round: prompts that merge the answers to an entity's chunks, by digest."""

    def __init__(self, side: str, inputs: Inputs, cfg: Config, answered: int, last: bool) -> None:
        """answered: the phase that sent the answers here."""
        self.inputs, self.prompts, self.answered, self.last = inputs, f"{side}_prompts", answered, last
        self.renderer = Renderer(side, inputs, cfg)

    def __call__(self, task: Task) -> Iterator[tuple[int, pa.Table]]:
        rows = merges(self.renderer, self.inputs.scattered(self.answered, task.number), self.last)
        yield from _by_digest(pa.Table.from_pylist(list(rows), schema=MERGE), buckets(self.prompts, self.inputs))


class Gatherer:
    """The last pass: each entity of the part with its answer, or with no_text."""

    def __init__(self, side: str, inputs: Inputs, cfg: Config) -> None:
        self.inputs, self.side, self.copied = inputs, side, copies(side, cfg)
        self.failures = cfg.extraction.failures
        merged = range(3, 2 + len(_rounds(side, cfg)), 2)
        self.answered = [1, *(phase for phase in merged if _has_rows(phase, inputs))]

    def __call__(self, task: Task) -> pa.Table:
        entities = self.inputs.part(f"{self.side}s", task.number, [self.side]).column(0).combine_chunks()
        answers = gathered([self.inputs.scattered(phase, task.number) for phase in self.answered], self.copied)
        silent = entities.filter(pc.invert(pc.is_in(entities, value_set=answers.column("entity"))))
        tally.keep_reasons(self.inputs, task.name, answers, self.failures)
        nobody = plain(no_text_rows(len(silent))).add_column(0, answers.field(0), silent)
        nobody = nobody.append_column(answers.field("cutoff"), pa.nulls(len(silent), INDEX))
        whole = pa.concat_tables([answers, nobody.select(answers.column_names)])
        return whole.drop_columns(["cutoff"]) if self.side == "item" else whole


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
    """Raises InputError or TooManyFailures before anything is published."""

    side: str

    def __call__(self, parts: Sequence[Part], inputs: Inputs, cfg: Config) -> None:
        counts: dict[str, int] = {}
        for part in parts:
            for status, count in part.statuses.items():
                counts[status] = counts.get(status, 0) + count
        if set(counts) == {NO_TEXT}:  # else an arm without knowledge would be measured as one with it
            raise InputError(
                f"{self.side}_answers: none of the {counts[NO_TEXT]:,} {self.side}s has a text; see whether titles "
                "were linked (`trawl show RUN knowledge`) and whether linking.entities or extraction.given holds texts"
            )
        limits, why = (cfg.extraction.failures, cfg.extraction.failure_limit), tally.reasons(inputs)
        check_failures(f"{self.side}_answers", counts, *limits, why)


def _notes(inputs: Inputs, cfg: Config) -> dict[str, Any]:
    return tally.asked(inputs)


def _has_rows(phase: int, inputs: Inputs, cfg: Config | None = None) -> bool:
    """Whether a phase was run and sent anything."""
    return any(inputs.scattered_rows(phase))


def _rounds(side: str, cfg: Config) -> tuple[Phase, ...]:
    """The rounds that merge answers to chunks; one that has nothing to merge is left out while the stage runs.

    None without chunks, and none where answers are copies of the texts.
    """
    if cfg.extraction.over_budget != CHUNKS or copies(side, cfg):
        return ()
    out: list[Phase] = []
    for number in range(ROUNDS):
        first = 2 + 2 * number  # the phase before it sent the answers; the one before that the prompts
        merger = partial(Merger, side, answered=first - 1, last=number == ROUNDS - 1)
        out.append(Phase(worker=merger, buckets=_ByDigest(side), when=partial(_has_rows, first - 1)))
        out.append(_asking(side, first, partial(_has_rows, first)))
    return tuple(out)


def _asking(side: str, sent: int, when: Callable[[Inputs, Config], bool] = lambda inputs, cfg: True) -> Phase:
    return Phase(
        worker=partial(Asker, side, sent=sent),
        buckets=_ByEntity(side),
        before=partial(answer_missing, side),
        heavy=True,
        when=when,
    )


def _keys(side: str, cfg: Config) -> tuple[str, ...]:
    shuffle = ("shuffle_of", "shuffle_seed") if cfg.extraction.source == "shuffled" else ()
    always = ("source", "max_prompt_tokens", "max_answer_tokens")
    own = (*domain_keys(cfg.extraction.domain), *families.keys(side, cfg), *budget_keys(cfg.extraction))
    again = (f"retry.{side}",) if cfg.get(f"retry.{side}.generation") else ()
    judged = () if copies(side, cfg) else grounding_keys(cfg.extraction)
    return (*keys_of(cfg.extraction), *own, *(f"extraction.{key}" for key in (*always, *shuffle, *judged)), *again)


def _models(side: str, cfg: Config) -> dict[str, str]:
    if not copies(side, cfg):
        refuse_user_text(side, cfg)  # asked for before anything is made
    return models_of(cfg.extraction)


def _factors(cfg: Config) -> dict[str, str]:
    return domain_sources(cfg.extraction.domain)


def _reads(side: str, cfg: Config) -> tuple[str, ...]:
    return (*families.reads(side, cfg), f"{side}_prompts")


def _stage(side: str) -> Stage:
    return Stage(
        artifact=f"{side}_answers",
        version=1,
        reads=partial(_reads, side),
        keys=partial(_keys, side),
        models=partial(_models, side),
        sources=_factors,
        plan=per_part(f"{side}_prompts"),
        phases=(
            Phase(worker=partial(Router, side), buckets=_ByDigest(side)),
            _asking(side, 0),
        ),
        rounds=partial(_rounds, side),
        worker=partial(Gatherer, side),
        covers=f"{side}s",
        verify=_Check(side),
        notes=_notes,
    )


ITEM_ANSWERS, USER_ANSWERS = _stage("item"), _stage("user")
