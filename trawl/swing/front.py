"""The front door `trawl swing`: a file of interactions in, a file of partners out; Parquet or CSV by the ending."""

import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from trawl.errors import InputError
from trawl.swing.hubness import hubness
from trawl.swing.kernel import Normalize
from trawl.swing.tables import Side, id_column, mine

_ENDINGS = (".parquet", ".csv")


def swing_file(
    interactions: str,
    user_column: str,
    item_column: str,
    side: Side,
    *,
    top_k: int,
    normalize: Normalize,
    out: str,
    alpha: float = 1.0,
) -> dict[str, Any]:
    """Write the partners of all users or items to `out`; returns counts and the hubness, with its warning.

    All interactions of the file count, each pair once. `out` has anchor, rank, partner, score, shared, with the raw
    ids as text; ties go to the smaller id (as numbers when all ids are whole numbers, else as text). An existing file
    is replaced whole. Raises InputError naming the file and row (of a CSV file: row 1 is the first below the header).
    """
    source, target = Path(interactions), Path(out)
    _known_ending(target, "out")
    if not target.parent.is_dir():
        raise InputError.at(out, "", "its folder does not exist", "make it first")
    table = _read(source, user_column, item_column)
    for column in (user_column, item_column):
        id_column(table, column, str(source))
    found = mine(
        table,
        user_column,
        item_column,
        side,
        top_k=top_k,
        normalize=normalize,
        alpha=alpha,
    )
    _write(found, target)
    anchors = pc.count_distinct(table.column(user_column if side == "user" else item_column)).as_py()
    best = found.filter(pc.equal(found.column("rank"), 0)).column("partner").to_numpy(zero_copy_only=False)
    hubs = hubness(best.astype(str), anchors)
    return {
        "interactions": table.num_rows,
        "rows": found.num_rows,
        "out": str(target),
        **asdict(hubs),
        "warning": hubs.warning,
    }


def _known_ending(path: Path, what: str) -> None:
    if path.suffix.lower() not in _ENDINGS:
        raise InputError.at(path, "", f"the ending of {what} says no format", "use .parquet or .csv")


def _read(path: Path, *columns: str) -> pa.Table:
    """The two columns. Ids of a CSV file are read as text, so that 007 stays 007."""
    _known_ending(path, "interactions")
    if not path.is_file():
        raise InputError.at(path, "", "no such file", "check --interactions")
    try:
        if path.suffix.lower() == ".parquet":
            schema = pq.read_schema(path)
            known = set(columns) <= set(schema.names)  # else the columns there are, for the message
            return pq.read_table(path, columns=list(dict.fromkeys(columns))) if known else schema.empty_table()
        text = pacsv.ConvertOptions(column_types={name: pa.string() for name in columns}, strings_can_be_null=False)
        return pacsv.read_csv(path, convert_options=text)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if path.suffix.lower() == ".csv" and path.stat().st_size == 0:
            raise InputError.at(path, "", "the file is empty", "a CSV file needs a header line") from None
        raise InputError.at(path, "", f"cannot be read ({str(error).splitlines()[0]})", "check the file") from None


def _write(table: pa.Table, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        if path.suffix.lower() == ".parquet":
            pq.write_table(table, temporary, compression="zstd")
        else:
            pacsv.write_csv(table, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
