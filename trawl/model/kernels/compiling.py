"""How these functions are compiled."""

from pathlib import Path
from typing import Any

from trawl import machine_code

Array = Any  # a C-contiguous NumPy array

# Sums may be taken in another order than the loop's, so that they run in vector registers; the order is the compiler's,
# one and the same in every step.
_MATH = {"reassoc", "contract", "nsz"}

# For the types that a function is first called with, without the interpreter's lock.
compiled = machine_code.compiled(
    machine_code.folder("model", Path(__file__).parent), nogil=True, error_model="numpy", fastmath=_MATH
)
