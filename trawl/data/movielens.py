"""The original MovieLens layout: ratings.dat, users.dat, movies.dat; latin-1, `::` between fields, no header.

    ratings.dat   user::item::rating::time        users.dat   id::gender::age::occupation::zip
    movies.dat    id::title (year)::genre|genre

Titles hold single `:`, commas and quotes, and nothing is quoted. Ids are strings: `1` and `01` are two ids.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trawl.data.index import fields
from trawl.data.lines import ranges, read, refuse, wrong
from trawl.errors import InputError
from trawl.raw import Source, source

FILES = {"users": "users.dat", "items": "movies.dat", "log": "ratings.dat"}
# MovieLens-1M: Harper & Konstan 2015. `rated`: films that at least one user rated.
COUNTS = {"users": 6_040, "items": 3_883, "rated": 3_706, "log": 1_000_209}
NAMES = {"users": "users", "items": "films", "rated": "rated films", "log": "ratings"}
_LAYOUT = "see the README of MovieLens-1M for the layout"
_WHOLE = r"^[0-9]{1,18}$"
_NUMBER = r"^[0-9]{1,3}(\.[0-9]{1,6})?$"


class MovieLens:
    """Reads byte ranges of the three files into rows that carry `at`, their place in the file."""

    def __init__(self, files: Mapping[str, str]) -> None:
        """`files`: path of each file by its name in the layout; only those that will be read are needed."""
        self._paths = {name: source(path) for name, path in files.items()}

    def pieces(self, kind: str) -> list[tuple[int, int]]:
        """Byte ranges of a kind's file. Raises InputError when it is missing or empty."""
        return ranges(self._path(kind))

    def rows(self, kind: str, first: int, last: int) -> pa.Table:
        """Rows of `users`, `items` or `log` (ratings) in a byte range. Raises InputError naming file and line."""
        return {"users": self._users, "items": self._items, "log": self._ratings}[kind](first, last)

    def wrong(self, kind: str, at: int, what: str, todo: str = "") -> InputError:
        """The error for the row at `at`."""
        return wrong(self._path(kind), at, what, todo)

    def _path(self, kind: str) -> Source:
        return self._paths[FILES[kind]]

    def _users(self, first: int, last: int) -> pa.Table:
        names = ("user_id", "gender", "age", "occupation", "zip")
        rows = read(self._path("users"), first, last, names, "::", "latin-1")
        refuse(self._path("users"), rows, [(pc.equal(rows["user_id"], ""), "the user id is empty")], _LAYOUT)
        profile = fields({name: _lists(rows[name]) for name in names[1:]})
        return pa.table({"user_id": rows["user_id"], "fields": profile, "at": rows["at"]})

    def _items(self, first: int, last: int) -> pa.Table:
        names = ("item_id", "title", "genres")
        rows = read(self._path("items"), first, last, names, "::", "latin-1")
        faults = [
            (pc.equal(rows["item_id"], ""), "the film id is empty"),
            (pc.equal(pc.utf8_trim_whitespace(rows["title"]), ""), "film {item_id!r} has no title"),
        ]
        refuse(self._path("items"), rows, faults, _LAYOUT)
        year = years(rows["title"])
        genres = _without_empty(pc.split_pattern(rows["genres"].combine_chunks(), "|"))
        described = fields({"genres": genres, "year": _lists(year)})
        return pa.table(
            {
                "item_id": rows["item_id"],
                "title": rows["title"],
                "year": year.cast(pa.int32()),
                "fields": described,
                "at": rows["at"],
            }
        )

    def _ratings(self, first: int, last: int) -> pa.Table:
        path = self._path("log")
        rows = read(path, first, last, ("user_id", "item_id", "rating", "time"), "::", "latin-1")
        number = pc.match_substring_regex(rows["rating"], _NUMBER)
        value = pc.cast(pc.if_else(number, rows["rating"], "0"), pa.float64())
        faults = [
            (pc.equal(rows["user_id"], ""), "the user id is empty"),
            (pc.equal(rows["item_id"], ""), "the film id is empty"),
            (pc.invert(number), "rating {rating!r} is no number"),
            (
                pc.and_(number, pc.or_(pc.less(value, 0.5), pc.greater(value, 5.0))),
                "rating {rating} is not in 0.5 .. 5",
            ),
            (pc.invert(pc.match_substring_regex(rows["time"], _WHOLE)), "time {time!r} is no whole number"),
        ]
        refuse(path, rows, faults, _LAYOUT)
        return pa.table(
            {
                "user_id": rows["user_id"],
                "item_id": rows["item_id"],
                "rating": value.cast(pa.float32()),
                "time": rows["time"].cast(pa.int64()),
                "at": rows["at"],
            }
        )


def check_count(kind: str, count: int) -> None:
    """Raises InputError when there are more or fewer than MovieLens-1M has."""
    if count != COUNTS[kind]:
        raise InputError(
            f"{FILES.get(kind, FILES['log'])}: {count:,} {NAMES[kind]} where MovieLens-1M has {COUNTS[kind]:,}; "
            "put the whole files there, or set data.check_counts=false for other sizes"
        )


def years(titles: pa.ChunkedArray) -> pa.ChunkedArray:
    """The year in parentheses that ends each title, as text; null where there is none."""
    found = pc.extract_regex(titles, r"\((?P<year>[0-9]{4})\)\s*$")
    return pc.struct_field(found, "year")


def _lists(column: pa.ChunkedArray) -> pa.Array:
    """Each value as a list of one; an empty or null one as an empty list."""
    flat = column.combine_chunks()
    present = pc.fill_null(pc.not_equal(flat, ""), False)
    ends = pc.cumulative_sum(present.cast(pa.int32()))
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends.cast(pa.int32())])
    return pa.ListArray.from_arrays(offsets, flat.filter(present))


def _without_empty(lists: pa.Array) -> pa.Array:
    """Lists of strings without their empty strings: a film without genres has none, not one called ''."""
    flat = lists.flatten()
    keep = pc.not_equal(flat, "")
    owners = pc.list_parent_indices(lists).filter(keep).to_numpy()
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(lists)))])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat.filter(keep))
