"""What comes after the answers: vectors and trainings, by the store's own earlier runs, a probe, or the recipe."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import pyarrow as pa
import pyarrow.compute as pc

from trawl.config import Config
from trawl.encoding.encoders import load_encoder
from trawl.encoding.stage import STAGES
from trawl.inputs import Inputs
from trawl.planning.sample import every, spread
from trawl.planning.work import SIDES
from trawl.runs import Cell
from trawl.sizes import folder_of, size_of
from trawl.stage import Executor
from trawl.store import Manifest, Store

_LOOKED_AT = 50  # earlier artifacts of a kind
_FLOAT16 = 2  # bytes
_KEPT = 2  # vectors are kept as a table and as arrays
_FEW = 200  # rows of an earlier run, below which its seconds are all start-up


@dataclass(frozen=True, kw_only=True)
class Work:
    """Work on all actors or workers. `seconds` None: nothing is known of its pace."""

    tables: int  # or models
    count: float  # texts, or samples of one epoch of each training
    seconds: float | None
    source: str
    bytes: float = 0.0


@dataclass(frozen=True)
class Pace:
    """Texts or samples per second of one worker; 0: not known."""

    rate: float
    source: str


UNKNOWN = Pace(0.0, "nothing is known of its pace")


def due(cells: Sequence[Cell], artifact: str, store: Store) -> list[Cell]:
    """A cell for each fingerprint of the artifact that is not published."""
    found = {c.fingerprints[artifact]: c for c in cells if artifact in c.fingerprints}
    return [cell for mark, cell in found.items() if store.manifest(artifact, mark) is None]


def encoding(
    cells: Sequence[Cell],
    store: Store,
    texts: Mapping[str, float],
    entities: Mapping[str, int],
    probed: Pace = UNKNOWN,
) -> Work:
    """Vectors of every side and arm. `texts`: of each side; `probed`: of one actor."""
    seconds, sources = 0.0, []
    wanted = [(side, cell) for side in SIDES for cell in due(cells, f"{side}_embeddings", store)]
    known = True
    for side, cell in wanted:
        pace = _encoding_pace(cell.cfg, store, probed)
        sources.append(pace.source)
        known = known and pace.rate > 0
        seconds += texts[side] / pace.rate / cell.cfg.resources.actors if pace.rate else 0.0
    return Work(
        tables=len(wanted),
        count=sum(texts[side] for side, _ in wanted),
        seconds=seconds if known else None,
        source="; ".join(dict.fromkeys(sources)),
        bytes=sum(_KEPT * _FLOAT16 * entities[side] * width(cell.cfg) for side, cell in wanted),
    )


def width(cfg: Config) -> int:
    """Numbers in a vector; 0 where the model is not on this machine."""
    if cfg.encoding.encoder != "transformer":
        return cfg.encoding.dimension
    folder = folder_of("encoding.model", cfg.encoding.model, cfg.encoding.revision)
    return size_of(folder).hidden if folder else 0


def _encoding_pace(cfg: Config, store: Store, probed: Pace) -> Pace:
    if cfg.plan.encoder_texts_second:
        return Pace(cfg.plan.encoder_texts_second, "plan.encoder_texts_second")
    return probed if probed.rate else _encoded_before(cfg, store)


def _encoded_before(cfg: Config, store: Store) -> Pace:
    """The largest table that this encoder made in this store; its seconds hold the start-up."""
    keys, models = STAGES[0].keys(cfg), STAGES[0].models(cfg)
    mine = {key: cfg.get(key) for key in keys}
    alike = [
        m for side in SIDES for m in _earlier(store, f"{side}_embeddings") if m.config == mine and m.models == models
    ]
    best = max(alike, key=lambda m: m.rows, default=None)
    if best is None or best.rows < _FEW or not best.seconds:
        return UNKNOWN
    rate = best.rows / best.seconds / cfg.resources.actors
    return Pace(rate, f"{best.artifact}/{best.fingerprint} of this store")


def _earlier(store: Store, artifact: str) -> Iterator[Manifest]:
    for mark in store.names(artifact)[:_LOOKED_AT]:
        found = store.manifest(artifact, mark)
        if found is not None:
            yield found


def probe_encoder(texts: Sequence[str], cfg: Config, executor: Executor) -> Pace:
    """The encoder on the probe's answers, in a worker."""
    if not texts:
        return UNKNOWN
    seconds = executor.call(_encode, list(texts), cfg)
    return Pace(len(texts) / max(seconds, 1e-9), f"probe of {len(texts)} answers")


def _encode(texts: list[str], cfg: Config) -> float:
    """In a worker: seconds for these texts, the model's loading and first batch apart."""
    encoder, rows = load_encoder(cfg), cfg.resources.batch_rows
    encoder.encode(texts[:8])
    started = time.monotonic()
    for at in range(0, len(texts), rows):
        encoder.count(texts[at : at + rows])
        encoder.encode(texts[at : at + rows])
    return time.monotonic() - started


def training(cells: Sequence[Cell], store: Store, executor: Executor) -> Work:
    """Every model that is not there yet, all epochs: early stopping may save some."""
    models = due(cells, "model", store)
    samples = {cell.fingerprints["cutoffs"]: 0.0 for cell in models}
    for cell in models:
        mark = cell.fingerprints["cutoffs"]
        samples[mark] = samples[mark] or samples_of(cell, store, executor)
    seconds, sources = 0.0, []
    for cell in models:
        pace = _training_pace(cell.cfg, store)
        sources.append(pace.source)
        side_by_side = cell.cfg.resources.training_workers * cell.cfg.resources.parallel_cells
        each = samples[cell.fingerprints["cutoffs"]] * cell.cfg.training.epochs / pace.rate
        seconds += each / min(side_by_side, max(1, ceil(len(models))))
    count = sum(samples[cell.fingerprints["cutoffs"]] for cell in models)
    return Work(tables=len(models), count=count, seconds=seconds, source="; ".join(dict.fromkeys(sources)))


def _training_pace(cfg: Config, store: Store) -> Pace:
    """Of the same backbone and injection in this store, else the recipe's figure."""
    for found in _earlier(store, "model"):
        alike = all(found.config.get(f"model.{k}") == cfg.get(f"model.{k}") for k in ("backbone", "injection", "side"))
        if alike and found.notes.get("samples_per_second"):
            rate = float(found.notes["samples_per_second"]) / max(1, int(found.notes.get("workers", 1)))
            return Pace(rate, "models of this store")
    return Pace(cfg.plan.training_samples_second, "plan.training_samples_second")


def samples_of(cell: Cell, store: Store, executor: Executor) -> float:
    """Training samples: events behind the cut-offs of the training users, from a few parts of the cut-offs."""
    inputs = Inputs(store, {"cutoffs": cell.fingerprints["cutoffs"]})
    numbers = spread(len(inputs.parts("cutoffs")), 0.0)
    found = every(executor, cell.cfg, [(behind_cutoffs, (inputs, n)) for n in numbers])
    users = sum(count for count, _ in found)
    return float(inputs.count("cutoffs") * sum(n for _, n in found) / max(1, users) * cell.cfg.data.split[0])


def behind_cutoffs(inputs: Inputs, number: int) -> tuple[int, int]:
    """In a worker: users of a part, and their events at or behind the cut-off."""
    rows: pa.Table = inputs.part("cutoffs", number, ["cutoff", "events"])
    behind = pc.sum(pc.subtract(rows.column("events"), rows.column("cutoff"))).as_py() or 0
    return rows.num_rows, int(behind)
