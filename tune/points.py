"""What a study tries: points of (w_user, w_item, temperature) around an arm of the recipe, and their cells.

w_user, w_item and temperature are w1, w2 and tau of T's equations 2 and 3.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from trawl import arms, experiment, uses
from trawl.config import Config
from trawl.errors import ConfigError
from trawl.runs import Cell

AXES = ("w_user", "w_item", "temperature")
BASELINE, BASE = "baseline", "base"


@dataclass(frozen=True)
class Point:
    """A name and the values of all three axes."""

    name: str
    values: Mapping[str, float]

    @property
    def changes(self) -> dict[str, float]:
        """As keys of the recipe."""
        return {f"training.{axis}": value for axis, value in self.values.items()}


def base(cfg: Config) -> Config:
    """The recipe with the values of `search.arm`, each training in one process.

    Raises ConfigError for an arm that is not there or has nothing to search, and for several training workers.
    """
    name, known = cfg.search.arm, arms.chosen(cfg)
    if cfg.resources.training_workers > 1:
        raise ConfigError(
            f"resources.training_workers = {cfg.resources.training_workers}: a trial of a study trains in one process; "
            "set it to 1, and resources.parallel_cells to the number of trials that train side by side"
        )
    if name in known.left_out:
        raise ConfigError(f"search.arm = {name!r} is left out: {known.left_out[name]}")
    if name and name not in known.arms:
        there = (
            ", ".join((*known.arms, *known.left_out)) if cfg.experiment.arms or cfg.experiment.cross else "it has none"
        )
        raise ConfigError(f"search.arm = {name!r} is no arm of the recipe ({there})")
    found = cfg.override(*arms.changes_of(known.arms[name])) if name else cfg
    found = found.override(("resources.launcher", "task"))
    if not searched(found):
        raise ConfigError(
            f"search.arm = {name!r} has no adapter that a contrastive loss could train, or search names no values for "
            f"it; set search.arm to an arm with knowledge and an adapter ({', '.join(known.arms)})"
        )
    return found


def searched(cfg: Config) -> list[str]:
    """The axes that this recipe searches: those with values that have an adapter to act on."""
    if cfg.model.adapter == "raw":
        return []
    sides = [axis for side, axis in (("user", "w_user"), ("item", "w_item")) if uses.adapts(cfg, _side(side))]
    there = [*sides, "temperature"] if sides else []
    return [axis for axis in AXES if axis in there and getattr(cfg.search, axis)]


def _side(name: str) -> uses.Side:
    return "user" if name == "user" else "item"


def own(cfg: Config) -> dict[str, float]:
    """The values of a recipe; a weight without an adapter is 0."""
    return {
        "w_user": cfg.training.w_user if uses.adapts(cfg, "user") else 0.0,
        "w_item": cfg.training.w_item if uses.adapts(cfg, "item") else 0.0,
        "temperature": cfg.training.temperature,
    }


def baseline(cfg: Config) -> Point:
    """The arm without the contrastive loss."""
    return Point(BASELINE, own(cfg) | {"w_user": 0.0, "w_item": 0.0})


def planned(cfg: Config) -> list[Point]:
    """The points that are known before the first trial, the baseline first. Raises ConfigError."""
    if cfg.search.method == "optuna":
        return [baseline(cfg)]
    return [baseline(cfg), *(_one_at_a_time(cfg) if cfg.search.method == "one-at-a-time" else _random(cfg))]


def _one_at_a_time(cfg: Config) -> list[Point]:
    """T's Figure 3: each axis over its values while the others keep the arm's."""
    centre, axes = own(cfg), searched(cfg)
    if not (centre["w_user"] or centre["w_item"]):
        raise ConfigError(
            f"search.arm = {cfg.search.arm!r} has training.w_user = training.w_item = 0: there is no loss to vary "
            "one value of; choose an arm with the contrastive loss, or search.method = random"
        )
    points = [Point(BASE, centre)]
    for axis in axes:
        values = sorted(set(getattr(cfg.search, axis)) - {centre[axis]})
        points += [Point(f"{axis}={value:g}", centre | {axis: value}) for value in values]
    return [point for point in points if point.values["w_user"] or point.values["w_item"]]


def _random(cfg: Config) -> list[Point]:
    """Log-uniform over the ranges. The seed decides all of them; with more trials the first stay the same."""
    found = ranges(cfg)
    axes = [axis for axis, _ in found]
    low, high = np.log([ends for _, ends in found]).T
    drawn = np.exp(np.random.default_rng(cfg.search.seed).uniform(low, high, (cfg.search.trials, len(axes))))
    rows = [dict(zip(axes, (float(value) for value in row), strict=True)) for row in drawn]
    return [Point(numbered(number), own(cfg) | row) for number, row in enumerate(rows, 1)]


def ranges(cfg: Config) -> list[tuple[str, tuple[float, float]]]:
    """The searched axes with the ends of their ranges."""
    lists = [(axis, getattr(cfg.search, axis)) for axis in searched(cfg)]
    return [(axis, (min(values), max(values))) for axis, values in lists]


def numbered(number: int) -> str:
    return f"trial-{number:03d}"


def far_end(cfg: Config) -> Point:
    """Every searched axis at its largest: needs all tables that any point needs."""
    return Point("far end", own(cfg) | {axis: ends[1] for axis, ends in ranges(cfg)})


def cells(cfg: Config, points: Iterable[Point], repetitions: int, until: str = "model") -> list[Cell]:
    """The cells of the experiment whose arms are these points."""
    return experiment.expand(with_arms(cfg, points, repetitions), until)


def with_arms(cfg: Config, points: Iterable[Point], repetitions: int) -> Config:
    """The recipe whose arms are these points, the first of them the reference."""
    named = {point.name: {"training": dict(point.values)} for point in points}
    return cfg.override(
        ("experiment.arms", named),
        ("experiment.cross", {}),
        ("experiment.repetitions", repetitions),
        ("experiment.reference", next(iter(named))),
    )
