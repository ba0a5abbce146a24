"""Raw ids of files of any size -> numbers in the order of the ids, without one process that holds all rows.

    part --code--> codes of its rows, its distinct ids --split--> R ranges of ids --rank--> numbers, back to each part

The number of an id is its rank among all distinct ids of its column: as numbers when all are whole numbers, else as
text. So partners tie to the smaller id as they do in one process. Ranges of ids are cut at samples; where they are cut
changes no number. Each function is called through a pool; the driver sees counts and samples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trawl.errors import InputError
from trawl.pool import Handle, Pool
from trawl.swing.caps import Keys, id_keys
from trawl.swing.ids import Numbers, check_columns
from trawl.swing.reading import Block, Columns, Piece, interactions, of_files, pieces

_ROWS = 1 << 20  # at once
_PART_ROWS = 4_000_000  # of a part, about: row groups of a file are not cut
_IDS = 1_000_000  # of a range, about
_RANGES, _SAMPLE = 64, 256
_WHOLE = r"^(0|[1-9]\d{0,17})$"

Codes = npt.NDArray[np.int32]


class InputPart(NamedTuple):
    """Row groups `first` to `last` - 1 of a Parquet file, whose rows begin at `row`; of other files the whole."""

    piece: Piece
    first: int = 0
    last: int = 0
    row: int = 1


@dataclass(frozen=True, kw_only=True)
class Ids:
    """One column's ids: handles of the sorted text and of what caps hash of each."""

    count: int
    text: Handle
    keys: Handle


@dataclass(frozen=True, kw_only=True)
class Numbered:
    """parts: for each, arguments of `pairs`. read: rows that were looked at; rows: those that count."""

    users: Ids
    items: Ids
    parts: Sequence[Sequence[Handle]]
    read: int
    rows: int


def parts_of(source: str, columns: Columns) -> list[InputPart]:
    """A file or folder in parts of some million rows. Raises InputError."""
    out = []
    for piece in pieces(Path(source), columns):
        if piece.path.suffix.lower() != ".parquet":
            out.append(InputPart(piece))
            continue
        groups = _groups(piece.path)
        first, row = 0, 1
        while first < max(1, len(groups)):
            last, rows = first, 0
            while last < len(groups) and (last == first or rows + groups[last] <= _PART_ROWS):
                rows, last = rows + groups[last], last + 1
            out.append(InputPart(piece, first, last, row))
            first, row = max(last, first + 1), row + rows
    return out


def _groups(path: Path) -> list[int]:
    """Rows of each row group. A file that is no Parquet file is told of by who reads it."""
    try:
        found = pq.read_metadata(path)
    except (pa.ArrowException, OSError):
        return []
    return [found.row_group(number).num_rows for number in range(found.num_row_groups)]


def numbered(pool: Pool, parts: Sequence[InputPart], columns: Columns) -> Numbered:
    """Read all parts and number both columns. Raises InputError naming file and row."""
    columns = replace(columns, time="")  # all days count
    coded = pool.calls(_coded, [(part, columns) for part in parts], returns=5)
    told = [pool.get(some[0]) for some in coded]
    sides, numbers = [], []
    for side in (0, 1):
        ids, found = _ranked(pool, [some[3 + side] for some in coded], [some[1 + side] for some in told])
        sides.append(ids)
        numbers.append(found)
    rows = [(some[1], some[2], user, item) for some, user, item in zip(coded, *numbers, strict=True)]
    return Numbered(
        users=sides[0], items=sides[1], parts=rows, read=sum(t[0] for t in told), rows=sum(t[3] for t in told)
    )


def pairs(
    users: Codes, items: Codes, user_numbers: Numbers, item_numbers: Numbers
) -> Iterator[tuple[Numbers, Numbers]]:
    """A part's rows by number."""
    yield user_numbers[users], item_numbers[items]


class _Told(NamedTuple):
    """Of a part's distinct ids: how many, whether all are whole numbers, and some of them as text."""

    distinct: int
    whole: bool
    sample: list[str]


def _coded(part: InputPart, columns: Columns) -> list[Any]:
    """What is told of a part, the codes of its rows' users and items, and the ids that the codes stand for."""
    found = interactions(_blocks(part, columns), columns)
    (users, user_ids), (items, item_ids) = _used(found.user, found.user_ids), _used(found.item, found.item_ids)
    return [(found.read, _told(user_ids), _told(item_ids), len(users)), users, items, user_ids, item_ids]


