"""How these functions are compiled."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import numba  # type: ignore[import-untyped, unused-ignore]

from trawl.compiled import code_in, folder_of

Array = Any  # a C-contiguous NumPy array

# Sums may be taken in another order than the loop's, so that they run in vector registers; the order is the compiler's,
# one and the same in every step.
_MATH = {"reassoc", "contract", "nsz"}


def compiled(function: Callable[..., None]) -> Callable[..., None]:
    """For the types that it is first called with, without the interpreter's lock."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": _MATH}
    folder = _folder()
    if folder is None:
        return cast(Callable[..., None], numba.njit(**options)(function))
    with code_in(folder):
        return cast(Callable[..., None], numba.njit(cache=True, **options)(function))


@cache
def _folder() -> Path | None:
    return folder_of("model", Path(__file__).parent)
