"""The front door of linking: files in, a file and a report out; bad files are named."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from trawl.errors import AskedWrongly, InputError
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
        ("key,title\n1,Heat\n", "no column id or item_id or movie_id"),
        ("id,title\n1,Heat\n1,Heat\n", "row 2, column id"),
        ("id,title\n,Heat\n", "row 1, column id"),
        ("id,title\n1,\n", "row 1, column title"),
        ("id,title,year\n1,Heat,1990\n2,Ran,often\n", "row 2, column year: .often. is no year"),
        ("id,title,year\n1,Heat,1995.5\n", "row 1, column year: .1995.5. is no year"),
        ("id,title\n1,Heat\n2,Visitors, The\n", "got 3.*as many values as the header: quote values"),
        ("", "the file is empty; it needs a header line"),
    ],
)
def test_bad_titles_are_named(files: dict[str, str], content: str, words: str) -> None:
    Path(files["titles"]).write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        link_files(**files)
    assert files["titles"] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path(files["out"]).exists()
    assert ("UTF-8" in str(caught.value)) is False


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


@pytest.mark.parametrize("name", ["id", "item_id", "movie_id"])
def test_the_ids_of_titles_have_three_names(files: dict[str, str], name: str) -> None:
    Path(files["titles"]).write_text(TITLES.replace("id,", f"{name},", 1))
    assert link_files(**files)["linked"] == 2
    assert pacsv.read_csv(files["out"]).column("id").to_pylist() == [1, 2, 3]


@pytest.mark.parametrize("years", [("1986.0", ""), ("1986", "NaN"), (" 1986 ", "nan"), ("1986.", "")])
def test_years_may_be_written_as_pandas_does(files: dict[str, str], years: tuple[str, str]) -> None:
    Path(files["titles"]).write_text(f"id,title,year\n1,Heat,{years[0]}\n2,The Visitors,{years[1]}\n")
    link_files(**files)
    assert pacsv.read_csv(files["out"]).column("entity_id").to_pylist() == ["heat86", "visitors"]


@pytest.mark.parametrize("kind", [pa.float64(), pa.int16(), pa.string()])
def test_years_of_parquet_may_be_of_any_type(files: dict[str, str], tmp_path: Path, kind: pa.DataType) -> None:
    year = pa.array(["1986", None]).cast(kind)
    if pa.types.is_floating(kind):
        year = pa.array([1986.0, float("nan")])
    pq.write_table(pa.table({"id": [1, 2], "title": ["Heat", "The Visitors"], "year": year}), tmp_path / "t.parquet")
    link_files(**files | {"titles": str(tmp_path / "t.parquet")})
    assert pacsv.read_csv(files["out"]).column("entity_id").to_pylist() == ["heat86", "visitors"]


def test_no_titles_give_an_empty_table_and_say_so_and_no_entities_are_refused(files: dict[str, str]) -> None:
    Path(files["titles"]).write_text("id,title\n")
    report = link_files(**files)
    assert report["warning"] == f"{files['titles']} has no rows: nothing was linked"
    assert Path(files["out"]).read_text() == "id,rank,entity_id,similarity,method\n"
    Path(files["titles"]).write_text(TITLES)
    assert "warning" not in link_files(**files)
    Path(files["out"]).unlink()
    Path(files["entities"]).write_text("entity_id,label\n")
    with pytest.raises(InputError, match=r"entities\.csv: has no rows"):
        link_files(**files)
    assert not Path(files["out"]).exists()


@pytest.mark.parametrize("name", ["titles", "entities", "truth"])
def test_an_input_is_never_overwritten(files: dict[str, str], tmp_path: Path, name: str) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text("id,entity_ids\n1,heat\n")
    inputs = files | {"truth": str(truth)}
    before = Path(inputs[name]).read_bytes()
    with pytest.raises(AskedWrongly, match="is the input"):
        link_files(**inputs | {"out": f"{tmp_path}/../{tmp_path.name}/{Path(inputs[name]).name}"})
    assert Path(inputs[name]).read_bytes() == before