def _used(codes: Codes, ids: pa.Array) -> tuple[Codes, pa.Array]:
    """The same without ids that no row has."""
    seen = np.zeros(len(ids), dtype=bool)
    seen[codes] = True
    if seen.all():
        return codes, ids
    place = np.cumsum(seen, dtype=np.int32) - np.int32(1)
    return place[codes], ids.filter(pa.array(seen))


def _blocks(part: InputPart, columns: Columns) -> Iterator[Block]:
    if part.last == 0:
        yield from of_files([part.piece], columns)
        return
    wanted = [name for name in (columns.user, columns.item, columns.rating) if name]
    row, path = part.row, part.piece.path
    groups = list(range(part.first, part.last))
    try:
        with pq.ParquetFile(path) as file:
            check_columns(file.schema_arrow.names, wanted, path)
            for rows in file.iter_batches(_ROWS, row_groups=groups, columns=wanted, use_threads=False):
                yield Block(rows, path, row, None)
                row += rows.num_rows
    except (pa.ArrowException, OSError) as error:
        line = str(error).splitlines()[0]
        raise InputError.at(path, "", f"cannot be read ({line})", "check the file") from None


def _told(ids: pa.Array) -> _Told:
    whole = bool(pc.all(pc.match_substring_regex(ids, _WHOLE), min_count=0).as_py())
    return _Told(len(ids), whole, ids[:: max(1, len(ids) // _SAMPLE)].to_pylist())


def _ranked(pool: Pool, ids: Sequence[Handle], told: Sequence[_Told]) -> tuple[Ids, list[Handle]]:
    """The ids of a column, and for each part the numbers of its own ids."""
    whole = all(t.whole for t in told)
    sample: list[Any] = sorted({int(s) if whole else s for t in told for s in t.sample})
    ranges = min(_RANGES, max(1, sum(t.distinct for t in told) // _IDS), max(1, len(sample)))
    cuts = [sample[len(sample) * r // ranges] for r in range(1, ranges)]
    cut = pool.calls(_split, [(some, whole, cuts) for some in ids], returns=2 * ranges)
    given = [(whole, *(some[2 * r] for some in cut)) for r in range(ranges)]
    found = pool.calls(_rank, given, returns=2 + len(ids))
    counts = [pool.get(some[0]) for some in found]
    starts = [sum(counts[:r]) for r in range(ranges)]
    numbers = pool.calls(
        _placed,
        [
            (starts, *(some[2 * r + 1] for r in range(ranges)), *(found[r][2 + k] for r in range(ranges)))
            for k, some in enumerate(cut)
        ],
    )
    text, keys = pool.call(_texts, *(some[1] for some in found), returns=2)
    return Ids(count=sum(counts), text=text, keys=keys), numbers


def _split(ids: pa.Array, whole: bool, cuts: list[Any]) -> list[Any]:
    """For each range of ids: those of a part in it, and where they stood."""
    values: Any = ids.cast(pa.int64()) if whole else ids
    if whole:
        where = np.searchsorted(np.array(cuts, dtype=np.int64), values.to_numpy(), side="right")
    else:
        where = np.zeros(len(ids), dtype=np.int64)
        for cut in cuts:
            where += pc.greater_equal(ids, pa.scalar(cut, ids.type)).to_numpy(zero_copy_only=False)
    out: list[Any] = []
    for r in range(len(cuts) + 1):
        places = np.flatnonzero(where == r)
        out += [values.take(pa.array(places)), places.astype(np.int32)]
    return out


def _rank(whole: bool, *some: pa.Array) -> list[Any]:
    """How many different ids, these in their order, and the rank of each id of each part."""
    encoded = pa.chunked_array([pa.array([], some[0].type), *some]).combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    order = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(order), dtype=np.int32)
    rank[order.to_numpy()] = np.arange(len(order), dtype=np.int32)
    numbers = rank[encoded.indices.to_numpy(zero_copy_only=False)]
    ends = np.cumsum([len(part) for part in some])[:-1]
    return [len(order), encoded.dictionary.take(order), *(part.copy() for part in np.split(numbers, ends))]


def _placed(starts: list[int], *given: Any) -> Numbers:
    """A part's ids -> numbers: from the places of its ids in each range, then their ranks there."""
    places, ranks = given[: len(starts)], given[len(starts) :]
    out = np.empty(sum(len(some) for some in places), dtype=np.int32)
    for start, where, rank in zip(starts, places, ranks, strict=True):
        out[where] = rank + np.int32(start)
    return out


def _texts(*ranges: pa.Array) -> tuple[pa.Array, Keys]:
    text = pa.concat_arrays([some.cast(pa.large_string()) for some in ranges])
    return text, id_keys(text)
