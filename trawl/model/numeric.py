"""Numeric fields: values that are numbers, read as buckets whose bounds are quantiles of training's values.

A bucket is written as its smallest value; the first one begins at -inf, so values beyond training's go to the ends.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Array = npt.NDArray[Any]
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


def numbers(values: pa.Array) -> npt.NDArray[np.float64]:
    """Texts as numbers; nan for one that is none, or too large."""
    trimmed = pc.utf8_trim_whitespace(values)
    plain = pc.if_else(pc.match_substring_regex(trimmed, _NUMBER), trimmed, pa.scalar(None, trimmed.type))
    found = pc.fill_null(plain.cast(pa.float64()), np.nan).to_numpy(zero_copy_only=False)
    return np.where(np.isfinite(found), found, np.nan)


def bounds(found: Array, bins: int) -> list[str]:
    """At most `bins` buckets of about as many of the numbers; nan is left out."""
    known = found[np.isfinite(found)]
    inner = np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1], method="lower") if len(known) else known
    inner = np.unique(inner[inner > known.min()]) if len(known) else inner
    return ["-inf", *(repr(float(bound)) for bound in inner)]


def bucket(values: pa.Array, lower: Sequence[str]) -> npt.NDArray[np.int64]:
    """Place 0.. of each value's bucket; -1 for what is no number."""
    found = numbers(values)
    places = np.searchsorted(np.array([float(bound) for bound in lower]), found, side="right") - 1
    return np.where(np.isfinite(found), places, -1)
