"""Scores raw rows with an exported bundle alone: raw ids and profile fields in, probabilities out."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from trawl import files, uses
from trawl.errors import InputError
from trawl.export import rows as raw
from trawl.export.bundle import Served, read
from trawl.model.bundle import CARD, precision
from trawl.model.lexicon import Array, field_codes, levels_of, ranges, rate_bins
from trawl.model.world import Batch, Entities, Seen, World

BATCH = 16384  # rows scored at a time
_NO_FIELDS = raw.COLUMNS["fields"].to


class Predictor:
    """A loaded bundle. Users and items that it does not know read its unknown row and its default vector."""

    def __init__(self, served: Served) -> None:
        self.served = served
        reads = uses.history_ratings(served.cfg) or (uses.similarity(served.cfg) and uses.stars(served.cfg))
        self.rated = reads and len(served.lexicon.levels) > 1

    def score(self, rows: pa.Table, where: str = "rows to score", first: int = 1) -> npt.NDArray[np.float64]:
        """(rows,) probabilities that the user likes the item.

        Columns: user_id, item_id; where they are there also history (item ids, oldest first) with ratings, seen (item
        ids before the knowledge cut-off) with liked, fields (map or struct of field -> values of the user's profile). A
        missing one reads as empty, a null user_id as an unknown user. Raises InputError naming `where`, column and row
        (the first one has the number `first`).
        """
        raw.check_columns(rows.schema, where, self.rated)
        if not rows.num_rows:
            return np.zeros(0)
        rows = raw.clean(rows, where, first)
        with torch.inference_mode():
            world = World(users=self._users(rows), items=self.served.items)
            logit = self.served.model(self._batch(rows), world).logit
            return np.asarray(torch.sigmoid(logit.double()).numpy())

    def unknown(self, rows: pa.Table) -> tuple[int, int]:
        """How many rows have a user, and how many an item, that the model does not know."""
        served = self.served
        users, items = (rows[name].cast(pa.string()) for name in ("user_id", "item_id"))
        places = _places(users, served.user_ids)
        if served.known_ids is not None:
            places = places + _places(users, served.known_ids)
        return int((places == 0).sum()), int((_places(items, served.item_ids) == 0).sum())

    def _users(self, rows: pa.Table) -> Entities:
        """Each row's user as an entity of its own: index = row + 1."""
        served, count = self.served, len(rows)
        known = np.zeros(count + 1, dtype=np.int64)
        known[1:] = _places(rows["user_id"], served.user_ids)
        fields = rows["fields"] if "fields" in rows.column_names else pa.chunked_array([[[]] * count], _NO_FIELDS)
        codes = {
            k: torch.from_numpy(v)
            for k, v in field_codes(fields, served.lexicon.user_fields, served.lexicon.numeric).items()
        }
        adapted = None
        if served.known is not None and served.known_ids is not None:
            at = np.concatenate([[0], _places(rows["user_id"], served.known_ids)])
            adapted = served.known[torch.from_numpy(at)]
        return Entities(torch.from_numpy(known), codes, adapted=adapted)

    def _batch(self, rows: pa.Table) -> Batch:
        served, count = self.served, len(rows)
        history, levels = self._history(rows)
        rate, seen = self._seen(rows)
        return Batch(
            user=torch.arange(1, count + 1),
            item=torch.from_numpy(_places(rows["item_id"], served.item_ids)),
            history=torch.from_numpy(history),
            levels=torch.from_numpy(levels),
            rate=torch.from_numpy(rate),
            label=torch.zeros(count, dtype=precision(served.cfg)),
            seen=seen,
        )

    def _history(self, rows: pa.Table) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(B, H) item indexes and rating levels, padded in front."""
        count, length = len(rows), self.served.cfg.model.history
        if "history" not in rows.column_names:
            return np.zeros((count, length), dtype=np.int64), np.zeros((count, length), dtype=np.int64)
        items, starts, sizes = self._lists(rows, "history")
        if "ratings" in rows.column_names:
            ratings = pc.list_flatten(rows["ratings"]).to_numpy()
            levels = levels_of(ratings, self.served.lexicon.levels).astype(np.int64)
        else:
            levels = np.ones(len(items), dtype=np.int64)
        at = (starts + sizes)[:, None] + np.arange(-length, 0)
        there = at >= starts[:, None]
        at = np.where(there, at, 0)
        items, levels = (np.append(a, 0) for a in (items, levels))  # so that place 0 is there
        return items[at] * there, levels[at] * there

    def _seen(self, rows: pa.Table) -> tuple[npt.NDArray[np.int64], Seen]:
        """Rate bins, and the liked and disliked items before the cut-off."""
        count = len(rows)
        if "seen" not in rows.column_names:
            empty = torch.zeros(0, dtype=torch.int64)
            none = Seen(empty, torch.zeros(2 * count, dtype=torch.int64), torch.arange(count))
            return np.zeros(count, dtype=np.int64), none
        items, starts, sizes = self._lists(rows, "seen")
        liked = pc.list_flatten(rows["liked"]).to_numpy(zero_copy_only=False).astype(bool)
        if not uses.stars(self.served.cfg):
            liked = np.ones(len(liked), dtype=bool)
        owner = np.repeat(np.arange(count), sizes)
        many = np.bincount(owner, weights=liked, minlength=count).astype(np.int64)
        order = np.lexsort((~liked, owner))
        first = np.concatenate([starts, starts + many])
        sizes_2K = np.concatenate([many, sizes - many])
        picked = items[order][ranges(first, sizes_2K)]
        offsets = np.cumsum(sizes_2K) - sizes_2K
        tensors = (torch.from_numpy(np.asarray(a, dtype=np.int64)) for a in (picked, offsets, np.arange(count)))
        return rate_bins(many, sizes), Seen(*tensors)

    def _lists(self, rows: pa.Table, name: str) -> tuple[Array, Array, Array]:
        """Item indexes of a list column, and where each row's begin and how many they are."""
        sizes = pc.list_value_length(rows[name]).to_numpy().astype(np.int64)
        return _places(pc.list_flatten(rows[name]), self.served.item_ids), np.cumsum(sizes) - sizes, sizes


def _places(ids: pa.ChunkedArray, known: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Place 1.. of each id among the known ones; 0 for the others and for null."""
    found = pc.fill_null(pc.index_in(ids, known, skip_nulls=True), -1)
    return np.asarray(found.to_numpy(), dtype=np.int64) + 1


def load(folder: str | Path) -> Predictor:
    """The bundle of a folder that `trawl export` wrote. Raises InputError when there is none, else ArtifactError."""
    if not (Path(folder) / CARD).is_file():
        raise InputError.at(folder, "", f"no exported model is there (no {CARD})", "give the folder of `trawl export`")
    return Predictor(read(Path(folder)))


@dataclass
class Scored:
    """What became of a file of rows. Users and items count by row."""

    out: str
    rows: int = 0
    unknown_users: int = 0  # null ones among them
    unknown_items: int = 0
    ignored: tuple[str, ...] = ()  # columns that are none of those that are read

    def notes(self) -> list[str]:
        """What the caller may not have meant, a line each."""
        found = [
            f"the {kind} of {count:,} of {self.rows:,} rows is unknown to the model; {how}"
            for kind, count, how in (
                ("user", self.unknown_users, "scored as a new user, with the history and fields of the row"),
                ("item", self.unknown_items, "scored as a new item"),
            )
            if count
        ]
        if self.ignored:
            read = ", ".join(raw.COLUMNS)
            found.append(f"columns not read: {', '.join(self.ignored)} (read are {read}; a profile goes into fields)")
        return found


def predict_file(bundle: str, rows: str, out: str) -> Scored:
    """Score a Parquet file batch by batch into `out` (user_id, item_id, score, in its order), of the ending's format.

    A null user_id is a user whom nobody knows. `out` is whole or absent. Memory: the bundle and one batch. Raises
    ArtifactError, InputError, StoreError; AskedWrongly when `out` is the rows or a file of the bundle.
    """
    files.check_out(out, [rows, *(Path(bundle).iterdir() if Path(bundle).is_dir() else ())])
    if not Path(rows).is_file():
        raise InputError.at(rows, "", "there is no such file", "check --rows")
    predictor = load(bundle)
    try:
        with pq.ParquetFile(rows) as file:
            raw.check_columns(file.schema_arrow, rows, predictor.rated)
            names = file.schema_arrow.names
            done = Scored(out, ignored=tuple(name for name in names if name not in raw.COLUMNS))
            schema = pa.schema([file.schema_arrow.field(name) for name in ("user_id", "item_id")])
            with files.writing(out, schema.append(pa.field("score", pa.float64()))) as write:
                for scored in _scored(predictor, file, rows, done):
                    write(scored)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError.at(rows, "", f"is no Parquet file or is broken ({error})") from None
    return done


def _scored(predictor: Predictor, file: pq.ParquetFile, where: str, done: Scored) -> Iterator[pa.Table]:
    known = [name for name in file.schema_arrow.names if name in raw.COLUMNS]
    for batch in file.iter_batches(BATCH, columns=known):
        table = pa.Table.from_batches([batch])
        scores = predictor.score(table, where, done.rows + 1)
        users, items = predictor.unknown(table)
        done.rows += table.num_rows
        done.unknown_users += users
        done.unknown_items += items
        yield table.select(["user_id", "item_id"]).append_column("score", pa.array(scores))
