"""Room 6b: `model`, a folder with the trained model, and `predictions` of the validation and test rows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trawl import uses
from trawl.config import Config
from trawl.inputs import Inputs
from trawl.model.keys import keys
from trawl.schemas import TEST, TRAIN, VALID
from trawl.stage import Stage, Task, Worker, per_part

if TYPE_CHECKING:
    from torch import Tensor

    from trawl.model.bundle import Bundle, Catalogue
    from trawl.model.lexicon import Knowledge, Lexicon
    from trawl.model.recommender import Recommender
    from trawl.training.corpus import Tables
    from trawl.training.facts import Facts
    from trawl.training.loop import Material, Progress
    from trawl.training.partners import Partners

_KNOWN: dict[uses.Side, str] = {"user": "users", "item": "items"}


def reads(cfg: Config) -> tuple[str, ...]:
    """The behaviour, and of the knowledge just what the recipe switches on."""
    facts = ("facts",) if cfg.training.fact_positives and uses.weight(cfg, "item") > 0 else ()
    positives = (f"{s}_positives" for s in uses.SIDES if uses.weight(cfg, s) > 0)
    return tuple(dict.fromkeys((*_world(cfg), "samples", *positives, *facts)))


def _world(cfg: Config) -> tuple[str, ...]:
    cold = ("cold_items",) if cfg.data.cold_items > 0 else ()
    return ("users", "items", "log", "splits", *cold, *(uses.MATRICES[m] for m in uses.matrices(cfg)))


def scored(cfg: Config) -> tuple[str, ...]:
    """What predictions are made of; the cut-offs know how many events a user has."""
    return ("model", "samples", "cutoffs", *_world(cfg))


def gpus(cfg: Config) -> float:
    """Of a training in a task of its own; Ray Train asks for its workers' itself."""
    return float(cfg.resources.training_gpus)


def no_tasks(inputs: Inputs, cfg: Config) -> list[Task]:
    """A folder stage has no parts."""
    return []


def tables(inputs: Inputs, cfg: Config) -> "Tables":
    """The declared tables as arrays, memory-mapped where they are as long as the log."""
    from trawl.training.corpus import Tables

    splits = inputs.mapped("splits", ["part"]).column("part")
    train = pc.equal(splits, TRAIN).to_numpy()
    return Tables(
        user_fields=inputs.mapped("users", ["fields"]).column("fields"),
        item_fields=inputs.mapped("items", ["fields"]).column("fields"),
        log_user=inputs.array("log", "user"),
        log_item=inputs.array("log", "item"),
        log_rating=inputs.array("log", "rating"),
        log_label=inputs.array("log", "label"),
        train=np.concatenate([[False], train]),
        cutoff=np.concatenate([[0], inputs.array("splits", "cutoff")]),
        cold=np.concatenate([[False], inputs.array("cold_items", "cold")]) if inputs.has("cold_items") else None,
        knowledge={matrix: knowledge(inputs, matrix) for matrix in uses.matrices(cfg)},
    )


def knowledge(inputs: Inputs, matrix: uses.Matrix) -> "Knowledge":
    """A frozen matrix, memory-mapped."""
    from trawl.model.lexicon import Knowledge

    name, count = uses.MATRICES[matrix], inputs.count(_KNOWN[uses.OWNER[matrix]])
    text = np.zeros(count + 1, dtype=bool)
    text[inputs.array(name, "entity")] = inputs.array(name, "has_text")
    return Knowledge(matrix=inputs.vectors(name, count), text=text)


def material(inputs: Inputs, cfg: Config) -> "tuple[Recommender, Material]":
    """An untrained model and all that its training reads; the same in every worker."""
    from trawl.training.loop import new_model

    lexicon, found = _learned(inputs, cfg)
    return new_model(lexicon.sizes(), cfg, found.start), found


def _learned(inputs: Inputs, cfg: Config) -> "tuple[Lexicon, Material]":
    from trawl.model.bundle import precision
    from trawl.training.batches import kept_rows
    from trawl.training.corpus import build_world, check_labels, first_items, learn
    from trawl.training.loading import behaviour_of, samples_of, streams
    from trawl.training.loop import Material

    whole = tables(inputs, cfg)
    kept = kept_rows(whole)
    lexicon = learn(whole, kept, cfg)
    stream = streams(inputs, cfg)
    behaviour = behaviour_of(inputs, cfg, whole, kept, lexicon, stream)
    train, valid = (samples_of(inputs, behaviour, name, stream) for name in (TRAIN, VALID))
    check_labels(len(train), int(np.count_nonzero(train.label)), cfg)
    world = build_world(whole, lexicon, precision(cfg))
    seen = {"user": world.users.rows.numpy() > 0, "item": world.items.rows.numpy() > 0}
    partners = {side: _partners(inputs, cfg, side, seen[side]) for side in uses.SIDES if uses.weight(cfg, side) > 0}
    start = first_items(whole, lexicon, cfg.model.embedding) if uses.starts(cfg) else None
    return lexicon, Material(world=world, behaviour=behaviour, train=train, valid=valid, partners=partners, start=start)


