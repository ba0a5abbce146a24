"""Prompts of a few entities, made as the run will make them, by the stage's own worker on a part of its input.

A sample is drawn by a hash of the index from a few parts spread over the table, in workers; the driver gets the
sampled rows alone. Parts are by a hash of the raw ids, so that any of them stands for all.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trawl import pipeline
from trawl.checks import mix
from trawl.config import Config
from trawl.extraction.reducing import first_step
from trawl.inputs import Inputs
from trawl.planning.work import Asked
from trawl.schemas import CONTRACTS
from trawl.stage import Executor, Task
from trawl.store import Manifest, Store

_PARTS = 16  # that a sample is drawn from
_SALT = 0x7F4A7C15  # another hash than those that split, shuffle or subsample


@dataclass(frozen=True)
class Sample:
    """Prompts of some entities of a side."""

    entities: int  # of the side, in all
    sampled: int
    rows: pa.Table  # of the contract <side>_prompts, with the columns of a first step

    @property
    def whole(self) -> bool:
        return self.sampled == self.entities

    @property
    def scale(self) -> float:
        """Entities in all for one in the sample."""
        return self.entities / self.sampled if self.sampled else 0.0


@dataclass(frozen=True)
class Sampled(Inputs):
    """Inputs of which `part` shows the sampled entities of a side only; what is mapped or read whole stays whole.

    A table of answers that is not there yet is stood in for by the items' own texts, cut to `answer_tokens`.
    """

    side: str = "item"
    share: float = 1.0
    answer_tokens: int = 0
    stand_ins: tuple[str, ...] = field(default=())

    def part(self, name: str, number: int, columns: list[str] | None = None) -> pa.Table:
        key = CONTRACTS[name].key[0]
        if key != self.side or self.share >= 1:
            return self._part(name, number, columns)
        read = None if columns is None else list(dict.fromkeys([*columns, key]))
        rows = self._part(name, number, read)
        rows = rows.filter(pa.array(chosen(rows.column(key).to_numpy(), self.share)))
        return rows if columns is None else rows.select(columns)

    def each(self, name: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        for number in range(len(self.parts(name))):
            yield self._part(name, number, columns)

    def manifest(self, name: str) -> Manifest:
        return super().manifest("item_texts" if name in self.stand_ins else name)

    def _part(self, name: str, number: int, columns: list[str] | None) -> pa.Table:
        if name in self.stand_ins:
            return _stand_in(super().part("item_texts", number), self.answer_tokens).select(
                columns or CONTRACTS[name].schema.names
            )
        return super().part(name, number, columns)


def chosen(index: npt.NDArray[Any], share: float) -> npt.NDArray[np.bool_]:
    """(n,) which entities are in a sample of this share: always the same ones."""
    if share >= 1:
        return np.ones(len(index), dtype=bool)
    out: npt.NDArray[np.bool_] = mix(mix(index) ^ np.uint64(_SALT)) < np.uint64(int(share * 2**53) << 11)
    return out


def _stand_in(texts: pa.Table, tokens: int) -> pa.Table:
    """item_answers as long as answers may be: the beginnings of the texts."""
    rows = []
    for row in texts.select(["item", "text", "digest", "tokens"]).to_pylist():
        kept = min(row["tokens"], tokens)
        text = row["text"][: len(row["text"]) * kept // max(1, row["tokens"])] if row["text"] else None
        status = "ok" if text else "no_text"
        blank = {"reason": None, "tokens_in": 0, "attempts": 0, "seconds": 0.0, "engine": ""}
        rows.append(
            blank | {"entity": row["item"], "status": status, "text": text, "tokens_out": kept, "digest": row["digest"]}
        )
    return pa.Table.from_pylist(rows, schema=CONTRACTS["item_answers"].schema)


def spread(parts: int, share: float) -> list[int]:
    """Numbers of parts that hold a share of the rows, at least 16 where there are as many, spread over all."""
    return sorted({int(n) for n in np.linspace(0, parts - 1, min(parts, max(_PARTS, ceil(parts * share))))})


def opened(store: Store, work: Asked, share: float) -> Sampled:
    """The inputs of a side's prompts and of their rendering, for a sample of the side."""
    cfg, stages = work.cfg, pipeline.stages()
    names = {*stages[work.prompts].reads(cfg), *stages[f"{work.side}_answers"].reads(cfg)} - {work.prompts}
    missing = tuple(sorted(n for n in names if n.endswith("_answers") and not _there(store, work.fingerprints, n)))
    tokens = cfg.extraction.max_answer_tokens
    texts = work.fingerprints.get("item_texts", "")
    marks = {n: f"stand-in-{tokens}-{texts}" if n in missing else work.fingerprints[n] for n in names}
    if _there(store, work.fingerprints, work.prompts):
        marks[work.prompts] = work.fingerprints[work.prompts]
    return Sampled(
        store,
        marks | ({"item_texts": texts} if texts else {}),
        stages[work.prompts].sources(cfg),
        side=work.side,
        share=share,
        answer_tokens=tokens,
        stand_ins=missing,
    )


