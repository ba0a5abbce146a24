"""Files of the front doors: formats by the ending, whole or absent, never an input, errors in one line."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from trawl import files
from trawl.errors import AskedWrongly, InputError, StoreError

TABLE = pa.table({"name": ["a,b", 'say "c"', None], "score": [0.1, 2.0, None]})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", files.ENDINGS)
def test_what_is_written_is_read_back(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"out{kind.upper()}"
    with files.writing(path, TABLE.schema) as write:
        write(TABLE.slice(0, 1))
        write(TABLE.slice(1))
        assert not path.exists()
    if kind == ".parquet":
        found = pq.read_table(path)
    else:
        options = pacsv.ParseOptions(delimiter=files.DELIMITERS[kind])
        nulls = pacsv.ConvertOptions(strings_can_be_null=True)
        found = pacsv.read_csv(path, parse_options=options, convert_options=nulls)
    assert found.to_pydict() == TABLE.to_pydict()
    assert names(tmp_path) == [path.name]


def test_a_failure_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("older")
    with pytest.raises(KeyError), files.writing(path, TABLE.schema) as write:
        write(TABLE)
        raise KeyError
    assert path.read_text() == "older" and names(tmp_path) == ["out.csv"]


def test_a_full_disk_is_the_stores_failure() -> None:
    wide = pa.table({"name": ["x" * 100_000]})
    with (
        pytest.raises(StoreError, match="/dev/full: No space left on device; nothing was written"),
        files._told(Path("/dev/full")),
    ):
        write, close = files._opened(Path("/dev/full"), ".csv", wide.schema)
        write(wide)
        close()


def test_an_out_that_cannot_be_is_refused_first(tmp_path: Path) -> None:
    one = tmp_path / "one.csv"
    one.write_text("x")
    (tmp_path / "link.csv").symlink_to(one)
    (tmp_path / "folder.csv").mkdir()
    for out, error, says in (
        ("out.xlsx", InputError, "ending of out says no format; it must be one of .parquet, .csv, .tsv"),
        ("none/out.csv", InputError, "its folder does not exist"),
        ("folder.csv", InputError, "is a folder"),
        ("one.csv", AskedWrongly, "is the input"),
        ("link.csv", AskedWrongly, "is the input"),
    ):
        with pytest.raises(error) as caught:
            files.check_out(tmp_path / out, [one, tmp_path / "gone.csv"])
        assert says in str(caught.value) and "\n" not in str(caught.value)
    files.check_out(tmp_path / "new.csv", [one])
