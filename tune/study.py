"""A study from a recipe to its result; the same command again goes on where it stood.

    upstream    every table that a trial needs is made once, by the pipeline, before the first trial
    trials      the model of each cell, on Ray Tune (tune/searching.py); validation AUC is all that is looked at
    test        the best point and the baseline, two arms of an experiment: predictions, test metrics, intervals

It leaves <store>/runs/<study>/: run.json, trials.json (tune/book.py), result.json and comparisons.json of the two
arms, best.toml, study.html, log.jsonl. The models of all trials are artifacts like any other.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trawl import executors, experiment, printing
from trawl.config import Config
from trawl.errors import Failed, StoreError, TrawlError
from trawl.progress import Progress, Watched
from trawl.runs import Cell, Run, claim
from trawl.stage import Executor
from trawl.store import Store
from tune import page, points, recipe, searching
from tune.book import Book, Trial
from tune.result import BEST, Result, best_point


@dataclass
class _Study:
    cfg: Config  # the recipe as it was given
    base: Config  # with the values of the arm
    store: Store
    name: str
    progress: Progress

    def open(self) -> None:
        """Claim the name and open the book with every trial that is known. Raises RunNameTaken, ConfigError."""
        known = points.cells(self.base, points.planned(self.base), self.cfg.search.repetitions)
        self.run = claim(self.store, self.name, self.cfg, known, study=True)
        self.book = Book(self.run)
        values = {point.name: point.values for point in points.planned(self.base)}
        for cell in known:
            self.book.add(cell, values[cell.arm])
        for trial in list(self.book):
            if trial.name not in values:  # Optuna's, of an earlier session
                self._add(trial.point)
        self.book.look(self.store)
        self._claim()

    def _add(self, point: points.Point) -> Trial:
        (cell,) = points.cells(self.base, [point], 1)
        return self.book.add(cell, point.values)

    def _claim(self, tested: Sequence[Cell] = ()) -> None:
        """Name every artifact of the study in run.json, so that `trawl gc` keeps it."""
        cells = self.book.cells | {cell.name: cell for cell in tested}  # the tested baseline has predictions besides
        claim(self.store, self.name, self.cfg, list(cells.values()), study=True)

    def suggested(self, values: Mapping[str, float]) -> Trial:
        number = sum(trial.name != points.BASELINE for trial in self.book) + 1
        trial = self._add(points.Point(points.numbered(number), points.own(self.base) | dict(values)))
        self._claim()
        return trial

    def ended(self, trial: Trial) -> None:
        self.progress.above(_trial_line)(trial)
        self.progress.cell()

    def upstream(self, executor: Executor) -> None:
        cells = list(self.book.cells.values())
        if self.cfg.search.method == "optuna":
            cells += points.cells(self.base, [points.far_end(self.base)], 1)
        experiment.upstream(cells, self.store, executor, self.run, self._listener())

    def _listener(self) -> experiment.Listener:
        return experiment.Listener(self.progress.above(printing.stage_line), lambda row: None)

    def search(self) -> None:
        """Run what is left of the trials. Raises Failed when some could not be trained."""
        more = self.cfg.search.trials if self.cfg.search.method == "optuna" else 0
        count = max(len(self.book.trials), more + 1)
        left = count - sum(trial.over for trial in self.book)
        if left:
            self.progress.cells(left)
            searching.search(self.book, self.base, self.store, searching.Hooks(self.suggested, self.ended))
        failed = [trial for trial in self.book if trial.state == "failed"]
        if failed:
            raise Failed(
                f"study {self.name}: {len(failed)} of {len(self.book.trials)} trials failed, first {failed[0].key}: "
                f"{failed[0].error}; the same command tries them again"
            )

    def _arms(self, best: points.Point) -> tuple[Config, list[Cell]]:
        """The experiment of the baseline and the best point."""
        two = [points.baseline(self.base), points.Point(BEST, best.values)]
        cfg = points.with_arms(self.base, two, self.cfg.search.repetitions)
        return cfg, experiment.expand(cfg, "predictions")

    def tested(self) -> bool:
        """Nothing is left to do: every trial is over, and what the two arms were tested with is still there."""
        asked = self.cfg.search.trials + 1 if self.cfg.search.method == "optuna" else 0
        if self.book.left() or len(self.book.trials) < asked:
            return False
        _, cells = self._arms(best_point(self.book))
        self._claim(cells)
        marks = {cell.name: cell.fingerprints["predictions"] for cell in cells}
        there = {f"{row['arm']}/{row['repetition']}": row["predictions"] for row in self.run.results()}
        return marks == there and all(self.store.manifest("predictions", mark) for mark in marks.values())

    def test(self, executor: Executor) -> None:
        """Test metrics of the best point and of the baseline, of nothing else."""
        best = best_point(self.book)
        cfg, cells = self._arms(best)
        self._claim(cells)
        experiment.train(cfg, cells, self.store, executor, self.run, self._listener())
        self.run.write("comparisons.json", experiment.comparisons(cfg, cells, self.store, executor))
        self.store.write_text(recipe.text(self.base, best, self.name), "runs", self.name, recipe.FILE)


def run(cfg: Config, store: Store, name: str, progress: Progress) -> Result:
    """Run a study under a name, or go on with it. Raises the errors of trawl.errors."""
    base = points.base(cfg)
    for axis in (a for a in points.AXES if getattr(cfg.search, a) and a not in points.searched(base)):
        print(f"{axis} is not searched: arm {cfg.search.arm!r} has no adapter on that side", file=sys.stderr)
    study = _Study(cfg, base, store, name, progress)
    was_done = _done(store, name)
    study.open()
    try:
        if not (was_done and study.tested()):
            executor = Watched(executors.executor(base), progress)
            study.upstream(executor)
            study.search()
            study.test(executor)
    except BaseException as error:
        study.run.failed()
        # Who interrupts does not wait for pictures, and a store that failed takes none.
        if isinstance(error, TrawlError) and not isinstance(error, StoreError):
            page.build(Result(study.run, base, study.book))
        raise
    study.run.state("done")
    result = Result(study.run, base, study.book)
    page.build(result)
    return result


def _done(store: Store, name: str) -> bool:
    record = Run(store, name).read("run.json")
    return bool(record) and record["state"] == "done"


def _trial_line(trial: Trial) -> None:
    """One line on stderr per trial that is over."""
    auc = f"validation AUC {trial.auc:.4f}" if trial.epochs else ""
    print(
        f"  {trial.key:<28} {trial.state:<9} {len(trial.epochs)} epochs {trial.seconds:7.1f} s  {auc}{trial.error}",
        file=sys.stderr,
        flush=True,
    )
