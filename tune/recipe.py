"""The best point as a recipe: the keys that differ from the defaults, and the arms `baseline` and `best`."""

import json
import re
from collections.abc import Mapping
from typing import Any

from trawl.config import Config
from tune import points
from tune.result import BEST

FILE = "best.toml"
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def text(base: Config, best: points.Point, study: str) -> str:
    """TOML that `trawl run` accepts: the arm's recipe with the best values, beside itself without the loss."""
    arms = {points.BASELINE: points.baseline(base), BEST: best}
    found = base.override(
        *best.changes.items(),
        ("name", f"{study}-best"),
        ("experiment.arms", {name: {"training": dict(point.values)} for name, point in arms.items()}),
        ("experiment.cross", {}),
        ("experiment.reference", points.BASELINE),
    )
    tree = _differing(found.model_dump(mode="json"), Config().model_dump(mode="json"))
    tree.pop("search", None)
    tree.setdefault("training", {}).update({axis: best.values[axis] for axis in points.AXES})
    head = (
        "# The best point of a study of the contrastive loss, chosen on the validation users; `baseline` is without it."
    )
    return "\n".join([head, *_lines(tree)]) + "\n"


def _differing(tree: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and isinstance(other.get(key), dict) and key != "arms":
            inner = _differing(value, other[key])
            out |= {key: inner} if inner else {}
        elif value != other.get(key):
            out[key] = value
    return out


def _lines(tree: Mapping[str, Any]) -> list[str]:
    lines = [f"{_key(key)} = {_value(value)}" for key, value in tree.items() if not isinstance(value, dict)]
    for section, keys in tree.items():
        if isinstance(keys, dict):
            lines += ["", f"[{_key(section)}]", *(f"{_key(key)} = {_value(value)}" for key, value in keys.items())]
    return lines


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(inner) for inner in value) + "]"
    # JSON's strings, numbers and booleans are TOML's, but for one character that JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
