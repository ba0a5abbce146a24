"""Interactions from files: ids, times, ratings, folders; what is refused, by file and row."""

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trawl.errors import AskedWrongly, ConfigError, InputError
from trawl.swing import ids, reading
from trawl.swing.days import Window, day_name, parse_day, to_days
from trawl.swing.reading import Columns, interactions, of_files, of_table, pieces

DAY = 19723  # 2024-01-01
COLUMNS = Columns(user="who", item="what")


def found(table, **columns):
    return interactions(of_table(pa.table(table)), Columns(user="who", item="what", **columns))


def pairs(some):
    users, items = some.user_ids.to_pylist(), some.item_ids.to_pylist()
    return [(users[u], items[i]) for u, i in zip(some.user, some.item, strict=True)]


def read(path, **columns):
    wanted = Columns(user="who", item="what", **columns)
    return interactions(of_files(pieces(path, wanted), wanted), wanted)


def test_blocks_are_numbered_as_one(monkeypatch, tmp_path):
    monkeypatch.setattr(ids, "_WAIT", 5)
    monkeypatch.setattr(reading, "_ROWS", 7)
    rng = np.random.default_rng(0)
    who, what = rng.integers(0, 30, 100), rng.integers(0, 9, 100).astype(str)
    pq.write_table(pa.table({"who": who, "what": what}), tmp_path / "a.parquet", row_group_size=11)
    some = read(tmp_path / "a.parquet")
    assert pairs(some) == [(str(u), i) for u, i in zip(who, what, strict=True)]
    assert len(set(some.user_ids.to_pylist())) == len(some.user_ids) and some.user.dtype == np.int32


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["1", "2", "1"]).dictionary_encode(),
        pa.array(["1", "2", "1"], pa.string_view()),
        pa.array([1, 2, 1], pa.uint8()),
        pa.array([1.0, 2.0, 1.0], pa.float32()),
    ],
    ids=lambda c: str(c.type),
)
def test_ids_of_any_type_are_text(column):
    assert pairs(found({"who": column, "what": ["x", "y", "z"]})) == [("1", "x"), ("2", "y"), ("1", "z")]


def test_an_id_that_no_row_has_is_not_looked_at():
    who = pa.DictionaryArray.from_arrays(pa.array([1, 1]), pa.array(["", "a"]))
    assert pairs(found({"who": who, "what": ["x", "y"]})) == [("a", "x"), ("a", "y")]


def test_rows_are_counted_within_the_file_of_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_ROWS", 2)
    pq.write_table(pa.table({"who": ["a"] * 3, "what": ["x"] * 3}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"who": ["a", "b", "c", None], "what": ["x"] * 4}), tmp_path / "2.parquet")
    (tmp_path / "_work").mkdir()
    (tmp_path / "_work" / "3.parquet").write_text("not looked at")
    with pytest.raises(InputError, match=r"2\.parquet, row 4, column who: the id is null"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (pa.array([1.0, 1e17]), "row 2, column who: the id is too large"),
        (pa.array([1.0, float("inf")]), "row 2, column who: the id is not finite"),
        (pa.array([b"a", b"b"]), "column who: holds binary"),
        (pa.array(["a", " "]), "row 2, column who: the id is empty"),
        (pa.array([1, -7]).cast(pa.int8()), r"row 2, column who: the id is negative \(-7\)"),
    ],
)
def test_bad_ids(column, says):
    with pytest.raises(InputError, match=says):
        found({"who": column, "what": ["x", "y"]})


def test_a_column_twice_and_columns_named_twice(tmp_path):
    (tmp_path / "a.csv").write_text("who,what,who\n1,2,3\n")
    with pytest.raises(InputError, match="column who: stands 2 times"):
        read(tmp_path / "a.csv")
    with pytest.raises(AskedWrongly, match="name two columns"):
        Columns(user="who", item="what", time="who")


def test_a_quoted_line_break_is_part_of_a_value(tmp_path):
    (tmp_path / "a.csv").write_text('who,title,what\n1,"two\nlines",x\n2,,y\n')
    assert pairs(read(tmp_path / "a.csv")) == [("1", "x"), ("2", "y")]


