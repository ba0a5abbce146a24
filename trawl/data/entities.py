"""Entities from Parquet files, and the accepted links of items from TSV or Parquet.

Entities: a file, or a folder of `*.parquet`, with the columns entity_id, label and, where known, year and text.
Truth: TSV with a header whose first column is the item id and whose last the accepted entity ids joined by `|`,
or Parquet with item_id and entity_ids (a list, or text joined by `|`).
"""

import difflib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trawl.data import lines
from trawl.errors import InputError
from trawl.raw import Source, parquet, source

COLUMNS = {"entity_id": pa.large_string(), "label": pa.large_string(), "year": pa.int32(), "text": pa.large_string()}
_NEEDED = ("entity_id", "label")


class EntityFiles:
    """A knowledge base in Parquet, read one row group at a time."""

    def __init__(self, path: str) -> None:
        self._path = source(path)
        self._files: list[Source] = []

    def files(self) -> list[Source]:
        """Raises InputError when there is no Parquet file."""
        if not self._files:
            found: list[Source] = [*self._path.glob("*.parquet")] if self._path.is_dir() else [self._path]
            if not found or not found[0].is_file():
                raise InputError.at(self._path, "", "no such Parquet file or folder of them", "check linking.entities")
            self._files = sorted(found, key=str)
        return self._files

    def pieces(self) -> list[tuple[int, int, int]]:
        """(number of the file, row group, its first row) of every row group; the columns are checked on the way."""
        out = []
        for number, path in enumerate(self.files()):
            file = _open(path)
            _check_columns(path, file.schema_arrow.names)
            first = 0
            for group in range(file.num_row_groups if file.metadata.num_rows else 0):
                out.append((number, group, first))
                first += file.metadata.row_group(group).num_rows
        if not out:
            raise InputError.at(self._path, "", "no entity in it", "check linking.entities")
        return out

    def rows(self, file: int, group: int, first: int) -> pa.Table:
        """entity_id, label, year, text, at of a row group; at = (file number << 40) + row from 0.

        Raises InputError naming file, row and id for a null or empty id, a null label, or a value of another type.
        """
        path = self.files()[file]
        opened = _open(path)
        found = opened.read_row_group(group, columns=[n for n in COLUMNS if n in opened.schema_arrow.names])
        columns = {name: _column(path, found, name, kind, first) for name, kind in COLUMNS.items()}
        at = np.arange(first, first + found.num_rows) + (file << 40)
        rows = pa.table(columns | {"at": pa.array(at)})
        for mask, what in (
            (pc.is_null(rows["entity_id"]), "entity_id is null"),
            (pc.equal(rows["entity_id"], ""), "entity_id is empty"),
            (pc.is_null(rows["label"]), "label is null"),
        ):
            row = pc.index(mask, True).as_py()
            if row >= 0:
                raise self.wrong(int(at[row]), f"{what} (entity_id = {rows['entity_id'][row].as_py()!r})")
        blank = pc.equal(pc.utf8_trim_whitespace(rows["text"]), "")
        return rows.set_column(3, "text", pc.if_else(blank, pa.scalar(None, pa.large_string()), rows["text"]))

    def wrong(self, at: int, what: str) -> InputError:
        """The error for the row at `at`, by its number from 1 in its file."""
        path = self.files()[at >> 40]
        return InputError.at(path, f"row {(at & (1 << 40) - 1) + 1}", what, "mend the file")


def _open(path: Source) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(parquet(path))
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError.at(path, "", f"not a Parquet file that can be read ({error})") from None


def _check_columns(path: Source, there: list[str]) -> None:
    for name in _NEEDED:
        if name not in there:
            close = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
            hint = f"rename {close[0]!r}" if close else "add it"
            raise InputError.at(path, f"column {name!r}", f"missing; the file has {', '.join(there)}", hint)


def _column(path: Source, found: pa.Table, name: str, kind: pa.DataType, first: int) -> pa.ChunkedArray:
    if name not in found.column_names:
        return pa.chunked_array([pa.nulls(found.num_rows, kind)])
    try:
        return found.column(name).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        where = f"column {name!r}, rows from {first + 1}"
        raise InputError.at(path, where, f"{found.schema.field(name).type} where {kind} is due ({error})") from None


class TruthFile:
    """Accepted entity ids of items, from a TSV or Parquet file of the size of a catalogue's labels."""

    def __init__(self, path: str) -> None:
        self._path = source(path)
        self._parquet = self._path.suffix == ".parquet"

    def rows(self) -> pa.Table:
        """item_id, entity_ids (list), at. Raises InputError naming file and line or row."""
        if not self._path.is_file():
            raise InputError.at(self._path, "", "no such file", "check linking.truth")
        rows = self._from_parquet() if self._parquet else self._from_tsv()
        for mask, what in (
            (pc.fill_null(pc.equal(rows["item_id"], ""), True), "the item id is empty"),
            (pc.fill_null(pc.equal(pc.list_value_length(rows["entity_ids"]), 0), True), "no entity id"),
        ):
            row = pc.index(mask, True).as_py()
            if row >= 0:
                raise self.wrong(rows["at"][row].as_py(), what)
        return rows

    def wrong(self, at: int, what: str) -> InputError:
        """The error for the row at `at`."""
        if self._parquet:
            return InputError.at(self._path, f"row {at + 1}", what, "mend the file")
        return lines.wrong(self._path, at, what, "mend the file")

    def _from_tsv(self) -> pa.Table:
        with self._path.open("rb") as file:
            header = file.readline().decode("utf-8", "replace").rstrip("\r\n").split("\t")
        if len(header) < 2 or not header[-1].endswith("entity_ids"):
            what = f"the header is {header}"
            raise InputError.at(self._path, "line 1", what, "write item_id and entity_ids, separated by a tab")
        parts = [lines.read(self._path, a, b, header, "\t", "utf-8") for a, b in lines.ranges(self._path)]
        rows = pa.concat_tables(parts).slice(1)
        ids = pc.split_pattern(rows[header[-1]], "|")
        return pa.table({"item_id": rows[header[0]], "entity_ids": _present(ids, rows[header[-1]]), "at": rows["at"]})

    def _from_parquet(self) -> pa.Table:
        found = _open(self._path).read()
        for name in ("item_id", "entity_ids"):
            if name not in found.column_names:
                what = f"missing; the file has {', '.join(found.column_names)}"
                raise InputError.at(self._path, f"column {name!r}", what, "rename or add it")
        ids = found["entity_ids"]
        if not pa.types.is_list(ids.type) and not pa.types.is_large_list(ids.type):
            ids = _present(pc.split_pattern(ids.cast(pa.large_string()), "|"), ids.cast(pa.large_string()))
        ids = ids.cast(pa.list_(pa.large_string()))
        item = found["item_id"].cast(pa.large_string())
        return pa.table({"item_id": item, "entity_ids": ids, "at": np.arange(found.num_rows)})


def _present(lists: pa.ChunkedArray, text: pa.ChunkedArray) -> pa.ChunkedArray:
    """The lists, null where the text they were split from is empty (it splits into one empty id)."""
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, lists.type), lists)
