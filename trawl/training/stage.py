"""Room 6b: `model`, a folder with the trained model, and `predictions` of the validation and test rows."""

import json
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
from trawl.schemas import TEST, VALID
from trawl.stage import Stage, Task, Worker, per_part

if TYPE_CHECKING:
    from trawl.model.bundle import Bundle, Catalogue
    from trawl.training.loop import Progress
    from trawl.training.material import About


def reads(cfg: Config) -> tuple[str, ...]:
    """The behaviour, and of the knowledge just what the recipe switches on."""
    facts = ("facts",) if uses.shares_facts(cfg) else ()
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


def train(inputs: Inputs, cfg: Config, folder: Path) -> dict[str, Any]:
    """Fill the folder with the bundle's files and metrics.json. The test split is not read."""
    from trawl.model import bundle
    from trawl.training.loop import new_model
    from trawl.training.material import about_of, learned, material, surveyed
    from trawl.training.trainer import train_here, train_on_ray

    alone = cfg.resources.launcher == "task"
    if alone:
        lexicon, found = learned(inputs, cfg)
        model, about = new_model(lexicon.sizes(), cfg, found.start), about_of(lexicon, found)
        progress, peak = train_here(model, found, cfg, inputs.store, inputs.work)
    else:
        about = surveyed(inputs, cfg)
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


def _catalogue(inputs: Inputs, cfg: Config, about: "About") -> "Catalogue":
    from trawl.model.bundle import Catalogue, catalogued
    from trawl.training.material import knowledge

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
        from trawl.training.material import tables
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
