"""Where the machine code of functions compiled by numba is kept.

They are read from a folder by processes after the first. numba looks at one source file alone to see whether its code
is stale; the folder's name therefore holds a digest of all sources. In order of preference it lies under
NUMBA_CACHE_DIR, beside the sources, in the user's cache, in the folder for temporary files; where none can be written,
each process compiles.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def folder_of(name: str, sources: Path) -> Path | None:
    """For the code of the modules of a package; None: nowhere can be written."""
    name = f"{name}-{_digest(sources)}"
    given = os.environ.get("NUMBA_CACHE_DIR")
    bases = [Path(given)] if given else [sources / "__pycache__", _user_cache() / "trawl", _own_temporary()]
    for base in bases:
        if _writable(base / name):
            return base / name
    return None


@contextmanager
def code_in(folder: Path) -> Iterator[None]:
    """Functions made within keep their machine code there."""
    import numba  # type: ignore[import-untyped, unused-ignore]

    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before


def _digest(sources: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(sources.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())


def _own_temporary() -> Path:
    return Path(tempfile.gettempdir()) / f"trawl-code-{os.getuid()}"


def _writable(folder: Path) -> bool:
    """Makes the folder if need be. Code is loaded from it, so nobody else may own or write it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        found = folder.stat()
    except OSError:
        return False
    return found.st_uid == os.getuid() and not found.st_mode & 0o022
