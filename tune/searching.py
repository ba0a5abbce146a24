"""The trials on Ray Tune: functions that train one cell each, in their process, on one CPU.

A Tune function that started Ray Train would hold its CPU while its workers wait for theirs; training where the trial
runs cannot wait for anything. `resources.parallel_cells` of them run side by side. Each tells Tune its epochs, so that
ASHA (Li et al., MLSys 2020) can stop those that lag; a stopped one publishes nothing. The baseline is never stopped.

Nothing is restored from Tune's own files. They lie in a folder of this user outside the store and go with the session;
Optuna and ASHA are told of the trials of earlier sessions from the study's book instead.
"""

import logging
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trawl import pipeline
from trawl.config import Config
from trawl.connection import connect
from trawl.errors import EngineDied, TrawlError
from trawl.executors import Inline
from trawl.inputs import node_folder
from trawl.runs import Cell
from trawl.store import Store
from trawl.training import epochs
from tune import points
from tune.book import Book, Trial, auc_of

_ENV = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # an interrupted study says so, as an interrupted run does
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
_DEATHS = 2  # times that a trial's process may die before the trial is given up
_METRIC = "auc"  # of the best epoch so far on the validation users, whose weights would be published


@dataclass(frozen=True)
class Hooks:
    """What the search calls while it goes on."""

    suggested: Callable[[Mapping[str, float]], Trial]  # a new point of Optuna's, as a trial of the book
    ended: Callable[[Trial], None]


def search(book: Book, cfg: Config, store: Store, hooks: Hooks) -> None:
    """Run the trials that are left, and those that Optuna adds. Raises EngineDied when Tune itself fails."""
    os.environ.update(_ENV)
    connect(cfg)
    import ray
    from ray import tune

    from tune import tuning

    optuna = tuning.optuna_search(book, cfg) if cfg.search.method == "optuna" else None
    left = book.left()
    more = cfg.search.trials - sum(t.name != points.BASELINE for t in book) if optuna else 0
    folder = tempfile.mkdtemp(prefix="tune-", dir=node_folder())
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_trial, cfg=cfg, store=store), {"CPU": 1}),
        tune_config=tune.TuneConfig(
            search_alg=tuning.Suggestions(left, more, optuna, lambda t: _task(t, book.cells[t.key]), hooks.suggested),
            scheduler=tuning.scheduler(book, cfg),
            num_samples=len(left) + more,
            max_concurrent_trials=cfg.resources.parallel_cells,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="study",
            storage_path=folder,
            verbose=0,
            callbacks=[tuning.Listening(book, store, hooks.ended)],
            failure_config=tune.FailureConfig(max_failures=_DEATHS),
        ),
    )
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        tuner.fit()
    except (ray.exceptions.RayError, tune.error.TuneError, tune.TuneError) as error:
        raise EngineDied(f"study: {' '.join(str(error).split())}; the same command goes on where it stood") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _task(trial: Trial, cell: Cell) -> dict[str, Any]:
    """What a trial's process needs beside the recipe and the store."""
    return {
        "trial": trial.key,
        "spared": trial.name == points.BASELINE,
        "changes": trial.point.changes | {key: cell.cfg.get(key) for key in ("data.split_seed", "training.seed")},
        "marks": dict(cell.fingerprints),
    }


def _trial(config: dict[str, Any], *, cfg: Config, store: Store) -> None:
    """Train a cell in this process and tell Tune its epochs; an error is an answer too, one that Tune repeats not."""
    from ray import tune

    mine = cfg.override(*config["changes"].items())
    last = mine.training.epochs
    best = -math.inf

    def hear(record: Mapping[str, Any]) -> None:
        nonlocal best
        best = max(best, float(record["validation"]["auc"]))
        if record["epoch"] + 1 < last:  # after the last one there is nothing to stop
            tune.report({"epoch": record["epoch"] + 1, _METRIC: best, "record": dict(record), "final": False})

    try:
        with epochs.heard_by(hear):
            pipeline.run(
                pipeline.Plan(mine, config["marks"]),
                store,
                Inline(),
                lambda outcome: None,
                lambda name: name == "model",
            )
    except TrawlError as error:
        tune.report({"epoch": 0, _METRIC: math.nan, "final": True, "error": str(error)})
    except Exception as error:  # a fault of the code: the other trials go on
        tune.report({"epoch": 0, _METRIC: math.nan, "final": True, "error": f"{type(error).__name__}: {error}"})
    else:
        manifest = store.manifest("model", config["marks"]["model"])
        assert manifest is not None
        tune.report({"epoch": last, _METRIC: auc_of(manifest.notes), "final": True})
