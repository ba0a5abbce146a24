"""Interactions from a Parquet file, a folder of them, a CSV file or an Arrow table: numbers of users, items and days.

Files are read in blocks of rows. What is kept is 8 bytes per interaction (12 with days) and each id once.
"""

import datetime
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from trawl import files
from trawl.errors import AskedWrongly, InputError
from trawl.swing.days import DayNumbers, Unit, numbers, parse_day, to_days
from trawl.swing.ids import Numbering, Numbers, check_columns, joined

ENDINGS = (".parquet", ".csv", ".tsv")
_ROWS = 1 << 20  # rows at once
_BLOCK = 32 << 20  # bytes of CSV at once
_DATED = re.compile(r"([^=]+)=(\d{4}-\d{2}-\d{2})")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of the columns. Without a rating column every row is an interaction, else those above like_above.

    time: of timestamps, dates, ISO 8601 text, or numbers of `time_unit`s since 1970; in a folder of folders
    NAME=YYYY-MM-DD those dates are the time when it is NAME or empty. Raises AskedWrongly.
    """

    user: str
    item: str
    rating: str = ""
    like_above: float = 3.0
    time: str = ""
    time_unit: Unit = "s"

    def __post_init__(self) -> None:
        if self.user == self.item:
            raise AskedWrongly(f"column {self.user} is named for users and for items; name two columns")
        for name in (self.rating, self.time):
            if name and name in (self.user, self.item):
                raise AskedWrongly(f"column {name} is named for ids and for ratings or times; name two columns")


@dataclass(frozen=True)
class Interactions:
    """Rows in the order of reading: numbers of ids (positions in user_ids and item_ids, in no order) and days."""

    user: Numbers
    item: Numbers
    day: DayNumbers | None
    user_ids: pa.Array
    item_ids: pa.Array
    read: int  # rows that were looked at; those below like_above or outside `keep` are not here


class Block(NamedTuple):
    """Some rows of one file; errors name the file and count its rows from first_row."""

    rows: pa.RecordBatch
    where: object
    first_row: int
    day: int | None  # by the folder's name


class Piece(NamedTuple):
    """A file, and the day in its folder's name where that counts."""

    path: Path
    day: int | None


Keep = Callable[[DayNumbers], npt.NDArray[np.bool_]]


def interactions(blocks: Iterable[Block], columns: Columns, keep: Keep | None = None) -> Interactions:
    """Blocks of rows put together. keep: of days, which to keep. Raises InputError naming file and row."""
    users, items = Numbering(columns.user), Numbering(columns.item)
    days: list[DayNumbers] = []
    read, dated = 0, bool(columns.time)
    for block in blocks:
        rows, (where, first) = block.rows, (block.where, block.first_row)
        check_columns(rows.schema.names, _wanted(columns, block.day), where)
        user = users.encoded(rows.column(columns.user), where, first)
        item = items.encoded(rows.column(columns.item), where, first)
        kept = np.ones(rows.num_rows, dtype=np.bool_)
        if columns.rating:
            rating = numbers(rows.column(columns.rating), "rating", where, columns.rating, first)
            kept = rating.to_numpy(zero_copy_only=False) > columns.like_above
        day = _days(block, columns)
        if day is not None:
            dated = True
            kept = kept & keep(day) if keep else kept
            days.append(day[kept])
        for numbering, ids in ((users, user), (items, item)):
            numbering.add(ids if kept.all() else ids.filter(pa.array(kept)))
        read += rows.num_rows
    user, item = users.numbers(), items.numbers()
    return Interactions(user, item, joined(days) if dated else None, users.known, items.known, read)


def of_table(table: pa.Table, where: object = "interactions") -> Iterator[Block]:
    """The blocks of an Arrow table, one without rows when it has none, so that its columns are checked."""
    first = 1
    for rows in table.to_batches(max_chunksize=_ROWS) or [pa.RecordBatch.from_pylist([], schema=table.schema)]:
        yield Block(rows, where, first, None)
        first += rows.num_rows


