"""Raw rows to score: the columns there may be, and one clear line for what is wrong with them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trawl.errors import InputError

Kind = Callable[[pa.DataType], bool]


def _id(kind: pa.DataType) -> bool:
    """Categories, as pandas writes them, are read as their values."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return _text(kind) or bool(pa.types.is_integer(kind))


def _number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _list(of: Kind) -> Kind:
    return lambda kind: (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and of(kind.value_type)


def _fields(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):  # as pandas writes a column of dicts
        return all(_value(kind.field(k).type) for k in range(kind.num_fields))
    return pa.types.is_map(kind) and _text(kind.key_type) and _list(_text)(kind.item_type)


def _value(kind: pa.DataType) -> bool:
    many = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    one = kind.value_type if many else kind
    return _id(one) or bool(pa.types.is_null(one))


def _text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


@dataclass(frozen=True)
class Column:
    what: str  # in words, for the message
    fits: Kind
    to: pa.DataType
    needed: bool = False
    beside: str = ""  # a list that this one must be as long as, row by row


_IDS, _RATINGS, _BOOLS = pa.list_(pa.string()), pa.list_(pa.float32()), pa.list_(pa.bool_())
_MAP = pa.map_(pa.string(), _IDS)
COLUMNS: dict[str, Column] = {
    "user_id": Column("a text or integer", _id, pa.string(), needed=True),
    "item_id": Column("a text or integer", _id, pa.string(), needed=True),
    "history": Column("a list of item ids, oldest first", _list(_id), _IDS),
    "ratings": Column("a list of numbers, one per item of history", _list(_number), _RATINGS, beside="history"),
    "seen": Column("a list of the item ids before the knowledge cut-off", _list(_id), _IDS),
    "liked": Column("a list of booleans, one per item of seen", _list(pa.types.is_boolean), _BOOLS, beside="seen"),
    "fields": Column(
        "a map of field name -> list of values, or a struct of texts",
        _fields,
        pa.map_(pa.string(), pa.list_(pa.string())),
    ),
}


def check_columns(schema: pa.Schema, where: str, rated: bool) -> None:
    """`rated`: the model reads ratings beside a history. Raises InputError for a missing or mistyped column."""
    for name, column in COLUMNS.items():
        if schema.names.count(name) > 1:
            raise InputError.at(where, f"column {name}", f"is there {schema.names.count(name)} times", "leave one")
        if name in schema.names:
            kind = schema.field(name).type
            if not column.fits(kind):
                raise InputError.at(where, f"column {name}", f"is {kind}, must be {column.what}")
            if column.beside and column.beside not in schema.names:
                raise InputError.at(where, f"column {name}", f"stands alone, it needs the column {column.beside}")
        elif column.needed:
            raise InputError.at(where, f"column {name}", "is missing", f"add it: {column.what}")
        elif column.beside in schema.names and (rated or name == "liked"):
            raise InputError.at(where, f"column {name}", f"is missing beside {column.beside}", f"add it: {column.what}")


def clean(rows: pa.Table, where: str, first: int) -> pa.Table:
    """The known columns in the types that the predictor reads; a null list is empty. `first`: number of the first row.

    Raises InputError naming file, column and row (from 1) for a null item, a null or NaN in a list, unequal lists.
    """
    out = {}
    for name, column in COLUMNS.items():
        if name not in rows.column_names:
            continue
        values = rows[name].combine_chunks()
        values = _as_map(values) if pa.types.is_struct(values.type) else values.cast(column.to)
        if name == "item_id" and values.null_count:
            raise _at(where, name, first, int(pc.index(pc.is_null(values), True).as_py()), "is null")
        if pa.types.is_map(column.to):
            values = pa.array(values.to_pylist(), column.to) if values.null_count else values
        elif pa.types.is_list(column.to):
            values = pc.coalesce(values, pa.scalar([], column.to))
            _check_list(values, name, where, first)
        out[name] = values
    for name, column in COLUMNS.items():
        if column.beside and name in out:
            lengths, due = (pc.list_value_length(out[n]).to_numpy() for n in (name, column.beside))
            wrong = np.flatnonzero(lengths != due)
            if len(wrong):
                row = int(wrong[0])
                raise _at(where, name, first, row, f"{lengths[row]} entries where {column.beside} has {due[row]}")
    return pa.table(out)


def _as_map(values: pa.StructArray) -> pa.Array:
    """A struct of values or lists of values as the map of fields; a null one is left out."""
    rows = [
        [
            (name, [str(v) for v in (value if isinstance(value, list) else [value]) if v is not None])
            for name, value in (row or {}).items()
            if value is not None
        ]
        for row in values.to_pylist()
    ]
    return pa.array(rows, COLUMNS["fields"].to)


def _check_list(values: pa.Array, name: str, where: str, first: int) -> None:
    flat = values.flatten()
    wrong = pc.is_null(flat, nan_is_null=True)
    place = pc.index(wrong, True).as_py()
    if place >= 0:
        owner = np.repeat(np.arange(len(values)), pc.list_value_length(values).to_numpy())
        raise _at(where, name, first, int(owner[place]), "holds a null")


def _at(where: str, name: str, first: int, row: int, what: str) -> InputError:
    return InputError.at(where, f"column {name}, row {first + row}", what)
