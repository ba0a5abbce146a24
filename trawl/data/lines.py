"""Delimited text in byte ranges: each line belongs to the range that holds its first byte.

A file of any size is read range by range in bounded memory. `at` is the byte offset of a line: it orders the rows of
all ranges as they stand in the file, and it becomes a line number only when an error has to name one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trawl.errors import InputError
from trawl.raw import Source
from trawl.raw import size as size_of

RANGE = 8 << 20  # bytes per range: some 350,000 ratings, about 200 MB while they are parsed

_MARKS = {b"\xef\xbb\xbf": "a UTF-8 byte order mark", b"\xff\xfe": "UTF-16 text", b"\xfe\xff": "UTF-16 text"}


def ranges(path: Source, size: int = RANGE) -> list[tuple[int, int]]:
    """(first byte, byte after the last) of each range. Raises InputError when the file is missing or empty."""
    if not path.is_file():
        raise InputError.at(path, "", "no such file", "check the recipe's path and the file's name")
    total = size_of(path)
    if not total:
        raise InputError.at(path, "", "the file is empty", "put the original file there")
    return [(at, min(at + size, total)) for at in range(0, total, size)]


def read(path: Source, first: int, last: int, names: Sequence[str], separator: str, encoding: str) -> pa.Table:
    """The lines of a range as large_string columns `names` and `at`, without any rule of quoting.

    Raises InputError naming file and line for another number of fields, NUL bytes or text that does not decode.
    """
    first, data = _lines_of(path, first, last)
    _refuse_binary(path, first, data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise wrong(path, first + error.start, f"not {encoding} text", "save the file in that encoding") from None
    lines = pc.split_pattern(pa.array([text], pa.large_string()), "\n").flatten()
    lines = lines.slice(0, len(lines) - 1) if not text or text.endswith("\n") else lines
    lines = pc.utf8_rtrim(lines, "\r") if "\r" in text else lines
    breaks = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    at = first + np.concatenate([[0], breaks])[: len(lines)]
    cells = pc.split_pattern(lines, separator)
    lengths = pc.list_value_length(cells).to_numpy(zero_copy_only=False)
    if (lengths != len(names)).any():
        row = int((lengths != len(names)).argmax())
        todo = f"write it as {separator.join(names)!r}"
        raise wrong(path, int(at[row]), f"{lengths[row]} fields where {len(names)} are due", todo)
    columns = {name: pc.list_element(cells, k) for k, name in enumerate(names)}
    return pa.table(columns | {"at": pa.array(at, pa.int64())})


def _lines_of(path: Source, first: int, last: int) -> tuple[int, bytes]:
    """(offset of the first line that begins in the range, the bytes of all lines that begin in it)."""
    with path.open("rb") as file:
        if first:  # a line that began earlier belongs to the range before
            file.seek(first - 1)
            file.readline()
            first = file.tell()
        if first >= last:
            return first, b""
        data = file.read(last - first)
        return first, data if data.endswith(b"\n") else data + file.readline()


def _refuse_binary(path: Source, first: int, data: bytes) -> None:
    for mark, what in _MARKS.items() if not first else ():
        if data.startswith(mark):
            raise InputError.at(path, "line 1", f"the file begins with {what}", "save it in its original encoding")
    nul = data.find(b"\0")
    if nul >= 0:
        raise wrong(path, first + nul, "a NUL byte; this is no text file", "put the original file there")


def wrong(path: Source, at: int, what: str, todo: str = "") -> InputError:
    """The error for the line that holds byte `at`, by its number from 1."""
    number, left = 1, at
    with path.open("rb") as file:
        while left > 0:
            block = file.read(min(left, RANGE))
            if not block:
                break
            number += block.count(b"\n")
            left -= len(block)
    return InputError.at(path, f"line {number}", what, todo)


Fault = tuple[npt.NDArray[np.bool_] | pa.Array | pa.ChunkedArray, str]


def refuse(path: Source, rows: pa.Table, faults: Sequence[Fault], todo: str = "") -> None:
    """Raise InputError for the first row that a mask marks; `{column}` in a fault's text stands for the row's value."""
    found: tuple[int, str] | None = None
    for mask, what in faults:
        marks = mask if isinstance(mask, np.ndarray) else mask.to_numpy(zero_copy_only=False)
        if len(marks) and marks.any() and (found is None or int(marks.argmax()) < found[0]):
            found = (int(marks.argmax()), what)
    if found:
        row: Mapping[str, Any] = rows.slice(found[0], 1).to_pylist()[0]
        raise wrong(path, row["at"], found[1].format(**row), todo)
