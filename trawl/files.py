"""Files of a table that the front doors write: Parquet, CSV or TSV by the ending, whole or absent."""

import csv
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from trawl.errors import AskedWrongly, InputError, StoreError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
ENDINGS = (".parquet", *DELIMITERS)
_ROWS = 16384  # rows that are text at a time

Write = Callable[[pa.Table], None]


def ending(path: str | Path, endings: Iterable[str] = ENDINGS, what: str = "the file") -> str:
    """The ending of a path in small letters. Raises InputError for one that says no format."""
    kind, known = Path(path).suffix.lower(), tuple(endings)
    if kind not in known:
        raise InputError.at(
            path, "", f"the ending of {what} says no format", f"it must be one of {', '.join(known)}; rename it"
        )
    return kind


def check_out(out: str | Path, inputs: Iterable[str | Path], endings: Iterable[str] = ENDINGS) -> None:
    """Refuse, before any work, an `out` of no known format, without its folder, or that is one of the inputs."""
    ending(out, endings, "out")
    target = Path(out)
    if not target.parent.is_dir():
        raise InputError.at(out, "", "its folder does not exist", "make it first")
    if target.is_dir():
        raise InputError.at(out, "", "is a folder", "name a file")
    for path in inputs:
        if target.exists() and Path(path).exists() and target.samefile(path):
            raise AskedWrongly(f"--out {out}: is the input {path}; name another file, inputs are never overwritten")


@contextmanager
def writing(path: str | Path, schema: pa.Schema) -> Iterator[Write]:
    """A function that adds rows to the file at `path`, which appears when all are there; an older one is replaced.

    CSV and TSV quote where a value holds the separator, a quote or a new line, and nowhere else. Memory: one table.
    Raises InputError where `path` must not be written, StoreError where it cannot be.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with _told(target):
            add, close = _opened(temporary, ending(target), schema)

        def write(table: pa.Table) -> None:
            with _told(target):
                add(table)

        try:
            yield write
        finally:
            with _told(target):
                close()
        with _told(target):
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _opened(path: Path, kind: str, schema: pa.Schema) -> tuple[Write, Callable[[], None]]:
    """What adds rows, and what closes the file."""
    if kind == ".parquet":
        writer = pq.ParquetWriter(path, schema, compression="zstd")
        return writer.write_table, writer.close
    file = path.open("w", encoding="utf-8", newline="")
    lines = csv.writer(file, delimiter=DELIMITERS[kind], lineterminator="\n")
    lines.writerow(schema.names)

    def write(table: pa.Table) -> None:
        for batch in table.to_batches(_ROWS):
            lines.writerows(zip(*(column.to_pylist() for column in batch.columns), strict=True))

    return write, file.close


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise InputError.at(path, "", f"cannot be written ({error.strerror or error})", "name another file") from None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}; nothing was written") from error
