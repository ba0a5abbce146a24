"""What a job takes to the cluster: a folder with the code and the recipe's own files, sent as an archive.

    trawl/ jobs/ tune/           the packages of this installation, without bytecode
    recipe/NAME.toml             the recipe, where it is a file; what it extends below recipe/extends-1, -2, ...

The folder is filled from the installed packages and not from the current directory, so that nothing else can slip in.
"""

import os
import re
import shutil
import tomllib
from importlib.util import find_spec
from pathlib import Path

from trawl import recipes
from trawl.errors import ConfigError

PACKAGES = ("trawl", "jobs", "tune")
_SUFFIXES = (".py", ".toml", ".html", ".css", ".js", ".typed")
_EXTENDS = re.compile(r"^[ \t]*extends[ \t]*=.*$", re.MULTILINE)
_MAIN = 'if __name__ == "__main__":'


def scripts() -> dict[str, str]:
    """Name -> module of every script that can be submitted: jobs/data.py is `data`, tune/x.py is `tune.x`."""
    found = {}
    for package in ("jobs", "tune"):
        for path in sorted(_home(package).glob("*.py")) if find_spec(package) else ():
            if _MAIN in path.read_text(encoding="utf-8"):
                found[path.stem if package == "jobs" else f"{package}.{path.stem}"] = f"{package}.{path.stem}"
    return found


def fill(folder: Path, recipe: str, code: bool = True) -> str:
    """Fill an empty folder; returns the recipe as the job is to name it, relative to the folder.

    `code` False leaves the packages out, for clusters whose image has trawl. Raises ConfigError.
    """
    for package in PACKAGES if code else ():
        if find_spec(package):
            _copy_package(_home(package), folder / package)
    files = recipes.files(recipe)
    homes = [folder / "recipe" / (f"extends-{k}" if k else "") / path.name for k, path in enumerate(files)]
    for k, (path, home) in enumerate(zip(files, homes, strict=True)):
        text = path.read_text(encoding="utf-8")
        if k + 1 < len(files):
            text = _repointed(text, os.path.relpath(homes[k + 1], home.parent), path)
        home.parent.mkdir(parents=True, exist_ok=True)
        home.write_text(text, encoding="utf-8")
    return homes[0].relative_to(folder).as_posix() if files else recipe


def clone(recipe: str) -> tuple[Path, str] | None:
    """The clone that this code is, as "." where it is the current directory, and the recipe as a job names it there.

    Its .rayignore and .gitignore keep all but the code at home. None where trawl is installed as a package, or where
    the recipe's files do not all lie in the clone: then a folder must be filled.
    """
    root = _home("trawl").parent
    files = [path.resolve() for path in recipes.files(recipe)]
    if not (root / ".rayignore").is_file() or not all(_travels(path, root) for path in files):
        return None
    return Path() if root == Path.cwd() else root, files[0].relative_to(root).as_posix() if files else recipe


def _travels(path: Path, root: Path) -> bool:
    """Whether a file goes along when Ray packs the clone: inside a package, where nothing is left out."""
    return path.is_relative_to(root) and path.relative_to(root).parts[0] in PACKAGES


def packed(folder: Path, beside: Path) -> Path:
    """The folder as an archive in another one: Ray takes it as it is, while it would pack a folder uncompressed."""
    return Path(shutil.make_archive(str(beside / "working_dir"), "zip", folder))


def _home(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"package {package} is not installed beside trawl; install trawl anew")
    return Path(next(iter(spec.submodule_search_locations)))


def _copy_package(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.suffix in _SUFFIXES and "__pycache__" not in path.parts:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _repointed(text: str, parent: str, path: Path) -> str:
    """The recipe's text with another `extends`, and nothing else changed."""
    new = _EXTENDS.sub(lambda _: f'extends = "{parent}"', text, count=1)
    if tomllib.loads(new) != tomllib.loads(text) | {"extends": parent}:
        raise ConfigError(f'recipe {path}: write extends = "..." in a line of its own, so that a job can take it along')
    return new
