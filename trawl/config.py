"""The whole recipe: read from plain data, changed by one function for the command line and for searches."""

import difflib
import hashlib
import json
import tomllib
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ValidationError, model_validator

from trawl.errors import ConfigError
from trawl.rules import faults
from trawl.sections_all import Sections
from trawl.sections_http import Http


class Config(Sections):
    """A whole recipe."""

    @model_validator(mode="after")
    def _together(self) -> Self:
        for fault in faults(self):
            raise ValueError(fault)
        return self

    def get(self, key: str) -> Any:
        """The value at a dotted key, as plain data; a section comes as a dict."""
        node: Any = self
        for name in key.split("."):
            if not isinstance(node, BaseModel) or name not in type(node).model_fields:
                raise ConfigError(f"no such key: {key}{_nearest(key)}")
            node = getattr(node, name)
        return node.model_dump(mode="json") if isinstance(node, BaseModel) else node

    def override(self, *settings: str | tuple[str, Any]) -> "Config":
        """A copy with `a.b=c` (the value as TOML, else as text) or ("a.b", value) applied in order.

        Raises ConfigError for an unknown key (with the nearest valid one) or a value that does not fit.
        """
        return Config.build(self.model_dump(mode="json"), *settings)

    @staticmethod
    def build(tree: Mapping[str, Any], *settings: str | tuple[str, Any]) -> "Config":
        """Validate plain data with settings applied. Raises ConfigError: the key, its fault, the nearest valid key."""
        changed = dict(tree)
        for setting in settings:
            key, value = _parse_setting(setting) if isinstance(setting, str) else setting
            _assign(changed, key, value)
        try:
            return Config.model_validate(changed)
        except ValidationError as error:
            raise ConfigError(_explain(error)) from None

    def digest(self, study: bool = False) -> str:
        """Digest of what a recipe asks for: the identity behind a run's name, or with `search` behind a study's."""
        aside = {"resources", "retry", "plan"}
        tree = self.model_dump(mode="json", exclude=aside if study else aside | {"search"})
        tree["http"] = {key: value for key, value in tree["http"].items() if key not in Http.WHERE}
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


_FREE = ("extraction.engine_arguments", "http.extra", "model.backbone_arguments")  # tables whose names are another's


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out


def _parse_setting(setting: str) -> tuple[str, Any]:
    key, sign, text = setting.partition("=")
    if not sign or not key.strip():
        raise ConfigError(f"--set {setting!r}: write it as section.key=value")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    return key.strip(), value


def _assign(tree: dict[str, Any], key: str, value: Any) -> None:
    names = key.split(".")
    arm = names[:2] == ["experiment", "arms"] and len(names) > 3
    level = names[:2] == ["experiment", "cross"] and len(names) > 4
    free = any(key.startswith(f"{table}.") for table in _FREE)
    if not arm and not level and not free and key not in valid_keys():
        raise ConfigError(f"no such key: {key}{_nearest(key)}")
    node = tree
    for name in names[:-1]:
        child = node.get(name)
        node[name] = node = dict(child) if isinstance(child, Mapping) else {}
    node[names[-1]] = value


def valid_keys() -> list[str]:
    """All dotted keys of a recipe."""
    return _keys(Config, "")


def _keys(section: type[BaseModel], prefix: str) -> list[str]:
    out: list[str] = []
    for name, info in section.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            out += _keys(kind, f"{prefix}{name}.")
        else:
            out.append(prefix + name)
    return out


def _nearest(key: str) -> str:
    keys = valid_keys()
    close = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    if not close:  # right key, wrong section
        close = [k for k in keys if k.rpartition(".")[2] == key.rpartition(".")[2]][:1]
    return f"; did you mean {close[0]}?" if close else "; `trawl run --help` says where the keys are listed"


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"recipe: no such key: {key}{_nearest(key)}"
    message = str(first["msg"]).removeprefix("Value error, ")
    if not key:  # of several keys together, which the message names
        return f"recipe: {message}"
    return f"recipe: {key}: {message}" + (f" (got {first['input']!r})" if first["type"] != "value_error" else "")
