"""The only place that knows the order: every stage of every room, and which of them a recipe needs.

The order is the order of the papers: data, linking, extraction, encoding, swing, joint training (T Figure 1).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from trawl.config import Config
from trawl.errors import ConfigError
from trawl.export.stage import wanted as wanted_export
from trawl.stage import Executor, Outcome, Stage, fingerprint, run_stage
from trawl.store import Store

ROOMS = ("data", "linking", "extraction", "encoding", "swing", "training", "export")
_SAID = {"link": "linking", "extract": "extraction", "encode": "encoding", "train": "training"}  # the jobs' names


@cache
def stages() -> dict[str, Stage]:
    """Every stage by the artifact it makes, upstream first."""
    found = [stage for room in ROOMS for stage in import_module(f"trawl.{room}.stage").STAGES]
    return {stage.artifact: stage for stage in found}


@cache
def rooms() -> dict[str, tuple[str, ...]]:
    """The artifacts of each room."""
    return {room: tuple(s.artifact for s in import_module(f"trawl.{room}.stage").STAGES) for room in ROOMS}


@dataclass(frozen=True)
class Plan:
    """The artifacts that a recipe needs, upstream first, with the fingerprints they will have."""

    cfg: Config
    fingerprints: Mapping[str, str]


def needed(cfg: Config, until: str = "") -> list[str]:
    """Artifacts to make, upstream first. `until`: an artifact or a room; empty: the whole pipeline.

    Raises ConfigError when `until` names neither, or something that this recipe does not make.
    """
    everything, until = stages(), _SAID.get(until, until)
    whole = _closure(["predictions", *wanted_export(cfg)], cfg)
    if "knowledge" in whole and (cfg.linking.truth or cfg.data.source == "synthetic"):
        whole |= _closure(["truth"], cfg)
    if until and until != ROOMS[-1]:
        wanted = [a for a in rooms().get(until, (until,)) if a in whole]
        if until not in everything and until not in rooms():
            raise ConfigError(
                f"--until {until}: no such stage or room; stages: {', '.join(everything)}; rooms: {', '.join(ROOMS)}"
            )
        whole = _closure(wanted, cfg)
    return [name for name in everything if name in whole]


def _closure(wanted: Iterable[str], cfg: Config) -> set[str]:
    out: set[str] = set()
    todo = list(wanted)
    while todo:
        name = todo.pop()
        if name not in out:
            out.add(name)
            todo.extend(stages()[name].reads(cfg))
    return out


def plan(cfg: Config, until: str = "") -> Plan:
    """Fingerprints of all that the recipe needs; nothing is run. Raises InputError for a missing raw input."""
    marks: dict[str, str] = {}
    for name in needed(cfg, until):
        marks[name] = fingerprint(stages()[name], cfg, marks)
    return Plan(cfg, marks)


def run(
    todo: Plan,
    store: Store,
    executor: Executor,
    tell: Callable[[Outcome], None],
    only: Callable[[str], bool] = lambda name: True,
) -> None:
    """Make the plan's artifacts in order; `only` selects among them; `tell` hears of each."""
    for name in todo.fingerprints:
        if only(name):
            tell(run_stage(stages()[name], todo.cfg, store, todo.fingerprints, executor))
