"""Segments of the answer cache: immutable Parquet files whose names say which digests they hold.

    <low>-<high>-<rows>-<stamp>.parquet    low, high: first eight digits of the smallest and largest digest in it
    merged/<stamp>.json                    names of segments whose rows stand in others by now

A stamp is the time of writing and a random part; no two are the same. Rows are sorted by digest in groups of a few
thousand, so that a reader skips whole files by their names and whole groups by their statistics.
"""

import re
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trawl.errors import ArtifactError
from trawl.extraction.answers import ANSWER
from trawl.filesystems import explained
from trawl.store import Store

PREFIX = 8  # digits of a digest in a name
GROUP = 2048  # rows of a row group
SUFFIX = ".parquet"
MERGED = "merged"
_NAME = re.compile(r"([^-/]*)-([^-/]*)-(\d+)-([0-9a-f]+)\.parquet")
_WHOLE = 4 << 20  # bytes; what is smaller is read by one request
_ROW_BYTES = 200  # of a segment whose name does not tell its rows

# An answer and its standing: the highest generation holds, and of one generation the earliest stamp.
KEPT = pa.schema(
    [*ANSWER, pa.field("generation", pa.int64()), pa.field("origin", pa.string()), pa.field("stamp", pa.string())]
)


@dataclass(frozen=True)
class Segment:
    """One file of the cache. `low`, `high`: prefixes of its digests."""

    name: str
    low: str
    high: str
    rows: int
    bytes: int

    def overlaps(self, low: str, high: str) -> bool:
        return self.low <= high and low <= self.high

    @property
    def wide(self) -> bool:
        """Holds digests from more than a sixteenth of all."""
        return _share(self.high) - _share(self.low) > 1 / 16


def _share(prefix: str) -> float:
    try:
        return int(prefix.ljust(PREFIX, "0")[:PREFIX], 16) / float(16**PREFIX)
    except ValueError:  # a folder of a former layout ends behind its last digit
        return 1.0


def parsed(path: str, size: int) -> Segment | None:
    """The segment of a file below the cache's folder; None for other files.

    Former caches had a folder for each pair of first digits; what stands there is read as well.
    """
    folder, _, name = path.rpartition("/")
    if name.startswith(".") or not name.endswith(SUFFIX):
        return None
    found = _NAME.fullmatch(name)
    if found and not folder:
        return Segment(path, found[1], found[2], int(found[3]), size)
    return Segment(path, folder, f"{folder}g" if folder else "g", max(1, size // _ROW_BYTES), size)


def stamp() -> str:
    return f"{time.time_ns() // 1_000_000:012x}{uuid.uuid4().hex[:12]}"


def age(stamped: str) -> float:
    """Seconds since a stamp was made; for a name that holds none, none."""
    try:
        return time.time() - int(stamped[:12], 16) / 1000
    except ValueError:
        return 0.0


def write(store: Store, home: tuple[str, ...], rows: pa.Table) -> None:
    """Rows (schema KEPT, sorted by digest, at least one) as one segment."""
    digest = rows.column("digest")
    low, high = (digest[at].as_py()[:PREFIX] for at in (0, rows.num_rows - 1))
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd", row_group_size=GROUP)
    store.write_bytes(sink.getvalue(), *home, f"{low}-{high}-{rows.num_rows}-{stamp()}{SUFFIX}")


def read(store: Store, home: tuple[str, ...], segment: Segment, low: str, high: str) -> pa.Table | None:
    """Rows of a segment from row groups that may hold a digest between two prefixes; None when the file is gone.

    Raises ArtifactError for a file that is no segment.
    """
    names = (*home, *segment.name.split("/"))
    try:
        source = store.find_bytes(*names) if segment.bytes <= _WHOLE else store.find_file(*names)
        if source is None:
            return None
        file = pq.ParquetFile(pa.BufferReader(source) if isinstance(source, pa.Buffer) else source)
        return fit(file.read_row_groups(list(_groups(file, low, high))))
    except (pa.ArrowException, ValueError, OSError) as error:
        if not store.exists(*names):  # it was removed while it was read
            return None
        if isinstance(error, OSError):
            raise explained(error, store.where(*names), "reading answers") from error
        raise ArtifactError(
            f"{store.where(*names)}: a broken segment of the answer cache ({str(error).splitlines()[0]}); remove the "
            "file: its answers are asked again"
        ) from None


def _groups(file: pq.ParquetFile, low: str, high: str) -> Iterator[int]:
    column = file.schema_arrow.get_field_index("digest")
    for number in range(file.num_row_groups):
        known = file.metadata.row_group(number).column(column).statistics
        if known is None or not known.has_min_max or (known.min[: len(high)] <= high and low <= known.max):
            yield number


def fit(rows: pa.Table) -> pa.Table:
    """Rows in the schema KEPT: columns that an older trawl did not write are null, its standing is the lowest."""
    low = {"generation": 0, "origin": "", "stamp": ""}
    columns = [
        rows.column(f.name).cast(f.type)
        if f.name in rows.column_names
        else pa.repeat(pa.scalar(low.get(f.name), f.type), rows.num_rows)
        for f in KEPT
    ]
    return pa.table(columns, schema=KEPT)


def best(rows: pa.Table) -> pa.Table:
    """One row per digest, the one that holds, sorted by digest: the same whatever was merged before."""
    if not rows.num_rows:
        return rows
    keys = [("digest", "ascending"), ("generation", "descending"), ("stamp", "ascending")]
    rows = rows.take(pc.sort_indices(rows, keys)).combine_chunks()
    digest = rows.column("digest")
    first = np.ones(rows.num_rows, dtype=bool)
    first[1:] = pc.not_equal(digest.slice(1), digest.slice(0, rows.num_rows - 1)).to_numpy()
    return rows if first.all() else rows.filter(pa.array(first))


def grouped(found: Sequence[Segment], most: int) -> Iterator[list[Segment]]:
    """Segments by their digests in groups of at most so many rows."""
    group: list[Segment] = []
    for segment in sorted(found, key=lambda s: (s.low, s.high, s.name)):
        if group and sum(s.rows for s in group) + segment.rows > most:
            yield group
            group = []
        group.append(segment)
    if group:
        yield group
