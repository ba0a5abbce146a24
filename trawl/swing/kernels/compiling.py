"""How the kernels are compiled, and where the machine code is kept.

Functions are compiled for the types of their signature when their module is first imported (some seconds), and read
from a folder afterwards (trawl/machine_code.py says which); where none can be written, each process compiles.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic  # type: ignore[import-untyped, unused-ignore]

from trawl import machine_code
from trawl.machine_code import code_in

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


@cache
def code_folder() -> Path | None:
    """Where machine code is kept; None: nowhere can be written."""
    return machine_code.folder("swing", _HERE)


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def lowest_bit(context: Any, word: Any) -> Any:
    """Number of the lowest bit of an unsigned 64-bit word that is not 0."""

    def code(target: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], target.get_constant(types.boolean, True))

    return types.int64(types.uint64), code
