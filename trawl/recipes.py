"""Recipes: TOML files, shipped or the user's own, one extending another."""

import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources as package_files
from pathlib import Path
from typing import Any

from trawl.config import Config, valid_keys
from trawl.errors import ConfigError


def shipped() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = package_files.files("jobs") / "recipes"
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml"))


def load(recipe: str, settings: Iterable[str] = ()) -> Config:
    """Read a recipe by shipped name or path, and apply `--set` settings.

    A recipe may say `extends = "name or path"`; its own keys then win. Raises ConfigError.
    """
    return Config.build(_tree(recipe, ()), *settings)


def values(recipe: str = "") -> dict[str, Any]:
    """The value at every dotted key: the recipe's own where it has one, else the default.

    Keys that belong together are not checked, since what a recipe leaves to be set is missing here. Raises ConfigError.
    """
    tree = _tree(recipe, ()) if recipe else {}
    return {key: _at(tree, key, Config().get(key)) for key in valid_keys()}


def _at(tree: Mapping[str, Any], key: str, default: Any) -> Any:
    node: Any = tree
    for name in key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return default
        node = node[name]
    return node


def files(recipe: str) -> list[Path]:
    """The files that a recipe given by path is made of, each before what it extends; none for a shipped one.

    Raises ConfigError.
    """
    found: list[Path] = []
    while _is_path(recipe):
        if Path(recipe) in found:
            raise ConfigError(f"recipe {recipe}: extends itself by way of {' -> '.join(map(str, found))}")
        found.append(Path(recipe))
        parent = _parse_recipe(recipe).get("extends")
        if parent is None:
            break
        recipe = _parent(recipe, parent)
    return found


def _tree(recipe: str, seen: tuple[str, ...]) -> dict[str, Any]:
    if recipe in seen:
        raise ConfigError(f"recipe {recipe}: extends itself by way of {' -> '.join(seen)}")
    tree = _parse_recipe(recipe)
    parent = tree.pop("extends", None)
    if parent is None:
        return {"name": Path(recipe).stem} | tree
    base = _tree(_parent(recipe, parent), (*seen, recipe))
    return _merge(base, {"name": Path(recipe).stem} | tree)


def _parent(recipe: str, parent: object) -> str:
    near = Path(recipe).parent / str(parent)
    return str(near) if near.suffix == ".toml" else str(parent)


def _is_path(recipe: str) -> bool:
    return Path(recipe).suffix == ".toml" or "/" in recipe


def _parse_recipe(recipe: str) -> dict[str, Any]:
    path = Path(recipe)
    try:
        if _is_path(recipe):
            text = path.read_text(encoding="utf-8")
        elif recipe in shipped():
            text = (package_files.files("jobs") / "recipes" / f"{recipe}.toml").read_text(encoding="utf-8")
        else:
            raise ConfigError(f"no recipe {recipe!r}: give a path to a .toml file or one of {', '.join(shipped())}")
        return tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {recipe}: cannot be read ({error.__class__.__name__}: {error})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"recipe {recipe}: not valid TOML: {error}") from None


def _merge(base: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in new.items():
        old = out.get(key)
        # Arms are replaced as a whole: a child recipe that names arms means just those.
        both = isinstance(value, Mapping) and isinstance(old, dict) and key != "arms"
        out[key] = _merge(old, value) if both else value  # type: ignore[arg-type]
    return out
