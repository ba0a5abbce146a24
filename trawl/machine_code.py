"""Where the machine code of compiled functions is kept for the next process.

numba looks at one source file alone to see whether its code is stale; the folder's name therefore holds a digest of all
sources that are compiled together. In order of preference it lies under NUMBA_CACHE_DIR, beside the sources, in the
user's cache, in the folder for temporary files.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def folder(name: str, sources: Path, pattern: str = "*.py") -> Path | None:
    """For the sources of a folder that match the pattern; None: nowhere can be written."""
    name = f"{name}-{_digest(sources, pattern)}"
    given = os.environ.get("NUMBA_CACHE_DIR")
    bases = [Path(given)] if given else [sources / "__pycache__", _user_cache() / "trawl", _own_temporary()]
    return next((base / name for base in bases if _writable(base / name)), None)


def compiled(where: Path | None, **options: Any) -> Callable[[F], F]:
    """Compile a function for the types that it is first called with, and keep its code there."""
    import numba

    def compile_(function: F) -> F:
        if where is None:
            return cast(F, numba.njit(**options)(function))
        with code_in(where):
            return cast(F, numba.njit(cache=True, **options)(function))

    return compile_


@contextmanager
def code_in(where: Path) -> Iterator[None]:
    """Functions that are declared in here keep their code there."""
    import numba

    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(where)
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before


def _digest(sources: Path, pattern: str) -> str:
    digest = hashlib.sha256()
    for path in sorted(sources.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())


def _own_temporary() -> Path:
    return Path(tempfile.gettempdir()) / f"trawl-code-{os.getuid()}"


def _writable(where: Path) -> bool:
    """Makes the folder if need be. Code is loaded from it, so nobody else may own or write it."""
    try:
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=where):
            pass
        found = where.stat()
    except OSError:
        return False
    return found.st_uid == os.getuid() and not found.st_mode & 0o022
