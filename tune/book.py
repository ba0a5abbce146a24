"""The book of a study, trials.json: each trial's values, course and state. What it says is done is not done again.

Tune's own record of an experiment is a pickle, and nothing in a store is unpickled. So Tune keeps none that is read
again: a study that goes on reads this book, and the models that are published, whatever became of the driver.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from trawl.errors import ArtifactError
from trawl.runs import Cell, Run
from trawl.store import Store
from tune.points import BASELINE, Point

FILE = "trials.json"
State = Literal["waiting", "running", "finished", "stopped", "failed"]


@dataclass
class Trial:
    """A cell of the study. `epochs`: the records of training/loop, of a stopped trial those up to the stop."""

    name: str
    repetition: int
    values: dict[str, float]
    model: str  # fingerprint
    state: State = "waiting"
    epochs: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    error: str = ""

    @property
    def key(self) -> str:
        return f"{self.name}/{self.repetition}"

    @property
    def point(self) -> Point:
        return Point(self.name, self.values)

    @property
    def over(self) -> bool:
        return self.state in ("finished", "stopped")

    @property
    def best(self) -> dict[str, Any]:
        """The epoch with the best validation AUC, whose weights are published; empty before the first epoch."""
        return max(self.epochs, key=auc_of, default={})

    @property
    def auc(self) -> float:
        """Validation AUC of that epoch; nan before the first."""
        return auc_of(self.best) if self.epochs else float("nan")


def auc_of(epoch: Mapping[str, Any]) -> float:
    """Validation AUC of an epoch's record; nan where its rows define none."""
    found = epoch["validation"]["auc"]
    return float("nan") if found is None else float(found)


class Book:
    """The trials of a study by key, in the order in which they were thought of, written after each change."""

    def __init__(self, run: Run) -> None:
        """Opens the book that is there. Raises ArtifactError when it cannot be read."""
        self.run = run
        self.cells: dict[str, Cell] = {}
        rows = run.read(FILE) or {"trials": []}
        try:
            found = [Trial(**row) for row in rows["trials"]]
        except (TypeError, KeyError) as error:
            raise ArtifactError(f"{run.path(FILE)}: not the trials of a study ({error}); give another --name") from None
        self.trials: dict[str, Trial] = {trial.key: trial for trial in found}

    def __iter__(self) -> Any:
        return iter(self.trials.values())

    def add(self, cell: Cell, values: Mapping[str, float]) -> Trial:
        """The trial of this cell; as it stands when the book knows it, with this model."""
        key, model = cell.name, cell.fingerprints["model"]
        self.cells[key] = cell
        known = self.trials.get(key)
        if known is None or known.model != model:
            known = self.trials[key] = Trial(cell.arm, cell.repetition, dict(values), model)
        return known

    def left(self) -> list[Trial]:
        """The trials that are not over, the baseline first."""
        return sorted((t for t in self if not t.over), key=lambda t: t.name != BASELINE)

    def look(self, store: Store) -> None:
        """Hold the book against the store: models that are there need no trial, models that are gone need one."""
        for trial in self:
            if store.manifest("model", trial.model):
                self.finish(trial, store)
            elif trial.state != "stopped":
                trial.state, trial.epochs, trial.error = "waiting", [], ""
        self.write()

    def finish(self, trial: Trial, store: Store) -> None:
        """Note what the published model says of its training."""
        manifest = store.manifest("model", trial.model)
        assert manifest is not None
        course = json.loads(store.read_text("model", trial.model, "metrics.json"))
        trial.state, trial.epochs, trial.seconds, trial.error = "finished", course["epochs"], manifest.seconds, ""

    def write(self) -> None:
        self.run.write(FILE, {"trials": [asdict(trial) for trial in self]})

    def points(self) -> dict[str, list[Trial]]:
        """The repetitions of each point."""
        out: dict[str, list[Trial]] = {}
        for trial in self:
            out.setdefault(trial.name, []).append(trial)
        return out


def mean(trials: Iterable[Trial]) -> float:
    """Mean validation AUC; nan when one has none."""
    values = [trial.auc for trial in trials]
    return sum(values) / len(values) if values else float("nan")
