"""SWING from a table of interactions with raw ids to a table of partners with raw ids."""

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trawl.errors import ConfigError, InputError
from trawl.swing.formula import Formula
from trawl.swing.graph import Ints, bipartite
from trawl.swing.kernel import Swing

Side = Literal["user", "item"]
_STEP = 4096  # anchors at once


def mine(
    interactions: pa.Table,
    user_column: str,
    item_column: str,
    side: Side,
    *,
    top_k: int = 10,
    formula: Formula | None = None,
) -> pa.Table:
    """Partners of all users or all items: (anchor, rank, partner, score, shared), sorted by (anchor, rank).

    Ids may be strings or integers of one column's type; they come back as strings. A pair that stands twice counts
    once; an empty table gives an empty table. Ties go to the smaller id: ids are ordered as numbers when all of the
    column are whole numbers, else as text. Raises ConfigError (side, top_k) and InputError (a column
    is missing, an id is null, NaN, empty or negative).
    """
    if side not in ("user", "item"):
        raise ConfigError(f"side = {side!r}: choose user or item")
    users, user_ids = _numbered(interactions, user_column)
    items, item_ids = _numbered(interactions, item_column)
    own, ids, other, others = (
        (users, user_ids, items, len(item_ids)) if side == "user" else (items, item_ids, users, len(user_ids))
    )
    swing = Swing(bipartite(own, other, (len(ids), others)), formula)
    starts = range(0, max(1, len(ids)), _STEP)
    found = [swing.topk(range(start, min(start + _STEP, len(ids))), top_k) for start in starts]
    tables = [
        pa.table(
            {
                "anchor": ids.take(pa.array(some.anchor)),
                "rank": some.rank,
                "partner": ids.take(pa.array(some.partner)),
                "score": some.score,
                "shared": some.shared,
            }
        )
        for some in found
    ]
    return pa.concat_tables(tables)


def _numbered(table: pa.Table, name: str) -> tuple[Ints, pa.Array]:
    """Row -> number of its id, and the sorted distinct ids as strings."""
    text = id_column(table, name, "interactions")
    distinct = text.unique()
    whole = bool(pc.all(pc.match_substring_regex(distinct, r"^(0|[1-9]\d{0,17})$"), min_count=0).as_py())
    order = pc.sort_indices(distinct.cast(pa.int64()) if whole else distinct)
    ids = distinct.take(order)
    return pc.index_in(text, value_set=ids).to_numpy().astype(np.int64), ids


def id_column(table: pa.Table, name: str, where: str, first_row: int = 1) -> pa.Array:
    """A column of ids as strings. Raises InputError at the first row (counted from first_row) without a proper id."""
    if name not in table.column_names:
        there = ", ".join(table.column_names) or "none"
        raise InputError.at(where, f"column {name}", "there is no such column", f"the columns there are: {there}")
    column = table.column(name).combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_floating(column.type):
        column = _whole(column, name, where, first_row)
    elif not (pa.types.is_integer(column.type) or _is_text(column.type) or pa.types.is_null(column.type)):
        raise InputError.at(where, f"column {name}", f"holds {column.type}", "ids are text or whole numbers")
    text = column.cast(pa.string())
    checks = (
        ("the id is null", pc.is_null(text)),
        ("the id is empty", pc.equal(pc.utf8_trim_whitespace(text), "")),
        ("the id is NaN", pc.match_substring_regex(text, r"(?i)^\s*nan\s*$")),
        ("the id is negative", pc.match_substring_regex(text, r"^\s*-\s*\d+(\.\d+)?\s*$")),
    )
    _refuse(checks, text, name, where, first_row)
    return text


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _whole(column: pa.Array, name: str, where: str, first_row: int) -> pa.Array:
    """Whole numbers that were stored as floats, as a column with nulls is by some writers."""
    checks = (
        ("the id is null", pc.is_null(column)),
        ("the id is NaN", pc.is_nan(column)),
        ("the id is not a whole number", pc.not_equal(pc.floor(column), column)),
        ("the id is not finite", pc.is_inf(column)),
    )
    _refuse(checks, column, name, where, first_row)
    return column.cast(pa.int64())


def _refuse(checks: tuple[tuple[str, pa.Array], ...], column: pa.Array, name: str, where: str, first_row: int) -> None:
    for what, wrong in checks:
        row = pc.index(pc.fill_null(wrong, False), True).as_py()
        if row >= 0:
            shown = f" ({column[row]})" if column[row].is_valid else ""
            raise InputError.at(where, f"row {row + first_row}, column {name}", what + shown, "mend or drop the row")
