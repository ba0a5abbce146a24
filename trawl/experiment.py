"""Arms x repetitions -> one DAG in which equal fingerprints run once; results cell by cell; comparisons at the end.

A recipe without arms is an experiment of one arm. Repetition r draws the split and the initialisation: it adds r to
data.split_seed and training.seed. Searches and paper tables stand on this: there is no second loop.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from trawl import pipeline
from trawl.config import Config, flat
from trawl.errors import ConfigError
from trawl.runs import Cell, Run, claim
from trawl.stage import Executor, Outcome
from trawl.store import Store

_LAST = ("model", "predictions")  # what is a cell's own; everything upstream is shared


@dataclass(frozen=True)
class Listener:
    """Who hears of progress: each stage with the cell it was made for, each finished cell."""

    stage: Callable[[Outcome, Cell], None]
    cell: Callable[[dict[str, Any]], None]


def expand(cfg: Config, until: str = "") -> list[Cell]:
    """The cells of a recipe, arms in their order within each repetition. Raises ConfigError naming the arm."""
    arms = cfg.experiment.arms or {"default": {}}
    if cfg.experiment.reference and cfg.experiment.reference not in arms:
        raise ConfigError(f"experiment.reference = {cfg.experiment.reference!r} is no arm ({', '.join(arms)})")
    cells = []
    for repetition in range(cfg.experiment.repetitions):
        for arm, changes in arms.items():
            try:
                mine = cfg.override(*flat(changes).items())
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
        _shared(cells, store, executor, opened, listener)
        if "predictions" in cells[0].fingerprints:
            _cells(cfg, cells, store, executor, opened, listener)
            opened.write("comparisons.json", comparisons(cfg, cells, store))
    except BaseException:
        opened.state("failed")
        raise
    opened.state("done")
    return opened


def _shared(cells: list[Cell], store: Store, executor: Executor, opened: Run, listener: Listener) -> None:
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

        pipeline.run(pipeline.Plan(cell.cfg, cell.fingerprints), store, executor, tell, fresh)


def _cells(cfg: Config, cells: list[Cell], store: Store, executor: Executor, opened: Run, listener: Listener) -> None:
    """Train and evaluate; cells with the same model share it; side by side where the recipe says so."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.fingerprints["predictions"], []).append(cell)

    def work(group: list[Cell]) -> None:
        for cell in group:
            row = _cell(cell, store, executor, opened, listener)
            opened.add_result(row)
            listener.cell(row)

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
    for row in opened.results():  # finished before an interruption
        if (row["arm"], row["repetition"], row["predictions"]) == (
            cell.arm,
            cell.repetition,
            cell.fingerprints["predictions"],
        ):
            return row

    def tell(outcome: Outcome) -> None:
        opened.log(outcome, cell)
        listener.stage(outcome, cell)

    pipeline.run(pipeline.Plan(cell.cfg, cell.fingerprints), store, executor, tell, lambda name: name in _LAST)
    return result_row(cell, store)


def result_row(cell: Cell, store: Store) -> dict[str, Any]:
    """A finished cell as a row of result.json; metrics are exact over all rows of the predictions."""
    from trawl.training.evaluate import evaluate

    manifest = store.manifest("model", cell.fingerprints["model"])
    assert manifest is not None
    source = cell.cfg.extraction.source
    used = source != "none"
    return {
        "arm": cell.arm,
        "repetition": cell.repetition,
        "backbone": cell.cfg.model.backbone,
        "knowledge": source,
        "injection": cell.cfg.model.injection if used else "none",
        "contrastive": used and (cell.cfg.training.w_user > 0 or cell.cfg.training.w_item > 0),
        "model": cell.fingerprints["model"],
        "predictions": cell.fingerprints["predictions"],
        "epochs": manifest.notes.get("epochs"),
        "seconds": manifest.seconds,
        **evaluate(store, cell.fingerprints["predictions"]),
    }


def comparisons(cfg: Config, cells: list[Cell], store: Store) -> list[dict[str, Any]]:
    """Paired differences of each arm from the reference, within splits, with intervals and Holm's correction."""
    from trawl.training.evaluate import compare

    arms = list(dict.fromkeys(cell.arm for cell in cells))
    reference = cfg.experiment.reference or arms[0]
    marks = {arm: [c.fingerprints["predictions"] for c in cells if c.arm == arm] for arm in arms}
    others = {arm: mine for arm, mine in marks.items() if arm != reference}
    if not others or not cfg.experiment.bootstrap:
        return []
    return compare(store, reference, marks[reference], others, resamples=cfg.experiment.bootstrap)
