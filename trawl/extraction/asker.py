"""The phases that ask: prompts by digest in, one answer for each out, to the part of its entity."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trawl.config import Config
from trawl.extraction import tally
from trawl.extraction.answers import ANSWER, SKIPPED, TOO_LONG, unasked_row
from trawl.extraction.asking import ask
from trawl.extraction.cache import answer_cache
from trawl.extraction.deaths import Deaths
from trawl.extraction.engines import CopyEngine, Engine, HttpEngine, label
from trawl.extraction.grounded import Grounding, plain
from trawl.extraction.plans import SKIP
from trawl.extraction.reducing import PLACE
from trawl.extraction.rendering import Renderer, copies, each_once, failed_answers
from trawl.extraction.segments import KEPT
from trawl.extraction.watched import Marks
from trawl.inputs import Inputs
from trawl.stage import Task
from trawl.worker import forgive


class Asker:
    """One row per prompt of the bucket, from the cache or the engine, to the part of its entity.

    `sent`: the phase that sent the prompts here, 0 or one that made prompts of answers.
    """

    def __init__(self, side: str, inputs: Inputs, cfg: Config, sent: int = 0) -> None:
        self.inputs, self.sent = inputs, sent
        self.renderer = Renderer(side, inputs, cfg)
        self.engine: Engine = CopyEngine() if copies(side, cfg) else self.renderer.counted_by
        self.side, self.phase = side, sent + 1
        self.cache = None if copies(side, cfg) else answer_cache(inputs, cfg)
        if isinstance(self.engine, HttpEngine):
            self.engine.count_requests(inputs.store, cfg.name)
        self.batch_rows = cfg.resources.batch_rows
        # KAR's prompts show no text, so what a model knows by itself has no source there.
        grounds = cfg.extraction.grounding and not copies(side, cfg) and bool(self.renderer.framer.side.texts)
        self.judged = Grounding(self.renderer, cfg.extraction, self.batch_rows) if grounds else None
        self.lasts = np.array([part.last for part in inputs.parts(f"{side}s")])

    def __call__(self, task: Task) -> Iterator[tuple[int, pa.Table]]:
        rows = self.inputs.scattered(self.sent, task.number).sort_by([("digest", "ascending"), ("entity", "ascending")])
        digests = rows.column("digest")
        known = self._known(digests.unique().to_pylist())
        fresh = pa.concat_tables([ANSWER.empty_table(), *self._asked(rows, known.select(ANSWER.names), task)])
        answers = pa.concat_tables([known.select(ANSWER.names), fresh])
        self._count(task, known, fresh)
        answers = self.judged(rows, answers) if self.judged else plain(answers)
        yield 0, _placed(PLACE.empty_table(), plain(ANSWER.empty_table()))
        if rows.num_rows:
            where = pc.index_in(digests, value_set=answers.column("digest"))
            whole = _placed(rows.select(PLACE.names), answers.take(where))
            part = self._part_of(rows.column("entity").to_numpy())
            for number in np.unique(part):
                yield int(number), whole.filter(pa.array(part == number))

    def _known(self, digests: list[str]) -> pa.Table:
        """What the cache holds, or what failed when the prompts were asked before this phase (schema KEPT)."""
        if self.cache is None:
            return KEPT.empty_table()
        return pa.concat_tables([self.cache.find(digests), failed_answers(self.inputs).find(digests)])

    def _count(self, task: Task, known: pa.Table, fresh: pa.Table) -> None:
        """Leave how many prompts were asked, by this table's earlier tries too, and how many answers were there."""
        if self.cache is None:
            return
        mine = pc.sum(pc.equal(known.column("origin"), self.cache.origin)).as_py() or 0
        sent = fresh.num_rows - (pc.sum(pc.equal(fresh.column("attempts"), 0)).as_py() or 0)
        counts = {"asked": mine + sent, "from_cache": known.num_rows - mine, "not_sent": fresh.num_rows - sent}
        tally.keep_counts(self.inputs, f"{self.phase}-{task.name}", counts)

    def _asked(self, rows: pa.Table, known: pa.Table, task: Task) -> Iterator[pa.Table]:
        """Answers to the prompts that are not known, each digest once."""
        fresh, room = each_once(rows, known), self.renderer.room
        over = pc.greater(fresh.column("tokens"), room)
        for row in fresh.filter(over).to_pylist():
            yield pa.Table.from_pylist([self._unasked(row)], schema=ANSWER)
        requests = self.renderer.requests(fresh.filter(pc.invert(over)), self.batch_rows)
        marks = Marks(self.inputs.store, (*self.inputs.work[:2], "_attempts"))
        deaths = (
            Deaths(marks, partial(forgive, self.inputs, self.phase, task)) if self.cache and fresh.num_rows else None
        )
        yield from ask(self.engine, requests, self.cache, self.batch_rows, deaths)

    def _unasked(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A prompt that there is no room for: skipped where the recipe says so, else it was too long from the start."""
        tokens, engine = row["tokens"], label(self.engine)
        if row["plan"] == SKIP:
            reason = f"{tokens} tokens, there is room for {self.renderer.room}"
            return unasked_row(row["digest"], SKIPPED, reason, 0, engine)
        reason = f"{tokens} tokens without any text, there is room for {self.renderer.room}"
        return unasked_row(row["digest"], TOO_LONG, reason, tokens, engine)

    def _part_of(self, entities: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The part that holds an index; parts are contiguous, empty ones have last = 0."""
        filled = np.flatnonzero(self.lasts)
        found: npt.NDArray[np.int64] = filled[np.searchsorted(self.lasts[filled], entities)]
        return found


def _placed(places: pa.Table, answers: pa.Table) -> pa.Table:
    """Answers with the columns (PLACE) that say whose they are."""
    for number, name in enumerate(PLACE.names):
        answers = answers.add_column(number, PLACE.field(number), places.column(name))
    return answers
