"""Linking of files: what `trawl link` does. Printing is left to the command line."""

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from trawl import files
from trawl.errors import InputError
from trawl.linking.edit_distance import link
from trawl.linking.report import linking_report
from trawl.sections import Linking

OUT = ["id", "rank", "entity_id", "similarity", "method"]
_ID = ("id", "item_id", "movie_id")  # names of the column of titles' ids
_TRUTH_ACCEPTED = ("accepted_entity_ids", "entity_ids")


def link_files(
    titles: str, entities: str, out: str, truth: str | None = None, settings: Linking | None = None
) -> dict[str, Any]:
    """Link titles (id, title[, year]) to entities (entity_id, label[, year][, text]); write `out`; return the report.

    Files are Parquet, CSV or TSV by their ending. The titles' id may also be called item_id or movie_id; a year may be
    1995, 1995.0, NaN or empty. truth: such an id and accepted_entity_ids (or entity_ids) joined by |. Without titles
    `out` has no rows and the report a `warning`. Raises InputError naming file, row and column, and for entities
    without rows; `out` is whole or absent and none of the inputs (AskedWrongly).
    """
    settings = settings or Linking()
    files.ending(out, what="out")
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    files.check_out(out, [path for path in (titles, entities, truth) if path])
    asked = _read(titles, _ID, "title")
    known = _read(entities, ("entity_id",), "label")
    if not known.num_rows:
        raise InputError.at(entities, "", "has no rows: there is nothing to link to", "give the knowledge base")
    accepted = _truth(truth) if truth else None
    links = link(
        asked,
        known,
        threshold=settings.threshold,
        year_tolerance=settings.year_tolerance,
        candidates=settings.candidates,
        decode=settings.decode_labels,
    )
    found = links.select(OUT)
    with files.writing(out, found.schema) as write:
        write(found)
    report = linking_report(links.rename_columns(["item", *links.column_names[1:]]), accepted)
    return report if asked.num_rows else report | {"warning": f"{titles} has no rows: nothing was linked"}


def _read(path: str, ids: tuple[str, ...], text: str) -> pa.Table:
    """The columns that linking knows, the id under the first of its names: never null, never twice."""
    table = _load(path)
    name = _name(path, table, ids)
    columns = {ids[0]: _cast(path, name, table.column(name), pa.large_string())}
    for known in (_name(path, table, (text,)), "text"):
        if known in table.column_names:
            columns[known] = _cast(path, known, table.column(known), pa.large_string())
    if "year" in table.column_names:
        columns["year"] = _years(path, table.column("year"))
    _check_ids(path, name, columns[ids[0]])
    if columns[text].null_count:
        raise _at_row(path, int(pc.index(pc.is_null(columns[text]), True).as_py()), text, "is empty")
    return pa.table(columns)


def _name(path: str, table: pa.Table, names: tuple[str, ...]) -> str:
    """The first of the names that a column has."""
    found = next((name for name in names if name in table.column_names), None)
    if found is None:
        there = ", ".join(table.column_names)
        raise InputError.at(path, "", f"no column {' or '.join(names)} (it has {there})", "rename one")
    return found


def _cast(path: str, name: str, column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        return column.cast(kind)
    except pa.ArrowException as error:
        raise InputError.at(path, f"column {name}", f"not {kind}: {error}") from None


def _years(path: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whole years as some writers give them: 1995, 1995.0, and NaN or nothing where the year is not known."""
    text = pc.utf8_trim_whitespace(_cast(path, "year", column, pa.large_string()))
    known = pc.invert(pc.match_substring_regex(text, r"(?i)^(nan)?$"))
    wrong = pc.and_(known, pc.invert(pc.match_substring_regex(text, r"^[+-]?\d{1,6}(\.0*)?$")))
    row = pc.index(pc.fill_null(wrong, False), True).as_py()
    if row >= 0:
        todo = "write a whole number, or nothing where it is not known"
        raise InputError.at(path, f"row {row + 1}, column year", f"{text[row].as_py()!r} is no year", todo)
    return pc.if_else(known, text, pa.scalar(None, text.type)).cast(pa.float64()).cast(pa.int32())


def _load(path: str) -> pa.Table:
    """A file's columns; those of CSV and TSV as text."""
    kind = files.ending(path)
    try:
        if kind == ".parquet":
            return pq.read_table(path)
        separator = files.DELIMITERS[kind]
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            names = next(csv.reader(file, delimiter=separator), [])
        if not any(names):
            raise InputError.at(path, "", "the file is empty", "it needs a header line")
        return pacsv.read_csv(
            path,
            parse_options=pacsv.ParseOptions(
                delimiter=separator, quote_char='"' if kind == ".csv" else False, newlines_in_values=kind == ".csv"
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.large_string()), strings_can_be_null=True, null_values=[""]
            ),
        )
    except FileNotFoundError:
        raise InputError.at(path, "", "no such file", "check the path") from None
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        text = " ".join(str(error).split())
        raise InputError.at(path, "", f"cannot be read ({text})", _hint(kind, error, text)) from None


def _hint(kind: str, error: Exception, text: str) -> str:
    """What to do about a file that cannot be read."""
    if isinstance(error, UnicodeDecodeError) or "UTF8" in text:
        return "it must be UTF-8"
    if kind == ".parquet" or not isinstance(error, pa.ArrowException):
        return "check the file"
    quoting = ": quote values that hold a comma" if kind == ".csv" else ""
    return f"every row (the header is row 1) needs as many values as the header{quoting}"


def _check_ids(path: str, name: str, ids: pa.ChunkedArray) -> None:
    if ids.null_count:
        raise _at_row(path, int(pc.index(pc.is_null(ids), True).as_py()), name, "is empty")
    if pc.count_distinct(ids).as_py() == len(ids):
        return
    seen: set[str] = set()
    for row, value in enumerate(ids.to_pylist()):
        if value in seen:
            raise _at_row(path, row, name, f"{value!r} stands here a second time")
        seen.add(value)


def _at_row(path: str, row: int, name: str, what: str) -> InputError:
    return InputError.at(path, f"row {row + 1}, column {name}", what, "each row needs an id of its own and a text")


def _truth(path: str) -> pa.Table:
    table = _load(path)
    key = next((n for n in _ID if n in table.column_names), None)
    accepted = next((n for n in _TRUTH_ACCEPTED if n in table.column_names), None)
    if key is None or accepted is None:
        need = f"{' or '.join(_ID)} and {' or '.join(_TRUTH_ACCEPTED)}"
        raise InputError.at(
            path, "", f"needs the columns {need}; it has {', '.join(table.column_names)}", "rename them"
        )
    ids = _cast(path, key, table.column(key), pa.string())
    _check_ids(path, key, ids)
    lists = pc.split_pattern(_cast(path, accepted, table.column(accepted), pa.string()).fill_null(""), "|")
    return pa.table({"item": ids, "entity_ids": lists})
