"""How the kernels are compiled, and where the machine code is kept.

Functions are compiled for the types of their signature when their module is first imported (some seconds), and read
from a folder afterwards. numba looks at one source file alone to see whether its code is stale; the folder's name
therefore holds a digest of all kernels. In order of preference it lies under NUMBA_CACHE_DIR, beside the sources, in
the user's cache, in the folder for temporary files; where none can be written, each process compiles.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic  # type: ignore[import-untyped, unused-ignore]

F = TypeVar("F", bound=Callable[..., Any])
D = TypeVar("D", bound=np.generic)
Array = Any  # a NumPy array inside a kernel; its type stands in the signature

_HERE = Path(__file__).parent


def array(kind: Any, dimensions: int = 1) -> Any:
    """The type of a C-contiguous array that is only read: shared memory and files count as well as one's own."""
    return types.Array(kind, dimensions, "C", readonly=True)


def record(kind: type, *fields: Any) -> Any:
    """The type of a NamedTuple whose fields, by their types, are arrays and numbers."""
    return types.NamedTuple(fields, kind)


def readonly(values: npt.NDArray[D]) -> npt.NDArray[D]:
    """A view of the type that `array` means: a record's fields are not converted."""
    view = values.view()
    view.flags.writeable = False
    return view


def kernel(signature: Any, fast: bool = False) -> Callable[[F], F]:
    """Compile for one signature, without the interpreter's lock. fast: sums may be taken in another order."""
    math = {"reassoc", "contract", "nsz", "arcp"} if fast else False

    def compile_(function: F) -> F:
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": math}
        folder = code_folder()
        if folder is None:
            return cast(F, numba.njit(signature, **options)(function))
        with code_in(folder):
            return cast(F, numba.njit(signature, cache=True, **options)(function))

    return compile_


@contextmanager
def code_in(folder: Path) -> Iterator[None]:
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before


@cache
def code_folder() -> Path | None:
    """Where machine code is kept; None: nowhere can be written."""
    name = f"swing-{_digest()}"
    given = os.environ.get("NUMBA_CACHE_DIR")
    bases = [Path(given)] if given else [_HERE / "__pycache__", _user_cache() / "trawl", _own_temporary()]
    for base in bases:
        if _writable(base / name):
            return base / name
    return None


def _digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(_HERE.glob("*.py")):
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


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def lowest_bit(context: Any, word: Any) -> Any:
    """Number of the lowest bit of an unsigned 64-bit word that is not 0."""

    def code(target: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], target.get_constant(types.boolean, True))

    return types.int64(types.uint64), code
