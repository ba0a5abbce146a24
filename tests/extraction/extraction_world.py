"""A hand-made world of texts for the extraction tests, and an engine that counts what it is asked."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from worlds import behaviour, publish, table

from trawl.config import Config
from trawl.errors import EngineDied
from trawl.executors import Inline
from trawl.extraction.engines import Reply, Request
from trawl.extraction.engines.seam import CountsWords
from trawl.extraction.stage import STAGES
from trawl.inputs import Inputs
from trawl.stage import Outcome, run_stage
from trawl.store import Store

TEXTS: dict[int, str | None] = {n: f"Film {n} is a 1990 comedy film directed by Ada Writer{n}." for n in range(1, 13)}
TEXTS[5] = None
# Eight users; user u rates items u, u+1, ... (twelve items in a ring), seven each.
RATINGS = [(u, (u + n - 1) % 12 + 1, float(1 + (u * n) % 5)) for u in range(1, 9) for n in range(7)]
ALL = ("item_texts", "item_prompts", "item_answers", "user_prompts", "user_answers")


def base(store: Store, ratings: Sequence[tuple[int, int, float]] = RATINGS, **rest: Any) -> dict[str, str]:
    """users, items, log, cutoffs and the rest of behaviour, published."""
    fields = {u: {"gender": ["F" if u % 2 else "M"]} for u in range(1, 9)}
    return behaviour(store, ratings, users=8, items=12, **{"user_fields": fields, **rest})


def with_knowledge(store: Store, marks: Mapping[str, str], texts: Mapping[int, str | None]) -> dict[str, str]:
    """`marks` and a published knowledge table of these texts."""
    parts = []
    for part in Inputs(store, marks).each("items", ["item"]):
        rows = [_link(item, texts.get(item)) for item in part.column("item").to_pylist()]
        parts.append(table("knowledge", rows))
    return {**marks, "knowledge": publish(store, "knowledge", parts)}


def _link(item: int, text: str | None) -> dict[str, Any]:
    method = "exact" if text is not None else "none"
    entity = f"e{item}" if text is not None else None
    return {"item": item, "rank": 0, "entity_id": entity, "text": text, "similarity": 1.0, "method": method, "ties": 0}


def config(**extraction: Any) -> Config:
    return Config.build({"extraction": {"user_items": 3, **extraction}, "resources": {"batch_rows": 2}})


def run(store: Store, marks: Mapping[str, str], cfg: Config, *names: str) -> dict[str, Outcome]:
    """Run the named stages (all by default) in their order."""
    known, out = dict(marks), {}
    for stage in STAGES:
        if stage.artifact in (names or ALL):
            out[stage.artifact] = run_stage(stage, cfg, store, known, Inline())
            known[stage.artifact] = out[stage.artifact].fingerprint
    return out


def rows(store: Store, outcomes: Mapping[str, Outcome], name: str) -> list[dict[str, Any]]:
    return whole(store, outcomes, name).to_pylist()  # type: ignore[no-any-return]


def whole(store: Store, outcomes: Mapping[str, Outcome], name: str) -> pa.Table:
    return Inputs(store, {name: outcomes[name].fingerprint}).table(name)


class CountingEngine(CountsWords):
    """Answers with the digest of the prompt; keeps what it was asked; dies or fails when told to."""

    name, revision = "counting", "1"

    def __init__(self, die_after: int = -1, poison: str = "", reply: str = "") -> None:
        self.asked: list[Request] = []
        self.batches = 0
        self.die_after, self.poison, self.reply = die_after, poison, reply

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        if self.batches == self.die_after:
            raise EngineDied("engine counting: gone")
        if self.poison and any(self.poison in request.prompt for request in requests):
            raise ValueError("cannot read this")
        self.batches += 1
        self.asked += requests
        return [Reply(self.reply or f"answer to {r.digest}", self.count(r.prompt), 3) for r in requests]
