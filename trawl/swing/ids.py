"""Raw ids -> numbers, block by block, by Arrow's kernels: the memory is that of the distinct ids and 4 bytes per row.

An id is text or a whole number of one column; as text both are the same id. What is no id (null, NaN, empty, negative)
is refused by file and row.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trawl.errors import InputError

Numbers = npt.NDArray[np.int32]
_WAIT = 1 << 22
_EXACT = 2.0**53  # above it a float no longer holds every whole number


class Numbering:
    """Numbers ids in the order in which they are first kept.

    Blocks wait with their own numbers until they hold more different ids than are known, so that all hashing together
    is linear in the rows.
    """

    def __init__(self, column: str) -> None:
        self.column = column
        self.known: pa.Array = pa.array([], pa.large_string())
        self._waiting: list[pa.Array] = []
        self._distinct = 0
        self._numbers: list[Numbers] = []

    def encoded(self, column: pa.Array, where: object, first_row: int = 1) -> pa.Array:
        """A block's ids as numbers of its own. Raises InputError at the first row (from first_row) without an id."""
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind) or is_text(kind)):
            raise InputError.at(where, f"column {self.column}", f"holds {kind}", "ids are text or whole numbers")
        out = column if pa.types.is_dictionary(column.type) else pc.dictionary_encode(column)
        ids, codes = out.dictionary, out.indices.cast(pa.int32())
        if codes.null_count or ids.null_count:
            row = pc.index(pc.is_null(ids.take(codes)), True).as_py()
            if row >= 0:
                raise _wrong(where, row + first_row, self.column, "the id is null")
        text = _checked(ids, codes, where, self.column, first_row)
        return pa.DictionaryArray.from_arrays(codes, text, safe=False)

    def add(self, block: pa.Array) -> None:
        """Rows of what `encoded` gave."""
        self._waiting.append(block)
        self._distinct += len(block.dictionary)
        if self._distinct > max(len(self.known), _WAIT):
            self._join()

    def numbers(self) -> Numbers:
        """(rows,) position in `known` of each row that was added. Once, at the end."""
        self._join()
        return joined(self._numbers)

    def _join(self) -> None:
        none = pa.array([], pa.int32())
        first = pa.DictionaryArray.from_arrays(none, self.known)  # so that what is known keeps its numbers
        together = pa.chunked_array([first, *self._waiting]).unify_dictionaries()
        self.known = together.chunk(0).dictionary
        self._numbers += [part.indices.to_numpy(zero_copy_only=False) for part in together.chunks[1:]]
        self._waiting, self._distinct = [], 0


def joined(arrays: list[Numbers]) -> Numbers:
    """One array of all, which are let go."""
    out: Numbers = np.concatenate([np.empty(0, np.int32), *arrays])
    arrays.clear()
    return out


def ordered(ids: pa.Array) -> tuple[npt.NDArray[np.int64], bool]:
    """Positions of distinct ids in their order, and whether that is by number: so when all are whole numbers."""
    whole = bool(pc.all(pc.match_substring_regex(ids, r"^(0|[1-9]\d{0,17})$"), min_count=0).as_py())
    order: npt.NDArray[np.int64] = pc.sort_indices(ids.cast(pa.int64()) if whole else ids).to_numpy().astype(np.int64)
    return order, whole


def check_columns(names: list[str], wanted: list[str], where: object) -> None:
    """Raises InputError when a wanted column is missing or stands twice."""
    for name in wanted:
        if name not in names:
            there = ", ".join(names) or "none"
            raise InputError.at(where, f"column {name}", "there is no such column", f"the columns there are: {there}")
        if names.count(name) > 1:
            raise InputError.at(where, f"column {name}", f"stands {names.count(name)} times", "rename all but one")


def refuse(wrong: pa.Array, what: str, column: pa.Array, where: object, name: str, first_row: int) -> None:
    """Raises InputError at the first row where `wrong` (booleans; null: not wrong) is true."""
    row = pc.index(pc.fill_null(wrong, False), True).as_py()
    if row >= 0:
        raise _wrong(where, row + first_row, name, what + (f" ({column[row]})" if column[row].is_valid else ""))


def _wrong(where: object, row: int, name: str, what: str) -> InputError:
    return InputError.at(where, f"row {row:d}, column {name}", what, "mend or drop the row")


def _checked(ids: pa.Array, codes: pa.Array, where: object, name: str, first_row: int) -> pa.Array:
    """Distinct ids as text. Only they are looked at; the row is searched for when one of them is none."""

    def check(wrong: pa.Array, what: str, values: pa.Array) -> None:
        if pc.any(wrong, min_count=0).as_py():
            refuse(pc.fill_null(wrong, False).take(codes), what, values.take(codes), where, name, first_row)

    if pa.types.is_floating(ids.type):  # whole numbers of a column with nulls are stored so by some writers
        ids = ids.cast(pa.float64())
        check(pc.is_nan(ids), "the id is NaN", ids)
        check(pc.is_inf(ids), "the id is not finite", ids)
        check(pc.not_equal(pc.floor(ids), ids), "the id is not a whole number", ids)
        check(pc.greater(pc.abs(ids), _EXACT), "the id is too large for a whole number kept as a float", ids)
        ids = ids.cast(pa.int64())
    text = ids.cast(pa.large_string())
    check(pc.equal(pc.utf8_trim_whitespace(text), ""), "the id is empty", text)
    check(pc.match_substring_regex(text, r"(?i)^\s*nan\s*$"), "the id is NaN", text)
    check(pc.match_substring_regex(text, r"^\s*-\s*\d+(\.\d+)?\s*$"), "the id is negative", text)
    return text


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
