"""The front door `trawl swing`: a file of interactions in, a file of partners out."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from trawl import files
from trawl.errors import AskedWrongly, InputError
from trawl.swing.formula import Formula, Normalize
from trawl.swing.hubness import hubness
from trawl.swing.tables import Side, id_column, mine

_ENDINGS = (".parquet", ".csv")  # of the interactions


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
    is replaced whole. Raises InputError naming the file and row (of a CSV file: row 1 is the first below the header),
    AskedWrongly for one column as both, or when `out` is the input.
    """
    source, target = Path(interactions), Path(out)
    files.check_out(target, [source])
    if user_column == item_column:
        raise AskedWrongly(f"column {user_column} is named for users and for items; name two columns of {interactions}")
    table = _read(source, user_column, item_column)
    for column in (user_column, item_column):
        id_column(table, column, str(source))
    formula = Formula(normalize=normalize, alpha=alpha)
    found = mine(table, user_column, item_column, side, top_k=top_k, formula=formula)
    with files.writing(target, found.schema) as write:
        write(found)
    anchors = pc.count_distinct(table.column(user_column if side == "user" else item_column)).as_py()
    best = found.filter(pc.equal(found.column("rank"), 0)).column("partner").to_numpy(zero_copy_only=False)
    hubs = hubness(best.astype(str), anchors)
    return {
        "interactions": table.num_rows,
        "rows": found.num_rows,
        "out": str(target),
        **asdict(hubs),
        "warning": hubs.warning if table.num_rows else f"{source} has no rows: the table of partners is empty",
    }


def summary(report: Mapping[str, Any]) -> str:
    """The report of `swing_file` in words, for people; the warning is left to the caller."""
    served = report["anchors"] - report["without"]
    lines = [
        f"{report['interactions']:,} interactions read",
        f"{report['rows']:,} rows of partners written: {report['out']}",
        f"{served:,} of {report['anchors']:,} anchors have a positive (their best partner)",
    ]
    if served:
        lines += [
            f"{report['distinct']:,} different positives; the commonest serves {report['largest']:.1%} of these "
            f"anchors, the ten commonest serve {report['ten']:.1%}",
            f"in a random batch of {report['batch']} an anchor shares it with about {report['collisions']:.1f} others",
        ]
    return "\n".join(lines)


def _read(path: Path, *columns: str) -> pa.Table:
    """The two columns. Ids of a CSV file are read as text, so that 007 stays 007."""
    files.ending(path, _ENDINGS, "interactions")
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
