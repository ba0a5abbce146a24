"""What Ray Tune calls: who suggests the next trial, who stops one, who writes down what became of it.

Imported after the cluster is there: it loads Tune, and Optuna where that suggests.
"""

import math
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Self

from ray.tune import Callback
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from trawl.config import Config
from trawl.store import Store
from tune import points
from tune.book import Book, Trial, auc_of

METRIC, TIME = "auc", "epoch"


class _Unkept:
    """Tune pickles what it is given, to restore it; here nothing is restored from that, so nothing goes into it."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class Suggestions(_Unkept, Searcher):  # type: ignore[misc]
    """First the trials that the book has left, then what Optuna proposes."""

    def __init__(
        self,
        left: list[Trial],
        more: int,
        optuna: Any,
        task: Callable[[Trial], dict[str, Any]],
        suggested: Callable[[Mapping[str, float]], Trial],
    ) -> None:
        super().__init__(metric=METRIC, mode="max")
        self.left, self.more, self.optuna = list(left), more, optuna
        self.task, self.suggested = task, suggested
        self.again: dict[str, Trial] = {}  # Tune's id -> a trial that Optuna proposed in an earlier session
        self.proposed: set[str] = set()

    def suggest(self, trial_id: str) -> Any:
        if self.left:
            trial = self.left.pop(0)
            if self.optuna and trial.name != points.BASELINE:
                self.again[trial_id] = trial
            return self.task(trial)
        if self.more <= 0:
            return Searcher.FINISHED
        self.more -= 1
        self.proposed.add(trial_id)
        return self.task(self.suggested(self.optuna.suggest(trial_id)))

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if trial_id in self.proposed and not math.isnan(result[METRIC]):
            self.optuna.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        good = bool(result) and not error and not math.isnan((result or {})[METRIC])
        if trial_id in self.proposed:
            self.optuna.on_trial_complete(trial_id, result if good else None, error=not good)
        elif trial_id in self.again and good and result:
            _remember(self.optuna, self.again[trial_id], result[METRIC])

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a study that goes on reads its book."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a study goes on from its book")


def optuna_search(book: Book, cfg: Config) -> Any:
    """Optuna's TPE sampler (Bergstra et al., NeurIPS 2011), told of the trials that are over.

    Its seed moves with their number: a session that began like the first one would propose the same points again.
    """
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = {axis: optuna.distributions.FloatDistribution(*ends, log=True) for axis, ends in points.ranges(cfg)}
    known = [trial for trial in book if trial.name != points.BASELINE]
    found = OptunaSearch(space, metric=METRIC, mode="max", seed=cfg.search.seed + len(known))
    for trial in known:
        if trial.over and not math.isnan(trial.auc):
            _remember(found, trial, trial.auc)
    return found


def _remember(optuna: Any, trial: Trial, auc: float) -> None:
    ends = {axis: (space.low, space.high) for axis, space in optuna._space.items()}
    optuna.add_evaluated_point({a: min(max(trial.values[a], low), high) for a, (low, high) in ends.items()}, auc)


class _Halving(AsyncHyperBandScheduler):  # type: ignore[misc]
    """ASHA that lets the baseline alone, and trials that have finished and only say so."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if trial.config["spared"] or math.isnan(result[METRIC]):
            return str(TrialScheduler.CONTINUE)
        decision = super().on_trial_result(tune_controller, trial, result)
        return str(TrialScheduler.CONTINUE if result["final"] else decision)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if trial.config["spared"] or math.isnan(result.get(METRIC, math.nan)):
            return
        super().on_trial_complete(tune_controller, trial, result)


def scheduler(book: Book, cfg: Config) -> Any:
    """ASHA for random and Optuna, told of the trials that are over; none for one at a time, where all are shown."""
    search, longest = cfg.search, cfg.training.epochs
    if search.method == "one-at-a-time" or not 0 < search.grace_epochs < longest:
        return FIFOScheduler()
    found = _Halving(
        time_attr=TIME,
        metric=METRIC,
        mode="max",
        max_t=longest + 1,  # at max_t it would stop trials that are about to publish
        grace_period=search.grace_epochs,
        reduction_factor=search.reduction,
    )
    for trial in book:
        if trial.over and trial.name != points.BASELINE:
            past, best = SimpleNamespace(trial_id=trial.key, config={"spared": False}), -math.inf
            found.on_trial_add(None, past)
            for epoch in trial.epochs:
                best = max(best, auc_of(epoch))
                found.on_trial_result(None, past, {TIME: epoch["epoch"] + 1, METRIC: best, "final": False})
    return found


class Listening(_Unkept, Callback):  # type: ignore[misc]
    """Writes the book. A trial that ends before its final word was stopped; what it left is removed."""

    def __init__(self, book: Book, store: Store, ended: Callable[[Trial], None]) -> None:
        self.book, self.store, self.ended = book, store, ended
        self.last: dict[str, dict[str, Any]] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        mine = self._of(trial)
        mine.state, mine.epochs, mine.error = "running", [], ""
        self.book.write()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.last[trial.trial_id] = result
        if "record" in result:
            self._of(trial).epochs.append(dict(result["record"]))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        mine, last = self._of(trial), self.last.get(trial.trial_id, {})
        if last.get("error"):
            mine.state, mine.error = "failed", last["error"]
        elif last.get("final"):
            self.book.finish(mine, self.store)
        else:
            mine.state, mine.seconds = "stopped", round(float(last.get("time_total_s", 0.0)), 3)
            if not self.store.manifest("model", mine.model):
                self.store.remove("model", mine.model)
        self._over(mine)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        mine = self._of(trial)
        mine.state, mine.error = "failed", "its process died; see the workers' logs"
        self._over(mine)

    def _over(self, trial: Trial) -> None:
        self.book.write()
        self.ended(trial)

    def _of(self, trial: Any) -> Trial:
        return self.book.trials[trial.config["trial"]]
