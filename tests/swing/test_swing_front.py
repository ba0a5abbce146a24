import subprocess
import sys

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from trawl.errors import AskedWrongly, ConfigError, InputError
from trawl.swing import Columns, Formula, Request, mine, mine_file
from trawl.swing.front import summary

ROWS = {"who": ["b", "b", "a", "a", "c", "b"], "what": ["x", "y", "x", "y", "y", "x"]}


def run(tmp_path, name="in.csv", out="out.csv", side="user", top_k=5, normalize="none", **options):
    columns = Columns(user="who", item="what")
    request = Request(side=side, top_k=top_k, formula=Formula(normalize=normalize), **options)
    return mine_file(tmp_path / name, tmp_path / out, columns, request)


def write(tmp_path, text, name="in.csv"):
    (tmp_path / name).write_text(text)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_both_formats_give_raw_ids_and_count_a_pair_once(tmp_path, ending):
    table = pa.table(ROWS)
    pacsv.write_csv(table, tmp_path / "in.csv") if ending == "csv" else pq.write_table(table, tmp_path / "in.parquet")
    report = run(tmp_path, f"in.{ending}", f"out.{ending}")
    out = pacsv.read_csv(tmp_path / "out.csv") if ending == "csv" else pq.read_table(tmp_path / "out.parquet")
    assert out.column_names == ["anchor", "rank", "partner", "score", "shared"]
    # x has 2 users, y 3, both together 2: s(a, b) = 1/3 + 1/4 + 2/3, with c only 1/4.
    rows = [(r["anchor"], r["rank"], r["partner"], round(r["score"], 9), r["shared"]) for r in out.to_pylist()]
    assert rows[:3] == [("a", 0, "b", 1.25, 2), ("a", 1, "c", 0.25, 1), ("b", 0, "a", 1.25, 2)]
    assert (report["rows"], report["anchors"], report["without"]) == (6, 3, 0)


def test_ties_go_by_number_when_all_ids_are_numbers_else_by_text():
    def partners(ids):
        table = pa.table({"u": ids, "i": ["x"] * len(ids)})
        return mine(table, "u", "i", "user", formula=Formula(normalize="none")).column("partner").to_pylist()[:2]

    assert partners(["2", "10", "9"]) == ["9", "10"]
    assert partners(["2", "10", "9", "z"]) == ["2", "9"]
    assert partners([2, 10, 9]) == ["9", "10"]
    assert partners(["007", "7", "1"]) == ["1", "7"]  # 007 and 7 are two ids


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("who,what\na,x\n,y\n", "row 2, column who: the id is empty"),
        ("who,what\na,x\nb,NaN\n", "row 2, column what: the id is NaN"),
        ("who,what\n1,x\n2,x\n-3,x\n", "row 3, column who: the id is negative"),
        ("who,that\na,x\n", "column what: there is no such column; the columns there are: who, that"),
        ("", "the file is empty"),
        ("who,what\na\n", "cannot be read"),
    ],
)
def test_bad_csv_is_refused_by_file_and_row(tmp_path, text, says):
    write(tmp_path, text)
    with pytest.raises(InputError) as error:
        run(tmp_path)
    assert str(tmp_path / "in.csv") in str(error.value) and says in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (pa.array([1, None, 3]), "row 2, column who: the id is null"),
        (pa.array([1.0, 2.0, float("nan")]), "row 3, column who: the id is NaN"),
        (pa.array([1.0, 2.5, 3.0]), "row 2, column who: the id is not a whole number"),
        (pa.array([[1], [2], [3]]), "column who: holds list"),
        (pa.array([0, -1, 3]), "row 2, column who: the id is negative"),
    ],
)
def test_bad_parquet_is_refused_by_file_and_row(tmp_path, column, says):
    pq.write_table(pa.table({"who": column, "what": ["x", "y", "z"]}), tmp_path / "in.parquet")
    with pytest.raises(InputError) as error:
        run(tmp_path, "in.parquet")
    assert str(tmp_path / "in.parquet") in str(error.value) and says in str(error.value)


def test_missing_column_of_parquet_missing_file_and_endings(tmp_path):
    pq.write_table(pa.table({"who": ["a"]}), tmp_path / "in.parquet")
    with pytest.raises(InputError, match="the columns there are: who"):
        run(tmp_path, "in.parquet")
    with pytest.raises(InputError, match="no such file"):
        run(tmp_path, "not-there.csv")
    with pytest.raises(InputError, match="ending of out"):
        run(tmp_path, "in.parquet", "out.txt")
    with pytest.raises(InputError, match="folder does not exist"):
        run(tmp_path, "in.parquet", "no/out.csv")
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="cannot be read"):
        run(tmp_path, "broken.parquet")


def test_no_rows_give_an_empty_table(tmp_path):
    write(tmp_path, "who,what\n")
    for side in ("user", "item"):
        report = run(tmp_path, out="out.parquet", side=side)
        assert (report["rows"], report["anchors"]) == (0, 0)
        assert pq.read_table(tmp_path / "out.parquet").num_rows == 0
        assert report["warning"] == f"{tmp_path}/in.csv has no rows: the table of partners is empty"


def test_one_column_as_both_and_an_input_as_out_are_refused(tmp_path):
    text = "who,what\na,x\nb,x\n"
    write(tmp_path, text)
    with pytest.raises(AskedWrongly, match="column who is named for users and for items"):
        Columns(user="who", item="who")
    with pytest.raises(AskedWrongly, match="is the input"):
        run(tmp_path, out=f"../{tmp_path.name}/in.csv")
    assert (tmp_path / "in.csv").read_text() == text


def test_csv_quotes_only_what_needs_it(tmp_path):
    write(tmp_path, 'who,what\n"a,1",x\nb,x\n')
    run(tmp_path)
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "anchor,rank,partner,score,shared"
    assert lines[1].startswith('"a,1",0,b,0.33') and lines[2].startswith('b,0,"a,1",0.33')
    assert pacsv.read_csv(tmp_path / "out.csv").column("anchor").to_pylist() == ["a,1", "b"]


def test_the_report_is_in_words(tmp_path):
    pacsv.write_csv(pa.table(ROWS), tmp_path / "in.csv")
    words = summary(run(tmp_path))
    assert "3 of 3 anchors have a positive" in words
    assert "2 different positives; the commonest serves 66.7% of these anchors" in words
    assert not {line.partition(":")[0] for line in words.splitlines()} & {"largest", "ten", "collisions", "batch"}
    write(tmp_path, "who,what\n")
    assert "0 of 0 anchors" in summary(run(tmp_path))


def test_wrong_side_is_refused():
    with pytest.raises(ConfigError, match="side"):
        mine(pa.table(ROWS), "who", "what", "both")


def test_the_import_is_light():
    code = "import sys, trawl.swing; print([m for m in ('ray', 'torch', 'pandas') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
