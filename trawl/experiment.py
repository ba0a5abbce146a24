"""Arms x repetitions -> one DAG in which equal fingerprints run once; results cell by cell; comparisons at the end.

A recipe without arms is an experiment of one arm. Repetition r draws the split and the initialisation: it adds r to
data.split_seed and training.seed. Searches and paper tables stand on this: there is no second loop.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from trawl import pipeline, uses
from trawl.arms import changes_of, chosen
from trawl.config import Config
from trawl.errors import ConfigError
from trawl.inputs import Inputs
from trawl.runs import Cell, Run, claim
from trawl.stage import Executor, Outcome
from trawl.store import Store

# What is a cell's own; everything upstream is shared.
_LAST = ("model", "predictions", "item_vectors", "user_vectors", "item_neighbours")


@dataclass(frozen=True)
class Listener:
    """Who hears of progress: each stage with the cell it was made for, each finished cell."""

    stage: Callable[[Outcome, Cell], None]
    cell: Callable[[dict[str, Any]], None]
    cells: Callable[[int], None] = lambda count: None  # before the first cell: how many there are


def expand(cfg: Config, until: str = "") -> list[Cell]:
    """The cells of a recipe, arms in their order within each repetition. Raises ConfigError naming the arm."""
    arms = chosen(cfg).arms
    if not arms:
        raise ConfigError("experiment.arms: every arm is left out, the keys that they need are empty")
    if cfg.experiment.reference and cfg.experiment.reference not in arms:
        raise ConfigError(f"experiment.reference = {cfg.experiment.reference!r} is no arm ({', '.join(arms)})")
    cells = []
    for repetition in range(cfg.experiment.repetitions):
        for arm, changes in arms.items():
            try:
                mine = cfg.override(*changes_of(changes))
            except ConfigError as error:
                raise ConfigError(f"arm {arm!r}: {error}") from None
            mine = mine.override(
                ("data.split_seed", mine.data.split_seed + repetition),
                ("training.seed", mine.training.seed + repetition),
            )
            cells.append(Cell(arm, repetition, mine, pipeline.plan(mine, until).fingerprints))
    return cells


def run(
    cfg: Config, store: Store, name: str, make: Callable[[Config], Executor], listener: Listener, until: str = ""
) -> Run:
    """Run a recipe under a name; an interrupted run goes on where it stood.

    `make` opens the executor once the recipe and the name are known to be good. Raises the errors of trawl.errors.
    """
    cells = expand(cfg, until)
    opened = claim(store, name, cfg, cells)
    try:
        executor = make(cfg)
        upstream(cells, store, executor, opened, listener)
        if "predictions" in cells[0].fingerprints:
            train(cfg, cells, store, executor, opened, listener)
            opened.write("comparisons.json", comparisons(cfg, cells, store, executor))
        else:  # `until` ends before the predictions: what it names of a cell's own
            for cell in {tuple(c.fingerprints.items()): c for c in cells}.values():
                _make(cell, store, executor, opened, listener)
    except BaseException:
        opened.failed()
        raise
    opened.state("done")
    return opened


def upstream(cells: list[Cell], store: Store, executor: Executor, opened: Run, listener: Listener) -> None:
    """Everything upstream of training, each fingerprint once, in the order of the pipeline."""
    seen: set[tuple[str, str]] = set()
    for cell in cells:

        def fresh(artifact: str, cell: Cell = cell) -> bool:
            key = (artifact, cell.fingerprints[artifact])
            new = key not in seen and artifact not in _LAST
            seen.add(key)
            return new

        def tell(outcome: Outcome, cell: Cell = cell) -> None:
            opened.log(outcome, cell)
            listener.stage(outcome, cell)

        named = cell.cfg.model_copy(update={"name": opened.name})  # what is counted is counted for the run
        pipeline.run(pipeline.Plan(named, cell.fingerprints), store, executor, tell, fresh)


def train(cfg: Config, cells: list[Cell], store: Store, executor: Executor, opened: Run, listener: Listener) -> None:
    """Train and evaluate; cells with the same model share it; side by side where the recipe says so."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.fingerprints["predictions"], []).append(cell)

    def work(group: list[Cell]) -> None:
        for cell in group:
            row = _cell(cell, store, executor, opened, listener)
            opened.add_result(row)
            listener.cell(row)

    listener.cells(len(cells))
    side_by_side = cfg.resources.launcher == "task" and cfg.resources.executor == "ray"
    with ThreadPoolExecutor(cfg.resources.parallel_cells if side_by_side else 1) as pool:
        futures = [pool.submit(work, group) for group in groups.values()]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    order = {cell.name: number for number, cell in enumerate(cells)}
    opened.write(
        "result.json", sorted(opened.results(), key=lambda r: order.get(f"{r['arm']}/{r['repetition']}", len(order)))
    )


