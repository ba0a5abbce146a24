"""The MovieLens files: what is read, what is refused and by which name, and what changes no table."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from worlds import make, raw_ratings, small_movielens, write_movielens

from trawl.config import Config
from trawl.data.lines import read
from trawl.data.movielens import MovieLens
from trawl.errors import InputError
from trawl.inputs import Inputs
from trawl.pipeline import stages
from trawl.stage import fingerprint
from trawl.store import Store

ROOM = ("users", "items", "log", "cutoffs", "cold_items", "splits", "samples")
ML1M = os.environ.get("TRAWL_DATA", "")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_movielens(tmp_path / "raw", raw_ratings())


def replace_line(path: Path, number: int, line: bytes) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number - 1] = line + b"\n"
    path.write_bytes(b"".join(lines))


def test_fields_titles_and_raw_ids(folder: Path, store: Store) -> None:
    opened = Inputs(store, make(small_movielens(folder), store))
    users = {row["user_id"]: dict(row["fields"]) for row in opened.table("users").to_pylist()}
    assert users["7"] == {"gender": ["F"], "age": ["25"], "occupation": ["7"], "zip": ["00007"]}
    items = {row["item_id"]: row for row in opened.table("items").to_pylist()}
    assert (items["4"]["title"], items["4"]["year"]) == ("Café: The Film, 4 (1954)", 1954)
    assert dict(items["4"]["fields"]) == {"genres": ["Comedy", "Drama"], "year": ["1954"]}
    assert sorted(opened.array("users", "user")) == list(range(1, 21))


def test_log_is_ordered_by_time_then_row(folder: Path, store: Store) -> None:
    ratings = raw_ratings()
    opened = Inputs(store, make(small_movielens(folder), store))
    users = {r["user"]: r["user_id"] for r in opened.table("users").to_pylist()}
    items = {r["item"]: r["item_id"] for r in opened.table("items").to_pylist()}
    got: dict[str, list[tuple[str, int, int]]] = {}
    for row in opened.table("log").to_pylist():
        mine = got.setdefault(users[row["user"]], [])
        assert row["position"] == len(mine)
        assert row["label"] == (row["rating"] > 3)
        mine.append((items[row["item"]], int(row["rating"]), row["time"]))
    for user, mine in got.items():
        assert mine == sorted([r[1:] for r in ratings if r[0] == user], key=lambda r: r[2])
    assert sum(map(len, got.values())) == len(ratings)


def test_parts_of_users_and_log_hold_the_same_users(folder: Path, store: Store) -> None:
    opened = Inputs(store, make(small_movielens(folder, ("data.partitions", 3)), store))
    ends = 0
    for number in range(3):
        users = opened.part("users", number)["user"].to_pylist()
        assert users == list(range(ends + 1, ends + 1 + len(users)))
        assert set(opened.part("log", number)["user"].to_pylist()) <= set(users)
        ends += len(users)


def test_a_title_without_year_and_a_film_without_genres(folder: Path, store: Store) -> None:
    replace_line(folder / "movies.dat", 3, b"3::Nameless 'Thing', \"The\"::")
    opened = Inputs(store, make(small_movielens(folder), store, "items"))
    row = next(r for r in opened.table("items").to_pylist() if r["item_id"] == "3")
    assert (row["title"], row["year"], row["fields"]) == ("Nameless 'Thing', \"The\"", None, [])


def test_windows_line_ends_and_a_last_line_without_end(folder: Path, store: Store) -> None:
    plain = make(small_movielens(folder), store)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n").removesuffix(b"\r\n"))
    again = make(small_movielens(folder), store)
    for name in ("users", "items", "log"):
        assert plain[name] != again[name]
        assert Inputs(store, plain).table(name).equals(Inputs(store, again).table(name))


def test_rows_in_another_order_give_the_same_tables(folder: Path, store: Store) -> None:
    plain = make(small_movielens(folder), store)
    for name in ("users.dat", "movies.dat"):
        lines = (folder / name).read_bytes().splitlines(keepends=True)
        (folder / name).write_bytes(b"".join(lines[::-1]))
    again = make(small_movielens(folder), store)
    for name in plain:
        assert Inputs(store, plain).table(name).equals(Inputs(store, again).table(name)), name


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_ranges_of_any_size_give_the_same_rows(folder: Path, size: int) -> None:
    path = folder / "ratings.dat"
    names = ("user_id", "item_id", "rating", "time")
    got = [
        row
        for at in range(0, path.stat().st_size, size)
        for row in read(path, at, at + size, names, "::", "latin-1").to_pylist()
    ]
    starts = np.cumsum([0] + [len(line) for line in path.read_bytes().splitlines(keepends=True)])[:-1]
    assert [tuple(row.values()) for row in got] == [
        (*map(str, row), at) for row, at in zip(raw_ratings(), starts, strict=True)
    ]


WRONG: dict[str, tuple[str, int, bytes, str]] = {
    "fields": ("ratings.dat", 5, b"1::2::3", "3 fields where 4 are due"),
    "blank line": ("ratings.dat", 9, b"", "1 fields where 4 are due"),
    "rating": ("ratings.dat", 6, b"1::2::good::978300760", "'good' is no number"),
    "rating range": ("ratings.dat", 6, b"1::2::6::978300760", "not in 0.5 .. 5"),
    "rating zero": ("ratings.dat", 6, b"1::2::0::978300760", "not in 0.5 .. 5"),
    "time": ("ratings.dat", 7, b"1::2::3::yesterday", "'yesterday' is no whole number"),
    "empty user": ("ratings.dat", 8, b"::2::3::978300760", "the user id is empty"),
    "empty film": ("ratings.dat", 8, b"1::::3::978300760", "the film id is empty"),
    "dangling user": ("ratings.dat", 11, b"999::2::3::978300760", "user_id '999' is not among the users"),
    "dangling film": ("ratings.dat", 12, b"1::999::3::978300760", "item_id '999' is not among the items"),
    "NUL": ("ratings.dat", 3, b"1::2\x00::3::978300760", "NUL"),
    "user twice": ("users.dat", 4, b"1::F::1::10::48067", "user_id '1' stands twice"),
    "user without id": ("users.dat", 2, b"::F::1::10::48067", "the user id is empty"),
    "film twice": ("movies.dat", 6, b"2::Jumanji (1995)::Adventure", "item_id '2' stands twice"),
    "film without title": ("movies.dat", 6, b"6:: ::Adventure", "film '6' has no title"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_line_is_named(folder: Path, store: Store, case: str) -> None:
    name, number, line, what = WRONG[case]
    replace_line(folder / name, number, line)
    with pytest.raises(InputError) as caught:
        make(small_movielens(folder), store)
    assert f"{name}, line {number}: " in str(caught.value)
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pair_rated_twice_is_refused(folder: Path, store: Store) -> None:
    first = (folder / "ratings.dat").read_bytes().splitlines()[0]
    replace_line(folder / "ratings.dat", 30, first.rpartition(b"::")[0] + b"::1")
    with pytest.raises(InputError, match=r"ratings.dat, line 30: user '.*' rates '.*' a second time"):
        make(small_movielens(folder), store)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: path.unlink(), "no such file"),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "utf-16": (lambda path: path.write_bytes(path.read_bytes().decode("latin-1").encode("utf-16")), "UTF-16"),
    "utf-16-be": (lambda p: p.write_bytes(p.read_bytes().decode("latin-1").encode("utf-16-be")), "NUL byte"),
    "utf-8 mark": (lambda path: path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes()), "UTF-8 byte order mark"),
}


@pytest.mark.parametrize("case", DAMAGE)
@pytest.mark.parametrize("name", ["users.dat", "movies.dat", "ratings.dat"])
def test_a_damaged_file_is_named(folder: Path, store: Store, name: str, case: str) -> None:
    damage, what = DAMAGE[case]
    damage(folder / name)
    with pytest.raises(InputError) as caught:
        make(small_movielens(folder), store)
    assert name in str(caught.value)
    assert what in str(caught.value)


@pytest.mark.parametrize(("table", "what"), [("users", "20 users"), ("items", "15 films"), ("cold_items", "15 rated")])
def test_other_counts_are_refused_unless_allowed(
    folder: Path, store: Store, table: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = {"users": 20, "items": 15, "rated": 15, "log": 200}
    monkeypatch.setattr("trawl.data.movielens.COUNTS", right)
    strict = small_movielens(folder, ("data.check_counts", True))
    make(strict, Store(str(folder / "fits")), "cold_items")
    right[{"cold_items": "rated"}.get(table, table)] = 99
    with pytest.raises(InputError, match=rf"{what} .*where MovieLens-1M has 99; .*data.check_counts=false"):
        make(strict, store, table)
    assert store.manifest(table, "") is None


def test_ratings_are_counted(folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trawl.data.movielens.COUNTS", {"users": 20, "items": 15, "rated": 15, "log": 201})
    with pytest.raises(InputError, match=r"ratings.dat: 200 ratings where MovieLens-1M has 201"):
        make(small_movielens(folder, ("data.check_counts", True)), store, "log")


def marks(cfg: Config) -> dict[str, str]:
    out: dict[str, str] = {}
    for name in ROOM:
        out[name] = fingerprint(stages()[name], cfg, out)
    return out


@pytest.mark.parametrize(
    ("setting", "changed"),
    [
        (("data.split_seed", 5), {"splits", "cold_items", "samples"}),
        (("data.split", [0.6, 0.2, 0.2]), {"splits", "samples"}),
        (("data.cold_items", 0.2), {"cold_items", "samples"}),
        (("data.cutoff_max", 3), {"cutoffs", "splits", "samples"}),
        (("data.like_above", 2.0), {"log", "cutoffs", "splits", "samples"}),
        (("data.synthetic.users", 77), set()),
        (("resources.actors", 9), set()),
    ],
)
def test_a_key_changes_only_what_depends_on_it(folder: Path, setting: tuple[str, object], changed: set[str]) -> None:
    first, second = marks(small_movielens(folder)), marks(small_movielens(folder, setting))
    assert {name for name in ROOM if first[name] != second[name]} == changed


def test_only_the_file_that_changed_counts(folder: Path) -> None:
    first = marks(small_movielens(folder))
    replace_line(folder / "movies.dat", 1, b"1::Another (1999)::Drama")
    second = marks(small_movielens(folder))
    assert first["users"] == second["users"]
    assert first["items"] != second["items"]


def test_a_kind_reads_only_its_declared_file(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        MovieLens({"users.dat": str(tmp_path / "users.dat")}).pieces("log")


@pytest.mark.skipif(not ML1M, reason="TRAWL_DATA does not name the folder that holds ml-1m")
def test_the_real_files_leave_843460_samples(store: Store) -> None:
    cfg = small_movielens(Path(ML1M) / "ml-1m", ("data.check_counts", True))
    opened = Inputs(store, make(cfg, store))
    assert opened.count("samples") == 843_460
    parts = opened.table("splits")["part"].value_counts().to_pylist()
    assert {p["values"]: p["counts"] for p in parts} == {"train": 4832, "valid": 604, "test": 604}
