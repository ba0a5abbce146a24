"""`trawl retry`: prompts of a run whose answers have certain statuses are asked again. Part of the command line.

Published tables never change: other runs, bundles and the files that nodes map go by their fingerprints. So the run's
own recipe gets a generation per side. It counts into the fingerprint of that side's answers; of these statuses the
cache gives only what was answered in this generation or later; all other rows are the same as before. The former
tables stay until `trawl gc`. New answers take the place of the former ones in the cache, for every later run.
"""

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from trawl import pipeline
from trawl.config import Config
from trawl.errors import AskedWrongly, ConfigError
from trawl.extraction.answers import ANSWER
from trawl.extraction.cache import held_answers, listed_answers
from trawl.inputs import Inputs
from trawl.runs import Run, find
from trawl.schemas import STATUSES
from trawl.sections import Retry
from trawl.store import Store

SIDES = ("item", "user")
_UNKEPT = ("failed", "skipped")  # statuses of prompts for which the cache holds nothing, so that any run asks them
_JUDGED = ("truncated", "empty", "refused", "repetitive", "too_long")  # by what was answered, before it is kept
_RunRecipe = Callable[[Config, Store, str, str], int]


def add(
    commands: Any,
    command: Callable[[Any, str, Any, str], ArgumentParser],
    add_store: Callable[[ArgumentParser], None],
    run_recipe: _RunRecipe,
) -> None:
    """Add the command with the command line's own helpers."""

    def do(args: Namespace) -> int:
        return retry(args, run_recipe)

    retry_ = command(commands, "retry", do, "ask again those prompts of a run whose answers have certain statuses")
    retry_.add_argument("run", help="name of a run in --store, or its folder as a path or URI")
    retry_.add_argument("--status", required=True, metavar="A,B", help="such as failed,truncated,refused")
    add_store(retry_)
    retry_.add_argument("--set", action="append", default=[], metavar="resources.b=c", help="only keys of resources")


def kept(store: Store, name: str, cfg: Config) -> Config:
    """The recipe with what was asked again in the run of this name, where that is a run of this recipe."""
    old = Run(store, name).read("run.json") if store.exists("runs", name) else None
    if not old or old["recipe_digest"] != cfg.digest() or "retry" not in old["recipe"] or cfg.retry != Retry():
        return cfg
    return Config.build(cfg.model_dump(mode="json") | {"retry": old["recipe"]["retry"]})


def retry(args: Namespace, run_recipe: _RunRecipe) -> int:
    """Make the run again with these answers asked anew. Raises AskedWrongly, ConfigError and what a run raises."""
    statuses = tuple(dict.fromkeys(word.strip() for word in args.status.split(",") if word.strip()))
    wrong = [s for s in statuses if s not in STATUSES or s == "no_text"]
    if wrong or not statuses:
        known = ", ".join(s for s in STATUSES if s != "no_text")
        raise AskedWrongly(f"--status {args.status!r}: give one or several of {known}, with commas between")
    run = find(args.run, args.store)
    record = run.read("run.json")
    if record.get("study"):
        raise AskedWrongly(f"{run.name!r} is a study; retry the run whose answers it uses")
    cfg = _recipe(record, args.set)
    before = _tables(run, record)
    due = [side for side in SIDES if any(_is_due(counts, statuses) for counts in before.get(side, {}).values())]
    if not due:
        print(f"no answer of {run.name!r} is {' or '.join(statuses)}: nothing to ask again")
        return 0
    again = _again(cfg, due, statuses)
    for side in due:
        _hold(run.store, f"{side}_answers", before[side], statuses, int(again.get(f"retry.{side}.generation")))
    code = run_recipe(again, run.store, run.name, _until(cfg, record))
    after = _tables(run, run.read("run.json"))
    for side in due:
        print(f"{side}_answers: {_change(_sum(before[side]), _sum(after[side]))}")
    return code


def _recipe(record: Mapping[str, Any], settings: list[str]) -> Config:
    other = [s for s in settings if not s.startswith("resources.")]
    if other:
        raise ConfigError(f"--set {other[0]}: a retry changes only resources; another recipe is another run")
    return Config.build(record["recipe"], *settings)


def _again(cfg: Config, sides: list[str], statuses: tuple[str, ...]) -> Config:
    """The recipe with a new generation of these sides."""
    tree = cfg.model_dump(mode="json")
    last = max(cfg.retry.item.generation, cfg.retry.user.generation)
    entry = {"generation": max(int(time.time()), last + 1), "statuses": list(statuses)}
    return Config.build(tree | {"retry": tree["retry"] | dict.fromkeys(sides, entry)})


def _tables(run: Run, record: Mapping[str, Any]) -> dict[str, dict[str, dict[str, int] | None]]:
    """Counts by status of each answers table of the run, by side and fingerprint; None: it is not published."""
    out: dict[str, dict[str, dict[str, int] | None]] = {}
    for cell in record["cells"]:
        for side in SIDES:
            mark = cell["artifacts"].get(f"{side}_answers")
            if mark and mark not in out.setdefault(side, {}):
                manifest = run.store.manifest(f"{side}_answers", mark)
                out[side][mark] = dict(manifest.statuses) if manifest else None
    return out


def _is_due(counts: Mapping[str, int] | None, statuses: tuple[str, ...]) -> bool:
    """Whether a table holds such rows; one that is not published failed, perhaps for such rows in the cache."""
    return counts is None or any(counts.get(status) for status in statuses)


def _hold(
    store: Store,
    artifact: str,
    tables: Mapping[str, Mapping[str, int] | None],
    statuses: tuple[str, ...],
    generation: int,
) -> None:
    """Keep, a part at a time, the rows that no cache holds and that stay, and those that a cache holds as others.

    The latter have a status that was given after they were kept, such as ungrounded.
    """
    stay = [status for status in _UNKEPT if status not in statuses]
    later = [status for status in statuses if status not in (*_JUDGED, *_UNKEPT)]
    places = ((stay, held_answers(store, generation)), (later, listed_answers(store, generation)))
    for mark, counts in tables.items():
        for wanted, cache in places:
            if counts is None or not any(counts.get(status) for status in wanted):
                continue
            for rows in Inputs(store, {artifact: mark}).each(artifact, ANSWER.names):
                cache.append(rows.filter(pc.is_in(rows.column("status"), value_set=pa.array(wanted))))


def _until(cfg: Config, record: Mapping[str, Any]) -> str:
    """Up to where the run was made: the room or artifact that its tables are the ones of."""
    made = {name for cell in record["cells"] for name in cell["artifacts"]}
    if "predictions" in made:
        return ""
    arms = [Config.build(record["recipe"], *cell["overrides"].items()) for cell in record["cells"]]
    for until in (*pipeline.stages(), *pipeline.ROOMS):
        with_it = [set(pipeline.needed(arm, until)) for arm in arms]
        if set().union(*with_it) == made:
            return until
    raise AskedWrongly("the run stopped before an artifact that this trawl does not know; run its recipe again first")


def _sum(tables: Mapping[str, Mapping[str, int] | None]) -> dict[str, int] | None:
    known = [counts for counts in tables.values() if counts is not None]
    return {s: sum(c.get(s, 0) for c in known) for s in STATUSES} if len(known) == len(tables) else None


def _change(before: Mapping[str, int] | None, after: Mapping[str, int] | None) -> str:
    """Statuses before and after, those that stand in either."""
    one, two = before or {}, after or {}
    names = [s for s in STATUSES if one.get(s) or two.get(s)]
    return ", ".join(f"{s} {f'{one.get(s, 0):,}' if before else '(not published)'} -> {two.get(s, 0):,}" for s in names)