def _cell(cell: Cell, store: Store, executor: Executor, opened: Run, listener: Listener) -> dict[str, Any]:
    mark = cell.fingerprints["predictions"]
    due = [(artifact, cell.fingerprints[artifact]) for artifact in _LAST if artifact in cell.fingerprints]
    if all(store.manifest(*key) for key in due):  # perhaps finished before an interruption
        for row in opened.results():
            if (row["arm"], row["repetition"], row["predictions"]) == (cell.arm, cell.repetition, mark):
                return row

    _make(cell, store, executor, opened, listener)
    return result_row(cell, store, executor.call(measured, store, cell.fingerprints["predictions"]))


def _make(cell: Cell, store: Store, executor: Executor, opened: Run, listener: Listener) -> None:
    """What is a cell's own."""

    def tell(outcome: Outcome) -> None:
        opened.log(outcome, cell)
        listener.stage(outcome, cell)

    pipeline.run(pipeline.Plan(cell.cfg, cell.fingerprints), store, executor, tell, lambda name: name in _LAST)


def result_row(cell: Cell, store: Store, metrics: dict[str, Any]) -> dict[str, Any]:
    """A finished cell as a row of result.json."""
    manifest = store.manifest("model", cell.fingerprints["model"])
    assert manifest is not None
    used = uses.knowledge(cell.cfg)
    return {
        "arm": cell.arm,
        "repetition": cell.repetition,
        "backbone": cell.cfg.model.backbone,
        "knowledge": uses.named(cell.cfg),
        "injection": cell.cfg.model.injection if used else "none",
        "contrastive": any(uses.weight(cell.cfg, side) > 0 for side in uses.SIDES),
        "similarity": uses.seen(cell.cfg),
        "model": cell.fingerprints["model"],
        "predictions": cell.fingerprints["predictions"],
        "best_epoch": manifest.notes["best_epoch"],
        "seconds": manifest.seconds,
        **metrics,
    }


def measured(store: Store, predictions: str) -> dict[str, Any]:
    """Metrics of a predictions table, exact over all its rows; on a worker, since the table may be large."""
    from trawl.training.evaluate import evaluate

    return evaluate(Inputs(store, {"predictions": predictions}).table("predictions"))


def comparisons(cfg: Config, cells: list[Cell], store: Store, executor: Executor) -> list[dict[str, Any]]:
    """Paired differences of each arm from the reference, within splits, with intervals and Holm's correction."""
    arms = list(dict.fromkeys(cell.arm for cell in cells))
    reference = cfg.experiment.reference or arms[0]
    if len(arms) < 2 or not cfg.experiment.bootstrap:
        return []
    from trawl.training import comparing

    marks = {arm: [c.fingerprints["predictions"] for c in cells if c.arm == arm] for arm in arms}
    parts = ("all", "warm", "cold") if cells[0].cfg.data.cold_items > 0 else ("all",)
    rows = []
    for part in parts:
        rows += executor.call(comparing.compared, store, reference, marks, part, cfg.experiment.bootstrap)
    sliced = executor.call(comparing.compared_slices, store, reference, marks, cfg.experiment.bootstrap)
    return comparing.over_the_table(rows) + comparing.over_the_table(sliced)
