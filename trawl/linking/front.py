"""Linking of files: what `trawl link` does. Printing is left to the command line."""

import csv
import io
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from trawl.errors import InputError
from trawl.linking.edit_distance import link
from trawl.linking.report import linking_report
from trawl.sections import Linking

OUT = ["id", "rank", "entity_id", "similarity", "method"]
_TRUTH_ID = ("id", "item_id", "movie_id")
_TRUTH_ACCEPTED = ("accepted_entity_ids", "entity_ids")


def link_files(
    titles: str, entities: str, out: str, truth: str | None = None, settings: Linking | None = None
) -> dict[str, Any]:
    """Link titles (id, title[, year]) to entities (entity_id, label[, year][, text]); write `out`; return the report.

    Files are Parquet, CSV or TSV by their ending. truth: id (or item_id, movie_id) and accepted_entity_ids (or
    entity_ids) joined by |. Raises InputError naming file, row and column; `out` is whole or absent.
    """
    settings = settings or Linking()
    _kind(out)
    asked = _read(titles, ("id", "title"))
    known = _read(entities, ("entity_id", "label"))
    accepted = _truth(truth) if truth else None
    links = link(
        asked,
        known,
        threshold=settings.threshold,
        year_tolerance=settings.year_tolerance,
        candidates=settings.candidates,
        decode=settings.decode_labels,
    )
    _write(links.select(OUT), out)
    return linking_report(links.rename_columns(["item", *links.column_names[1:]]), accepted)


def _kind(path: str) -> str:
    kind = Path(path).suffix.lower()
    if kind not in (".parquet", ".csv", ".tsv"):
        raise InputError.at(path, "", "ends in none of .parquet, .csv, .tsv", "rename it to what it is")
    return kind


def _read(path: str, needed: tuple[str, str]) -> pa.Table:
    """The columns that linking knows; the first needed one is an id: never null, never twice."""
    table = _load(path, ("year",))
    for name in needed:
        if name not in table.column_names:
            raise InputError.at(path, "", f"no column {name} (it has {', '.join(table.column_names)})", "rename one")
    kinds = dict.fromkeys((*needed, "text"), pa.large_string()) | {"year": pa.int32()}
    columns = {
        name: _cast(path, name, table.column(name), kind) for name, kind in kinds.items() if name in table.column_names
    }
    _check_ids(path, needed[0], columns[needed[0]])
    if columns[needed[1]].null_count:
        raise _at_row(path, int(pc.index(pc.is_null(columns[needed[1]]), True).as_py()), needed[1], "is empty")
    return pa.table(columns)


def _cast(path: str, name: str, column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        return column.cast(kind)
    except pa.ArrowException as error:
        raise InputError.at(path, f"column {name}", f"not {kind}: {error}") from None


def _load(path: str, numbers: tuple[str, ...] = ()) -> pa.Table:
    kind = _kind(path)
    try:
        if kind == ".parquet":
            return pq.read_table(path)
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            names = next(csv.reader(file, delimiter="\t" if kind == ".tsv" else ","), [])
        types = {name: pa.int32() if name in numbers else pa.large_string() for name in names}
        return pacsv.read_csv(
            path,
            parse_options=pacsv.ParseOptions(
                delimiter="\t" if kind == ".tsv" else ",",
                quote_char='"' if kind == ".csv" else False,
                newlines_in_values=kind == ".csv",
            ),
            convert_options=pacsv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""]),
        )
    except FileNotFoundError:
        raise InputError.at(path, "", "no such file", "check the path") from None
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise InputError.at(path, "", f"cannot be read ({' '.join(str(error).split())})", "it must be UTF-8") from None


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
    key = next((n for n in _TRUTH_ID if n in table.column_names), None)
    accepted = next((n for n in _TRUTH_ACCEPTED if n in table.column_names), None)
    if key is None or accepted is None:
        need = f"{' or '.join(_TRUTH_ID)} and {' or '.join(_TRUTH_ACCEPTED)}"
        raise InputError.at(
            path, "", f"needs the columns {need}; it has {', '.join(table.column_names)}", "rename them"
        )
    ids = _cast(path, key, table.column(key), pa.string())
    _check_ids(path, key, ids)
    lists = pc.split_pattern(_cast(path, accepted, table.column(accepted), pa.string()).fill_null(""), "|")
    return pa.table({"item": ids, "entity_ids": lists})


def _write(table: pa.Table, path: str) -> None:
    """Beside the target first, then renamed over it."""
    kind, target = _kind(path), Path(path)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if kind == ".parquet":
            pq.write_table(table, temporary)
        else:
            text = io.StringIO()
            writer = csv.writer(text, delimiter="\t" if kind == ".tsv" else ",", lineterminator="\n")
            writer.writerow(table.column_names)
            writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))
            temporary.write_text(text.getvalue(), encoding="utf-8")
        temporary.replace(target)
    except OSError as error:
        raise InputError.at(path, "", f"cannot be written ({error.strerror})") from None
    finally:
        temporary.unlink(missing_ok=True)