def test_tsv_and_an_unreadable_file(tmp_path):
    (tmp_path / "a.tsv").write_text("who\twhat\n1\t2\n")
    assert pairs(read(tmp_path / "a.tsv")) == [("1", "2")]
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"b\.parquet: cannot be read"):
        read(tmp_path / "b.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"there is no \.parquet file"):
        read(tmp_path / "empty")


def test_only_rows_above_the_rating_count():
    table = {"who": ["a", "b", "c"], "what": ["x"] * 3, "stars": ["3", "4.5", "2"]}
    some = found(table, rating="stars")
    assert (pairs(some), some.read) == ([("b", "x")], 3)
    assert pairs(found(table, rating="stars", like_above=2.5)) == [("a", "x"), ("b", "x")]
    with pytest.raises(InputError, match=r"row 2, column stars: the rating is no number \(good\)"):
        found(table | {"stars": ["3", "good", "2"]}, rating="stars")
    with pytest.raises(InputError, match="row 3, column stars: the rating is NaN"):
        found(table | {"stars": [1.0, 2.0, float("nan")]}, rating="stars")


def utc(*parts):
    return datetime.datetime(*parts, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        (pa.array([1704067200, 1704153599]), "s"),
        (pa.array([1704067200.0, 1704153599.9]), "s"),
        (pa.array([1704067200000, 1704153599999]), "ms"),
        (pa.array(["1704067200", "1704153599"]), "s"),
        (pa.array([utc(2024, 1, 1), utc(2024, 1, 1, 23, 59)], pa.timestamp("ns")), "s"),
        (pa.array([utc(2024, 1, 1), utc(2024, 1, 1, 23, 59)], pa.timestamp("ms", "Asia/Tokyo")), "s"),
        (pa.array([datetime.date(2024, 1, 1)] * 2, pa.date64()), "s"),
        (pa.array(["2024-01-01", "2024-01-01 23:59:59"]), "s"),
        (pa.array(["2024-01-01T00:00:00Z", "2024-01-02T04:00:00.5+05:00"]), "s"),
        (pa.array(["2024-01-01", "2023-12-31T23:30:00-01:00"]).dictionary_encode(), "s"),
    ],
    ids=str,
)
def test_times_of_any_usual_kind(column, unit):
    assert to_days(column, unit, "f", "t").tolist() == [DAY, DAY]


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (pa.array([1, None]), "row 2, column t: the time is null"),
        (pa.array([1.0, float("nan")]), "row 2, column t: the time is no number"),
        (pa.array([1704067200, 1704067200000]), "row 2, column t: .* state another --time-unit"),
        (pa.array(["2024-01-01", "2024-01-01", "soon", "2024-01-01"]), r"row 3, column t: .* ISO 8601 .*\(soon\)"),
        (pa.array(["2024-02-30"]), "row 1, column t"),
        (pa.array([True]), "holds bool"),
    ],
)
def test_bad_times(column, says):
    with pytest.raises(InputError, match=says):
        to_days(column, "s", "f", "t")


def test_before_1970_is_a_day_as_well():
    assert to_days(pa.array([-1, 0]), "s", "f", "t").tolist() == [-1, 0]


def test_dated_folders_are_times_and_others_are_refused(tmp_path):
    for name in ("date=2024-01-01", "date=2024-01-02"):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"who": ["a"], "what": ["x"]}), tmp_path / name / "p.parquet")
    assert read(tmp_path).day.tolist() == [DAY, DAY + 1]
    assert read(tmp_path, time="date").day.tolist() == [DAY, DAY + 1]
    with pytest.raises(InputError, match="column when: there is no such column"):
        read(tmp_path, time="when")
    pq.write_table(pa.table({"who": ["a"], "what": ["x"]}), tmp_path / "p.parquet")
    with pytest.raises(InputError, match=r"is in no folder NAME=YYYY-MM-DD"):
        read(tmp_path)
    (tmp_path / "p.parquet").unlink()
    (tmp_path / "date=2024-01-02").rename(tmp_path / "date=2024-13-02")
    with pytest.raises(InputError, match="date=2024-13-02 is no date"):
        read(tmp_path)


def test_windows_and_weights():
    window = Window(last=DAY, days=3, half_life_days=2.0)
    days = np.arange(DAY - 4, DAY + 2, dtype=np.int32)
    assert window.counts(days).tolist() == [False, False, True, True, True, False]
    kept = days[window.counts(days)]
    assert np.allclose(window.weights(kept) * window.factor**0.25, [0.5, 0.5**0.5, 1.0], rtol=1e-7)
    later = Window(last=DAY + 1, days=3, half_life_days=2.0)
    ratio = later.weights(kept) / window.weights(kept)
    assert set(ratio.tolist()) == {2.0 ** (window.shift - later.shift)}
    assert Window(last=DAY, half_life_days=0.5).first == DAY - 50  # 100 half-lives
    with pytest.raises(ConfigError, match=r"swing\.window_days"):
        Window(last=0, days=-1)


def test_days_by_name():
    assert parse_day("2024-01-01") == DAY and day_name(DAY) == "2024-01-01"
    assert parse_day("previous", datetime.date(2024, 1, 2)) == DAY
    with pytest.raises(InputError, match="write YYYY-MM-DD"):
        parse_day("monday")