def _there(store: Store, marks: Mapping[str, str], name: str) -> bool:
    return store.manifest(name, marks[name]) is not None


def draw(work: Asked, store: Store, executor: Executor) -> Sample:
    """A sample of about `plan.sample_users` or `plan.sample_items` entities of the side."""
    index, cfg = f"{work.side}s", work.cfg
    whole = opened(store, work, 1.0)
    entities, parts = whole.count(index), whole.parts(index)
    wanted = cfg.plan.sample_items if work.side == "item" else cfg.plan.sample_users
    numbers = spread(len(parts), wanted / max(1, entities))
    share = min(1.0, wanted / max(1, sum(parts[n].rows for n in numbers)))
    inputs = opened(store, work, share)
    found = every(executor, cfg, [(prompts_of, (work.prompts, inputs, cfg, n)) for n in numbers])
    rows = pa.concat_tables([table for _, table in found])
    return Sample(entities, sum(count for count, _ in found), rows)


def prompts_of(name: str, inputs: Sampled, cfg: Config, number: int) -> tuple[int, pa.Table]:
    """In a worker: how many entities of a part are sampled, and the rows of their prompts."""
    count = inputs.part(f"{inputs.side}s", number, [inputs.side]).num_rows
    if inputs.has(name):  # published: taken from there
        rows = Inputs.part(inputs, name, number)
        rows = rows.filter(pa.array(chosen(rows.column("entity").to_numpy(), inputs.share)))
    else:
        make = pipeline.stages()[name].worker
        assert make is not None
        rows = make(inputs, cfg)(Task(f"{number:05d}", {"number": number}))
    return count, first_step(rows)


@dataclass(frozen=True)
class Texts:
    """The texts of all items: how many, their tokens, and their bytes as stored."""

    count: int
    tokens: int
    bytes: int


def texts(work: Asked, store: Store, executor: Executor) -> Texts:
    """Counted over every part, two columns of it read."""
    inputs = opened(store, work, 1.0)
    if not inputs.has("item_texts"):
        return Texts(0, 0, 0)
    parts = len(inputs.parts("item_texts"))
    step = -(-parts // (_PARTS * 4))
    pieces = [range(at, min(parts, at + step)) for at in range(0, parts, step)]
    found = every(executor, work.cfg, [(count_texts, (inputs, list(piece))) for piece in pieces])
    size = sum(part.bytes for part in inputs.parts("item_texts"))
    return Texts(sum(count for count, _ in found), sum(tokens for _, tokens in found), size)


def count_texts(inputs: Inputs, numbers: list[int]) -> tuple[int, int]:
    """In a worker: texts in these parts, and their tokens."""
    count = tokens = 0
    for number in numbers:
        path = inputs.parts("item_texts")[number].path
        with inputs.store.open_file("item_texts", inputs.fingerprints["item_texts"], path) as file:
            column = pq.ParquetFile(file).read(columns=["tokens"]).column("tokens")
        count += pc.sum(pc.greater(column, 0)).as_py() or 0
        tokens += pc.sum(column).as_py() or 0
    return count, tokens


def every(executor: Executor, cfg: Config, calls: list[tuple[Any, tuple[Any, ...]]]) -> list[Any]:
    """Functions called in workers, `resources.actors` at a time; their results in order."""
    with ThreadPoolExecutor(1 if cfg.resources.executor == "inline" else cfg.resources.actors) as pool:
        return list(pool.map(lambda call: executor.call(call[0], *call[1]), calls))