@dataclass(frozen=True)
class _About:
    """What is published of a training beside its weights."""

    lexicon: "Lexicon"
    codes: "Mapping[str, Tensor]"  # of the items' fields
    samples: int
    facts: dict[str, int] | None  # what is told of those that positives share


def _about(lexicon: "Lexicon", found: "Material") -> _About:
    facts = found.partners["item"].facts if "item" in found.partners else None
    return _About(lexicon, found.world.items.fields, len(found.train), None if facts is None else facts.told())


def _surveyed(inputs: Inputs, cfg: Config) -> _About:
    """The same of the tables, read a part at a time: for a driver, whose workers hold the training set.

    Raises InputError as they would, before they are started.
    """
    from trawl.training.batches import kept_rows
    from trawl.training.corpus import check_labels, coded, learn

    whole = tables(inputs, cfg)
    lexicon = learn(whole, kept_rows(whole), cfg)
    samples = liked = 0
    for part in inputs.each("samples", ["split", "label"]):
        labels = part["label"].filter(pc.equal(part["split"], TRAIN))
        samples, liked = samples + len(labels), liked + (pc.sum(labels).as_py() or 0)
    check_labels(samples, liked, cfg)
    facts = None
    if "facts" in reads(cfg):
        seen = np.isin(np.arange(whole.items + 1), lexicon.items)
        facts = _facts(inputs, cfg, seen & _texts(inputs, cfg, "item")).told()
    return _About(lexicon, coded(whole, lexicon, "item"), samples, facts)


def _partners(inputs: Inputs, cfg: Config, side: uses.Side, seen: npt.NDArray[np.bool_]) -> "Partners":
    """`seen`: (count + 1,) bool, entities that training met: negatives and shared facts are of these alone."""
    from trawl.training.partners import Partners

    training, table = cfg.training, f"{side}_positives"
    columns = [inputs.array(table, name) for name in ("anchor", "rank", "partner")]
    texts = _texts(inputs, cfg, side)
    by_score = training.positives > 1 and training.positive_sampling == "score"
    return Partners(
        (columns[0], columns[1], columns[2]),
        inputs.count(_KNOWN[side]),
        training.positives,
        texts,
        score=inputs.array(table, "score") if by_score else None,
        facts=_facts(inputs, cfg, seen & texts) if side == "item" and training.fact_positives else None,
        low=training.low_negatives if training.negatives == "low_swing" else 0,
        pool=seen,
    )


def _texts(inputs: Inputs, cfg: Config, side: uses.Side) -> npt.NDArray[np.bool_]:
    """(count + 1,) bool: entities that one of the adapters' sources knows."""
    return np.asarray(np.any([knowledge(inputs, matrix).text for matrix in uses.sources(cfg, side)], axis=0))


def _facts(inputs: Inputs, cfg: Config, usable: npt.NDArray[np.bool_]) -> "Facts":
    from trawl.training.facts import facts_of

    columns = (inputs.each("facts"), cfg.training.fact_positives, inputs.count("items"), cfg.training.fact_cap)
    return facts_of(*columns, usable)


