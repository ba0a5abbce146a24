"""`trawl plan`: the whole reckoning, as one tree of plain data.

Nothing is published but the cheap tables that prompts are read from; answers of a probe are thrown away.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from trawl import connection, experiment, sizes
from trawl.config import Config
from trawl.extraction.trial import Trial, most, try_prompts
from trawl.planning import downstream, engine, gpus, work
from trawl.planning.assumptions import assumptions
from trawl.planning.prompts import Side, answer_lengths, fresh, look_up, once, reckon
from trawl.planning.sample import Sample, draw, opened, texts
from trawl.planning.work import Asked
from trawl.runs import Cell
from trawl.stage import Executor, Outcome
from trawl.store import Store

_WITH_TEXT = ("ok", "truncated")


@dataclass(frozen=True)
class Reckoned:
    """One side of the prompts, what was tried of it, and the hours: the estimate to go by first."""

    cfg: Config
    side: Side
    trial: Trial | None
    hours: tuple[engine.Hours, ...]
    published: bool


def plan(
    cfg: Config, store: Store, executor: Executor, tell: Callable[[Outcome, Cell], None], probe: bool = False
) -> dict[str, Any]:
    """What running the recipe would take.

    Raises the errors of the cheap stages; ConfigError for an unknown GPU or an engine that finds no place.
    """
    gpus.check_name(cfg.plan)
    cells = experiment.expand(cfg)
    made = work.make(cells, store, executor, tell)
    sides = [_reckon(asked, store, executor, probe) for asked in work.asked(cells)]
    encoding = _encoding(cells, sides, store, executor, probe)
    training = downstream.training(cells, store, executor) if "predictions" in cells[0].fingerprints else None
    tree: dict[str, Any] = {
        "recipe": cfg.name,
        "store": store.where(),
        "arms": list(dict.fromkeys(cell.arm for cell in cells)),
        "made": [{"artifact": o.artifact, "fingerprint": o.fingerprint} for o in made if not o.skipped],
        "prompts": [_side(found) for found in sides],
        "encoding": asdict(encoding),
        "training": asdict(training) if training else None,
        "storage": _storage(sides, encoding, made, store),
        "engine": _engine(sides, cfg),
        "cost": engine.cost([found.side for found in sides], [h for found in sides for h in found.hours[:1]], cfg),
        "refresh": _refresh(sides, cfg),
    }
    return tree | {"assumptions": assumptions(tree, cfg, probe, _no_place(cfg, sides))}


def _reckon(asked: Asked, store: Store, executor: Executor, probe: bool) -> Reckoned:
    """A side's prompts, then answers and hours."""
    cfg, sample = asked.cfg, draw(asked, store, executor)
    counted = texts(asked, store, executor)
    answered = look_up(once(sample.rows).column("digest").to_pylist(), store, cfg, executor)
    side, published = reckon(asked, sample, counted, answered), asked.published(store)
    side = side.nothing_asked() if published else side
    trial = _try(asked, sample, answered, store, executor) if probe and side.asked else None
    side = side.answered(*answer_lengths(answered, trial.answers if trial else None, counted, cfg))
    return Reckoned(cfg, side, trial, _hours(side, trial, cfg), published)


def _try(asked: Asked, sample: Sample, answered: pa.Table, store: Store, executor: Executor) -> Trial | None:
    """One engine on some prompts of the sample, in the order of their digests, which is none."""
    rows = fresh(sample.rows, answered, asked.cfg).sort_by("digest").slice(0, most(asked.cfg))
    return try_prompts(asked.side, rows, opened(store, asked, 1.0), asked.cfg, executor) if rows.num_rows else None


def _hours(side: Side, trial: Trial | None, cfg: Config) -> tuple[engine.Hours, ...]:
    """The estimates there are, the one of a named GPU first."""
    found = []
    if cfg.plan.gpu and cfg.extraction.engine == "vllm":
        rate = gpus.rate(cfg.plan, _size(cfg), side.each_in + side.each_out / 2)
        found += [engine.by_rate(side, rate, cfg)] if rate else []
    if trial is not None and trial.seconds > 0:
        on_gpu = cfg.extraction.engine == "vllm" and any(node.get("GPU") for node in connection.nodes())
        found.append(engine.by_probe(side, trial, cfg, on_gpu))
    return tuple(found)


def _size(cfg: Config) -> sizes.Size | None:
    folder = sizes.folder_of("extraction.model", cfg.extraction.model, cfg.extraction.revision)
    return sizes.size_of(folder) if folder else None


def _no_place(cfg: Config, sides: Sequence[Reckoned]) -> str:
    """Why the model does not fit on the named GPU."""
    if not cfg.plan.gpu or not sides or sides[0].cfg.extraction.engine != "vllm":
        return ""
    return gpus.fits(cfg.plan, _size(sides[0].cfg), engine.split(cfg), cfg.resources.gpu_memory)


