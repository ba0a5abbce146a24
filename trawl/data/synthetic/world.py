"""The synthetic world as raw rows: users, items, ratings, entities and true links, shard by shard.

Every shard follows from the parameters and its own numbers; nothing but each worker's catalogue is held as a whole.
`users` reads seed, users; `items` seed, items, misspelt; `log` seed, users, items, events_per_user; `entities` seed,
items, distractors, unlinked, empty_pages, noise; `truth` seed, items, unlinked.
"""

from functools import cached_property

import numpy as np
import pyarrow as pa

from trawl.data.index import fields
from trawl.data.synthetic import films as made
from trawl.data.synthetic import names, pages, taste, words
from trawl.errors import InputError
from trawl.sections import Synthetic

_PIECE = 4096  # users, films or pages per task
_NO_DUPLICATES = "the synthetic world made an id twice; report it with its parameters"


class World:
    """Generates raw rows of a kind for a range of numbers."""

    def __init__(self, size: Synthetic) -> None:
        self._size = size

    def pieces(self, kind: str) -> list[tuple[int, int]]:
        """Ranges of users, films or pages."""
        s = self._size
        pages_too = s.items + (s.distractors if kind == "entities" else 0)
        total = s.users if kind in ("users", "log") else pages_too
        return [(at, min(at + _PIECE, total)) for at in range(0, total, _PIECE)]

    def rows(self, kind: str, first: int, last: int) -> pa.Table:
        """The rows of users, items, log, entities or truth for numbers first .. last - 1 (from 0)."""
        makers = {
            "users": self._users,
            "items": self._items,
            "log": self._ratings,
            "entities": self._entities,
            "truth": self._truth,
        }
        return makers[kind](first, last)

    def wrong(self, kind: str, at: int, what: str) -> InputError:
        """Made-up rows cannot be wrong; if they were, this would say so."""
        return InputError.at(f"synthetic {kind}", f"row {at + 1}", what, _NO_DUPLICATES)

    @cached_property
    def _tables(self) -> taste.Tables:
        return taste.tables(self._size.seed, made.crew(self._size.items)[0])

    @cached_property
    def _catalogue(self) -> taste.Catalogue:
        return taste.catalogue(self._films(0, self._size.items), self._tables)

    def _films(self, first: int, last: int) -> made.Films:
        return made.films(self._size.seed, first, last, *made.crew(self._size.items))

    def _users(self, first: int, last: int) -> pa.Table:
        people = [taste.profiles(self._size.seed, b) for b in range(first // taste.BLOCK, -(-last // taste.BLOCK))]
        count = last - first
        columns = {
            "gender": np.array(["M", "F"])[np.concatenate([p.gender for p in people])[:count]],
            "age": np.array(taste.AGES)[np.concatenate([p.age for p in people])[:count]],
            "occupation": np.concatenate([p.occupation for p in people])[:count].astype(str),
        }
        singles = {n: pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32), v) for n, v in columns.items()}
        numbers = np.arange(first, last)
        return pa.table({"user_id": _ids("u", numbers), "fields": fields(singles), "at": numbers})

    def _items(self, first: int, last: int) -> pa.Table:
        size, films = self._size, self._films(first, last)
        titles = []
        for row, film in enumerate(range(first, last)):
            title = names.item_title(size.seed, film, bool(films.misspelt[row] < size.misspelt))
            titles.append(f"{title} ({films.year[row]})")
        genres = [[words.GENRES[g] for g in pair if g >= 0] for pair in films.genres]
        numbers = np.arange(first, last)
        return pa.table(
            {
                "item_id": _ids("f", numbers),
                "title": pa.array(titles, pa.large_string()),
                "year": pa.array(films.year, pa.int32()),
                "fields": fields({"genres": pa.array(genres), "year": pa.array([[str(y)] for y in films.year])}),
                "at": numbers,
            }
        )

    def _ratings(self, first: int, last: int) -> pa.Table:
        size, out = self._size, []
        for block in range(first // taste.BLOCK, -(-last // taste.BLOCK)):
            people = taste.viewers(size.seed, block, self._tables)
            seen = taste.views(size.seed, block, people, self._catalogue, size.events_per_user)
            user = seen.user + block * taste.BLOCK
            keep = user < last
            columns = {
                "user_id": _ids("u", user[keep]),
                "item_id": _ids("f", seen.film[keep]),
                "rating": seen.stars[keep].astype(np.float32),
                "time": seen.time[keep],
                "at": (np.int64(block) << 32) + np.arange(int(keep.sum())),
            }
            out.append(pa.table(columns))
        return pa.concat_tables(out)

    def _entities(self, first: int, last: int) -> pa.Table:
        split = min(max(self._size.items, first), last)
        rows = self._pages(first, split) + [self._distractor(n - self._size.items) for n in range(split, last)]
        kinds = {"entity_id": pa.large_string(), "label": pa.large_string(), "year": pa.int32()}
        kinds |= {"text": pa.large_string(), "at": pa.int64()}
        return pa.Table.from_pylist(rows, schema=pa.schema(list(kinds.items())))

    def _pages(self, first: int, last: int) -> list[dict[str, object]]:
        """Films first .. last - 1 that have a page."""
        size, out = self._size, []
        films = self._films(first, last)
        for row, film in enumerate(range(first, last)):
            if films.unlinked[row] >= size.unlinked:
                empty = films.empty[row] < size.empty_pages
                out.append(
                    {
                        "entity_id": _page_id(film),
                        "label": names.label(size.seed, film),
                        "year": int(films.year[row]),
                        "text": None if empty else pages.page(films, row, size.seed, film, size.noise),
                        "at": film,
                    }
                )
        return out

    def _distractor(self, number: int) -> dict[str, object]:
        label, shift, text, film = pages.distractor(self._size.seed, number, self._size.items)
        year = None if shift is None else int(self._years[film]) + shift
        at = self._size.items + number
        return {"entity_id": f"Q9{number:07d}", "label": label, "year": year, "text": text, "at": at}

    @cached_property
    def _years(self) -> made.Ints:
        return self._films(0, self._size.items).year

    def _truth(self, first: int, last: int) -> pa.Table:
        paged = np.flatnonzero(self._films(first, last).unlinked >= self._size.unlinked) + first
        ids = pa.array([[_page_id(int(film))] for film in paged], pa.list_(pa.large_string()))
        return pa.table({"item_id": _ids("f", paged), "entity_ids": ids, "at": paged})


def _page_id(film: int) -> str:
    return f"Q1{film:07d}"


def _ids(letter: str, numbers: made.Ints) -> pa.Array:
    """`u000007` for 7; longer where the number is."""
    return pa.array(np.char.add(letter, np.char.zfill(numbers.astype(str), 6)), pa.large_string())
