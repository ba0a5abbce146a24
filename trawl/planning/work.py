"""What a recipe asks of an engine, each thing once over all arms and repetitions, and the cheap tables it needs first.

Arms share prompts: raw and shuffled texts are made of the same ones, so that what counts is a side's prompts and not
the tables of answers made of them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from trawl import pipeline
from trawl.config import Config
from trawl.extraction.rendering import copies
from trawl.runs import Cell
from trawl.stage import Executor, Outcome, run_stage
from trawl.store import Store

SIDES = ("item", "user")
# What costs: made by a run, never by a plan. The prompts are left to it too, since all texts would be read for them.
_COSTLY = frozenset({"item_prompts", "user_prompts", "item_answers", "user_answers"})


@dataclass(frozen=True)
class Asked:
    """The prompts of one side that an engine is asked. `answers`: the tables made of them, by fingerprint."""

    side: str
    cfg: Config
    fingerprints: Mapping[str, str]
    answers: frozenset[str]
    arms: tuple[str, ...]

    @property
    def prompts(self) -> str:
        return f"{self.side}_prompts"

    def published(self, store: Store) -> bool:
        """Whether every table that is made of them stands already, so that nobody is asked."""
        return all(store.manifest(f"{self.side}_answers", mark) is not None for mark in self.answers)


def asked(cells: Sequence[Cell]) -> list[Asked]:
    """Each side's prompts once, items first, with the arms that want their answers."""
    found: dict[tuple[str, str], list[Cell]] = {}
    for side in SIDES:
        for cell in cells:
            if f"{side}_answers" in cell.fingerprints and not copies(side, cell.cfg):
                found.setdefault((side, cell.fingerprints[f"{side}_prompts"]), []).append(cell)
    return [
        Asked(
            side,
            mine[0].cfg,
            mine[0].fingerprints,
            frozenset(cell.fingerprints[f"{side}_answers"] for cell in mine),
            tuple(dict.fromkeys(cell.arm for cell in mine)),
        )
        for (side, _), mine in found.items()
    ]


def first(cfg: Config, due: Iterable[str]) -> list[str]:
    """The cheap tables, upstream first, that prompts and behaviour of these artifacts are read from."""
    stages, out, seen = pipeline.stages(), set(), set()
    todo = [name for name in due if name in _COSTLY or name in ("log", "cutoffs", "users", "items")]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += stages[name].reads(cfg)
            if name not in _COSTLY:
                out.add(name)
    return [name for name in stages if name in out]


def make(
    cells: Sequence[Cell], store: Store, executor: Executor, tell: Callable[[Outcome, Cell], None]
) -> list[Outcome]:
    """Make the cheap tables that are not there yet, each fingerprint once. Returns what was made or found."""
    done: dict[tuple[str, str], Outcome] = {}
    for cell in cells:
        for name in first(cell.cfg, cell.fingerprints):
            key = (name, cell.fingerprints[name])
            if key not in done:
                done[key] = run_stage(pipeline.stages()[name], cell.cfg, store, cell.fingerprints, executor)
                tell(done[key], cell)
    return list(done.values())