def _encoding(
    cells: Sequence[Cell], sides: Sequence[Reckoned], store: Store, executor: Executor, probe: bool
) -> downstream.Work:
    """Each side's texts are the answers to its prompts, however they are made."""
    entities = {side: _entities(cells[0], store, side) for side in work.SIDES}
    counts = {found.side.side: found.side.prompts for found in sides}
    tried = [found.trial.answers for found in sides if found.trial]
    wanted = [c for side in work.SIDES for c in downstream.due(cells, f"{side}_embeddings", store)]
    pace = downstream.UNKNOWN
    if probe and tried and wanted:
        rows = pa.concat_tables(tried)
        written = rows.filter(pc.is_in(rows.column("status"), pa.array(_WITH_TEXT))).column("text").to_pylist()
        pace = downstream.probe_encoder(written, wanted[0].cfg, executor)
    per_side = {side: counts.get(side, float(entities[side])) for side in work.SIDES}
    return downstream.encoding(cells, store, per_side, entities, pace)


def _entities(cell: Cell, store: Store, side: str) -> int:
    found = store.manifest(f"{side}s", cell.fingerprints[f"{side}s"])
    return found.rows if found else 0


def _side(found: Reckoned) -> dict[str, Any]:
    side = found.side
    counts = ("prompts", "again", "cached", "too_long", "skipped", "asked", "cut", "merges", "merged_chunks")
    sums = ("cut_tokens", "text_tokens", "tokens_in", "tokens_out", "prompt_bytes", "answer_bytes")
    rounded = {name: round(getattr(side, name)) for name in (*counts, *sums)}
    tried = found.trial and {
        "prompts": found.trial.answers.num_rows,
        "seconds": found.trial.seconds,
        "start_seconds": found.trial.start_seconds,
        "statuses": {r["values"]: r["counts"] for r in found.trial.answers.column("status").value_counts().to_pylist()},
    }
    more = {"engine": found.cfg.extraction.engine, "model": found.cfg.extraction.model, "published": found.published}
    return asdict(side) | rounded | more | {"hours": [_plain(h) for h in found.hours], "probe": tried}


def _plain(hours: engine.Hours) -> dict[str, Any]:
    return asdict(hours) | {"seconds": hours.seconds, "gpu_hours": hours.gpu_hours}


def _engine(sides: Sequence[Reckoned], cfg: Config) -> dict[str, Any] | None:
    """Both sides together, by the estimate to go by; None where there is none for what is asked."""
    asked = [found for found in sides if found.side.asked]
    if not asked or not all(found.hours for found in asked):
        return None
    first = [found.hours[0] for found in asked]
    return {
        "device": " and ".join(dict.fromkeys(hours.device for hours in first)),
        "source": "; ".join(dict.fromkeys(hours.source for hours in first)),
        "engines": max(hours.engines for hours in first),
        "seconds": sum(hours.seconds for hours in first),
        "gpu_hours": sum(hours.gpu_hours for hours in first),
    }


def _storage(
    sides: Sequence[Reckoned], encoding: downstream.Work, made: Sequence[Outcome], store: Store
) -> dict[str, int]:
    """Bytes of what there will be; answers stand in the cache and in a table."""
    there = 0
    for outcome in made:
        manifest = store.manifest(outcome.artifact, outcome.fingerprint)
        there += sum(part.bytes for part in manifest.parts) if manifest else 0
    return {
        "cheap_tables": there,
        "prompts": round(sum(found.side.prompt_bytes for found in sides)),
        "answers": round(sum(2 * found.side.asked * found.side.answer_bytes for found in sides)),
        "vectors": round(encoding.bytes),
    }


def _refresh(sides: Sequence[Reckoned], cfg: Config) -> dict[str, Any]:
    """A day's new prompts: the recipe's shares of all items and users, of the same lengths as now."""
    shares = {"item": cfg.plan.items_per_day, "user": cfg.plan.users_per_day}
    days = [(found, found.side.of(shares[found.side.side] * found.side.prompts)) for found in sides]
    hours = [_hours(day, found.trial, found.cfg)[:1] for found, day in days if day.asked]
    known = bool(hours) and all(hours)
    return {
        "items_per_day": cfg.plan.items_per_day,
        "users_per_day": cfg.plan.users_per_day,
        "prompts": round(sum(day.asked for _, day in days)),
        "tokens_in": round(sum(day.tokens_in for _, day in days)),
        "tokens_out": round(sum(day.tokens_out for _, day in days)),
        "seconds": sum(h.seconds for found in hours for h in found) if known else None,
        "gpu_hours": sum(h.gpu_hours for found in hours for h in found) if known else None,
        "cost": engine.cost([day for _, day in days], [h for found in hours for h in found], cfg),
    }
