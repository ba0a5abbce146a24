"""The arms of an experiment: those that a recipe names, and the product of the axes that it crosses.

    [experiment.cross.knowledge]
    raw.extraction.source = "raw"
    given = { needs = "extraction.given", extraction.source = "given" }
    [experiment.cross.adapter]
    linear.model.adapter = "linear"
    moe.model.adapter = "moe"

adds the arms raw+linear, raw+moe, given+linear and given+moe behind the named ones. Each level has to be valid alone;
a product of levels that the recipe's own rules refuse is no arm, and its reason is told.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from trawl.config import Config, flat
from trawl.errors import ConfigError

JOIN = "+"
_NEEDS = "needs"


@dataclass(frozen=True)
class Arms:
    """Overrides by arm, and what is left out with the reason of each."""

    arms: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def chosen(cfg: Config) -> Arms:
    """The arms of a recipe in their order. Raises ConfigError for a level of an axis that is wrong by itself."""
    found = Arms()
    for arm, changes in cfg.experiment.arms.items():
        _take(found, arm, dict(flat(changes)), cfg)
    for arm, changes in _crossed(cfg).items():
        if arm in cfg.experiment.arms:
            raise ConfigError(f"experiment.cross: {arm!r} is also a name under experiment.arms; rename that arm")
        before = set(found.arms)
        _take(found, arm, changes, cfg)
        if arm in set(found.arms) - before:
            try:
                cfg.override(*changes_of(found.arms[arm]))
            except ConfigError as error:
                del found.arms[arm]
                found.left_out[arm] = str(error).removeprefix("recipe: ")
    if not found.arms and not found.left_out:
        found.arms["default"] = {}
    return found


def changes_of(arm: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Overrides in the form that Config.override takes."""
    return list(flat(arm).items())


def _take(found: Arms, arm: str, changes: dict[str, Any], cfg: Config) -> None:
    """Into the arms, or among those left out because a key that it needs is empty."""
    needs = changes.pop(_NEEDS, [])
    empty = [key for key in ([needs] if isinstance(needs, str) else needs) if not cfg.get(str(key))]
    if empty:
        found.left_out[arm] = f"{', '.join(map(str, empty))} is not set"
    else:
        found.arms[arm] = changes


def _crossed(cfg: Config) -> dict[str, dict[str, Any]]:
    axes = cfg.experiment.cross
    levels = [[(name, _level(cfg, axis, name, tree)) for name, tree in names.items()] for axis, names in axes.items()]
    if not axes:
        return {}
    out = {}
    for some in product(*levels):
        merged: dict[str, Any] = {}
        needs: list[str] = []
        for _, changes in some:
            needs += [changes[_NEEDS]] if isinstance(changes.get(_NEEDS), str) else changes.get(_NEEDS, [])
            merged |= changes
        out[JOIN.join(name for name, _ in some)] = merged | ({_NEEDS: needs} if needs else {})
    return out


def _level(cfg: Config, axis: str, name: str, tree: Mapping[str, Any]) -> dict[str, Any]:
    """A level's changes. What it needs may be unset: then the arms that have it are left out, not refused."""
    changes = flat(tree)
    alone = Arms()
    _take(alone, name, dict(changes), cfg)
    try:
        cfg.override(*alone.arms.get(name, {}).items())
    except ConfigError as error:
        raise ConfigError(f"experiment.cross.{axis}.{name}: {error}") from None
    return changes
