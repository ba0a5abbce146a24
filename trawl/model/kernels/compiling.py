"""How these functions are compiled."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trawl import machine_code

Array = Any  # a C-contiguous NumPy array

# Sums may be taken in another order than the loop's, so that they run in vector registers; the order is the compiler's,
# one and the same in every step.
_MATH = {"reassoc", "contract", "nsz"}
_WHERE = machine_code.folder("model", Path(__file__).parent)


def compiled(function: Callable[..., None]) -> Callable[..., None]:
    """For the types that it is first called with, without the interpreter's lock."""
    return machine_code.compiled(_WHERE, nogil=True, error_model="numpy", fastmath=_MATH)(function)
