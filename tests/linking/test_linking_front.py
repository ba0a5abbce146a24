"""The front door of linking: files in, a file and a report out; bad files are named."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from trawl.errors import InputError
from trawl.linking.front import link_files

TITLES = 'id,title\n1,Heat (1995)\n2,"Visitors, The (1993)"\n3,Unheard Of (1990)\n'
ENTITIES = "entity_id,label,year\nheat,Heat,1995\nheat86,Heat,1986\nvisitors,The Visitors,1993\n"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    paths = {name: str(tmp_path / f"{name}.csv") for name in ("titles", "entities", "out")}
    Path(paths["titles"]).write_text(TITLES)
    Path(paths["entities"]).write_text(ENTITIES)
    return paths


def test_csv_in_and_out_with_report(files: dict[str, str], tmp_path: Path) -> None:
    truth = tmp_path / "truth.tsv"
    truth.write_text("movie_id\ttitle\taccepted_entity_ids\n1\tHeat\theat|other\n2\tVisitors\tsomething\n")
    report = link_files(**files, truth=str(truth))
    out = pacsv.read_csv(files["out"])
    assert out.column_names == ["id", "rank", "entity_id", "similarity", "method"]
    assert out.column("method").to_pylist() == ["exact", "exact", "none"]
    assert report["coverage"] == pytest.approx(2 / 3)
    assert (report["truth_items"], report["right"], report["accuracy"]) == (2, 1, 0.5)
    assert sum(report["similarity"]["counts"]) == len(out.column("similarity").drop_null())


def test_parquet_with_numbers_as_ids(files: dict[str, str], tmp_path: Path) -> None:
    titles, out = tmp_path / "t.parquet", tmp_path / "o.parquet"
    pq.write_table(pa.table({"id": [7], "title": ["Heat"], "year": pa.array([1986], pa.int16())}), titles)
    report = link_files(str(titles), files["entities"], str(out))
    assert pq.read_table(out).to_pylist()[0]["entity_id"] == "heat86"
    assert "accuracy" not in report


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("key,title\n1,Heat\n", "no column id"),
        ("id,title\n1,Heat\n1,Heat\n", "row 2, column id"),
        ("id,title\n,Heat\n", "row 1, column id"),
        ("id,title\n1,\n", "row 1, column title"),
        ("id,title,year\n1,Heat,often\n", "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_bad_titles_are_named(files: dict[str, str], content: str, words: str) -> None:
    Path(files["titles"]).write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        link_files(**files)
    assert files["titles"] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path(files["out"]).exists()


def test_latin_1_missing_and_misnamed_files(files: dict[str, str], tmp_path: Path) -> None:
    Path(files["titles"]).write_bytes("id,title\n1,Amélie\n".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        link_files(**files)
    with pytest.raises(InputError, match="no such file"):
        link_files(str(tmp_path / "gone.csv"), files["entities"], files["out"])
    with pytest.raises(InputError, match=r"\.xlsx"):
        link_files(str(tmp_path / "t.xlsx"), files["entities"], files["out"])
    truth = tmp_path / "truth.csv"
    truth.write_text("film,answer\n1,2\n")
    Path(files["titles"]).write_text(TITLES)
    with pytest.raises(InputError, match="accepted_entity_ids"):
        link_files(**files, truth=str(truth))