def pieces(path: Path, columns: Columns) -> list[Piece]:
    """The files of --interactions by name, dated by their folders where those say so. Raises InputError."""
    if not path.is_dir():
        files.ending(path, ENDINGS, "interactions")
        if not path.is_file():
            raise InputError.at(path, "", "no such file", "check --interactions")
        return [Piece(path, None)]
    inside = (p for p in sorted(path.rglob("*.parquet")) if p.is_file())
    found = [p for p in inside if not any(part.startswith(("_", ".")) for part in p.relative_to(path).parts)]
    if not found:
        raise InputError.at(path, "", "there is no .parquet file in the folder", "check --interactions")
    days = [_day_of(p.relative_to(path).parts[:-1], columns.time, p) for p in found]
    undated = days.index(None) if None in days else -1
    if undated >= 0 and any(day is not None for day in days):
        raise InputError.at(found[undated], "", "is in no folder NAME=YYYY-MM-DD, as others are", "move it")
    return [Piece(p, day) for p, day in zip(found, days, strict=True)]


def of_files(found: Iterable[Piece], columns: Columns) -> Iterator[Block]:
    """The blocks of files, read one after another. Raises InputError naming the file."""
    for piece in found:
        blocks = _parquet if piece.path.suffix.lower() == ".parquet" else _csv
        first = 1
        reading = blocks(piece.path, _wanted(columns, piece.day))
        while True:
            try:
                rows = next(reading, None)
            except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                raise _unreadable(piece.path, error) from None
            if rows is None:
                break
            yield Block(rows, piece.path, first, piece.day)
            first += rows.num_rows


def _parquet(path: Path, wanted: list[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        check_columns(schema.names, wanted, path)
        if file.metadata.num_rows:
            yield from file.iter_batches(_ROWS, columns=wanted, use_threads=False)
        else:
            yield pa.RecordBatch.from_pylist([], schema=pa.schema([schema.field(name) for name in wanted]))


def _csv(path: Path, wanted: list[str]) -> Iterator[pa.RecordBatch]:
    """Everything is read as text, so that 007 stays 007."""
    parse = pacsv.ParseOptions(delimiter=files.DELIMITERS[path.suffix.lower()], newlines_in_values=True)
    with pacsv.open_csv(path, parse_options=parse) as reader:
        check_columns(reader.schema.names, wanted, path)
    convert = pacsv.ConvertOptions(
        include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string()), strings_can_be_null=False
    )
    read = pacsv.ReadOptions(block_size=_BLOCK)
    with pacsv.open_csv(path, read_options=read, parse_options=parse, convert_options=convert) as reader:
        none = True
        for rows in reader:
            none = False
            yield rows
        if none:
            yield pa.RecordBatch.from_pylist([], schema=reader.schema)


def _unreadable(path: Path, error: Exception) -> InputError:
    if path.suffix.lower() != ".parquet" and path.stat().st_size == 0:
        return InputError.at(path, "", "the file is empty", "a CSV file needs a header line")
    return InputError.at(path, "", f"cannot be read ({str(error).splitlines()[0]})", "check the file")


def _wanted(columns: Columns, day: int | None) -> list[str]:
    time = columns.time if day is None else ""
    return list(dict.fromkeys(name for name in (columns.user, columns.item, columns.rating, time) if name))


def _days(block: Block, columns: Columns) -> DayNumbers | None:
    if block.day is not None:
        return np.full(block.rows.num_rows, block.day, dtype=np.int32)
    if not columns.time:
        return None
    return to_days(block.rows.column(columns.time), columns.time_unit, block.where, columns.time, block.first_row)


def _day_of(folders: tuple[str, ...], time: str, path: Path) -> int | None:
    for folder in folders:
        dated = _DATED.fullmatch(folder)
        if dated and time in ("", dated[1]):
            try:
                datetime.date.fromisoformat(dated[2])
            except ValueError:
                raise InputError.at(path, "", f"{folder} is no date", "rename the folder") from None
            return parse_day(dated[2])
    return None