def train(inputs: Inputs, cfg: Config, folder: Path) -> dict[str, Any]:
    """Fill the folder with the bundle's files and metrics.json. The test split is not read."""
    from trawl.model import bundle
    from trawl.training.loop import new_model
    from trawl.training.trainer import train_here, train_on_ray

    alone = cfg.resources.launcher == "task"
    if alone:
        lexicon, found = _learned(inputs, cfg)
        model, about = new_model(lexicon.sizes(), cfg, found.start), _about(lexicon, found)
        progress, peak = train_here(model, found, cfg, inputs.store, inputs.work)
    else:
        about = _surveyed(inputs, cfg)
        progress, peak = train_on_ray(partial(material, inputs, cfg), cfg, inputs.store, inputs.work)
    bundle.write(
        bundle.Bundle(
            cfg=cfg,
            lexicon=about.lexicon,
            weights=progress.best,
            catalogue=_catalogue(inputs, cfg, about),
            fingerprints=inputs.fingerprints,
        ),
        folder,
    )
    summary = _summary(progress, about.samples, 1 if alone else cfg.resources.training_workers)
    if about.facts is not None:
        summary["facts"] = about.facts | {"relations": list(cfg.training.fact_positives)}
    (folder / "metrics.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    notes = {k: v for k, v in summary.items() if k != "epochs"}
    return notes | {"validation": summary["epochs"][progress.best_epoch]["validation"], "peak_mib": peak}


def _summary(progress: "Progress", samples: int, workers: int) -> dict[str, Any]:
    from trawl.training.metrics import plain

    seconds = sum(float(epoch["seconds"]) for epoch in progress.epochs)
    return {
        "epochs": [epoch | {"validation": plain(epoch["validation"])} for epoch in progress.epochs],
        "best_epoch": progress.best_epoch,
        "samples": samples,
        "samples_per_second": round(samples * len(progress.epochs) / max(seconds, 1e-9), 1),
        "workers": workers,
    }


def _catalogue(inputs: Inputs, cfg: Config, about: _About) -> "Catalogue":
    from trawl.model.bundle import Catalogue, catalogued

    return Catalogue(
        users=inputs.mapped("users", ["user_id"]).column("user_id").take(pa.array(about.lexicon.users - 1)),
        items=inputs.mapped("items", ["item_id"]).column("item_id"),
        codes=about.codes,
        knowledge={matrix: knowledge(inputs, matrix) for matrix in catalogued(cfg)},
    )


class Predict:
    """Scores the validation and test rows of a part of the samples."""

    def __init__(self, inputs: Inputs, cfg: Config) -> None:
        from trawl.model.bundle import precision
        from trawl.training.batches import kept_rows
        from trawl.training.corpus import build_world
        from trawl.training.loading import behaviour_of, streams
        from trawl.training.machine import settle
        from trawl.training.slices import item_counts

        settle(cfg.resources.threads)
        self.inputs, trained = inputs, _trained(inputs)
        whole = tables(inputs, cfg)
        self.cold: npt.NDArray[np.bool_] | None = whole.cold
        self.model = trained.model()
        self.world = build_world(whole, trained.lexicon, precision(trained.cfg))
        kept, stream = kept_rows(whole), streams(inputs, cfg)
        self.behaviour = behaviour_of(inputs, trained.cfg, whole, kept, trained.lexicon, stream)
        self.counts = item_counts(whole, kept)
        self.events = inputs.array("cutoffs", "events")
        texts = [known.text for name, known in whole.knowledge.items() if name != "user"]
        self.text: npt.NDArray[np.bool_] | None = np.any(texts, axis=0) if texts else None

    def __call__(self, task: Task) -> pa.Table:
        from trawl.training.loop import score

        rows = self.inputs.part("samples", task.number)
        rows = rows.filter(pc.is_in(rows["split"], pa.array([VALID, TEST])))
        user, position, item, label = (rows[name].to_numpy() for name in ("user", "position", "item", "label"))
        scores = score(self.model, self.world, self.behaviour, self.behaviour.rows(user, position, item, label))
        columns = {
            "cold": pa.array(self.cold[item] if self.cold is not None else np.zeros(len(item), dtype=bool)),
            "item_count": pa.array(self.counts[item]),
            "user_count": pa.array(self.events[user - 1]),
            "has_text": pa.nulls(len(item), pa.bool_()) if self.text is None else pa.array(self.text[item]),
            "score": pa.array(scores),
        }
        for name, column in columns.items():
            rows = rows.append_column(name, column)
        return rows


def _trained(inputs: Inputs) -> "Bundle":
    from trawl.model.bundle import parse

    parts = {part.path: part for part in inputs.parts("model")}
    where = inputs.store.path("model", inputs.fingerprints["model"])
    return parse(lambda name: inputs.part_bytes("model", parts[name]), where, ids=False)


def predict(inputs: Inputs, cfg: Config) -> Worker:
    """The worker of `predictions`."""
    return Predict(inputs, cfg)


MODEL = Stage(artifact="model", version=3, plan=no_tasks, reads=reads, keys=keys, folder=train, gpus=gpus)
PREDICTIONS = Stage(
    artifact="predictions",
    version=3,
    plan=per_part("samples"),
    reads=scored,
    worker=predict,
)
STAGES = (MODEL, PREDICTIONS)
