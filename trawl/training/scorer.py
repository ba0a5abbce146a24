"""Scores raw rows with a bundle alone: raw ids and profile fields in, probabilities out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from trawl.errors import InputError
from trawl.model.world import Batch, Entities, Seen, World
from trawl.training.batches import ranges, rate_bins
from trawl.training.bundle import Bundle, read
from trawl.training.corpus import Array, Knowledge, field_codes, frozen, levels_of, rows_of
from trawl.training.loop import precision

_NEEDED = ("item_id", "history", "ratings")
_EMPTY_FIELDS = pa.map_(pa.string(), pa.list_(pa.string()))


class Scorer:
    """A loaded model. Users and items that it does not know read its unknown row; users need not be known at all."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.model = bundle, bundle.model()
        self.cfg, lexicon, known = bundle.cfg, bundle.lexicon, bundle.catalogue
        knowledge = None
        if known.vectors is not None and known.text is not None:
            knowledge = Knowledge(matrix=known.vectors.numpy(), text=known.text.numpy())
        self.items = Entities(
            rows_of(lexicon.items, len(known.items)),
            known.codes,
            *frozen(knowledge, lexicon, "item", precision(self.cfg)),
        )
        self._item_ids = pa.array(known.items, pa.string())
        self._user_ids = pa.array(known.users, pa.string())

    def score(self, rows: pa.Table) -> npt.NDArray[np.float64]:
        """(rows,) probabilities that the user likes the item.

        Columns: item_id, history (item ids, oldest first), ratings (of the history); where they are there also
        user_id, fields (map of field -> values), seen (item ids before the knowledge cut-off), liked (bool each),
        user_vector (the frozen vector of the user's knowledge). Raises InputError for a missing column.
        """
        missing = [name for name in _NEEDED if name not in rows.column_names]
        if missing:
            raise InputError(f"rows to score: columns missing: {', '.join(missing)}; needed are {', '.join(_NEEDED)}")
        rows = rows.combine_chunks()
        with torch.inference_mode():
            world = World(users=self._users(rows), items=self.items)
            logit = self.model(self._batch(rows), world).logit
            return np.asarray(torch.sigmoid(logit.double()).numpy())

    def _users(self, rows: pa.Table) -> Entities:
        """Each row's user as an entity of its own: index = row + 1."""
        lexicon, count = self.bundle.lexicon, len(rows)
        known = np.zeros(count + 1, dtype=np.int64)
        if "user_id" in rows.column_names:
            known[1:] = self._indexes(rows["user_id"], self._user_ids)
        fields = rows["fields"] if "fields" in rows.column_names else pa.chunked_array([[[]] * count], _EMPTY_FIELDS)
        codes = {k: torch.from_numpy(v) for k, v in field_codes(fields, lexicon.user_fields).items()}
        users = Entities(torch.from_numpy(known), codes)
        if "user" not in lexicon.centre:
            return users
        matrix = np.zeros((count + 1, len(lexicon.centre["user"])), dtype=np.float16)
        text = np.zeros(count + 1, dtype=bool)
        if "user_vector" in rows.column_names:
            text[1:] = pc.is_valid(rows["user_vector"]).to_numpy()
            flat = pc.list_flatten(rows["user_vector"]).to_numpy()
            matrix[text] = flat.reshape(int(text.sum()), matrix.shape[1])
        vectors, has_text, _ = frozen(Knowledge(matrix=matrix, text=text), lexicon, "user", precision(self.cfg))
        return replace(users, vectors=vectors, text=has_text)

    def _batch(self, rows: pa.Table) -> Batch:
        count, dtype = len(rows), precision(self.cfg)
        history, starts, sizes = self._lists(rows, "history")
        ratings = pc.list_flatten(rows["ratings"]).to_numpy()
        if len(ratings) != len(history):
            raise InputError("rows to score: ratings must be as many as the history's items, row by row")
        at = (starts + sizes)[:, None] + np.arange(-self.cfg.model.history, 0)
        there = at >= starts[:, None]
        at = np.where(there, at, 0)
        levels = levels_of(ratings, self.bundle.lexicon.levels) if len(ratings) else np.zeros(1, dtype=np.uint8)
        history = history if len(history) else np.zeros(1, dtype=np.int64)
        rate, seen = self._seen(rows)
        return Batch(
            user=torch.arange(1, count + 1),
            item=torch.from_numpy(self._indexes(rows["item_id"], self._item_ids)),
            history=torch.from_numpy(history[at] * there),
            levels=torch.from_numpy((levels[at] * there).astype(np.int64)),
            rate=torch.from_numpy(rate),
            label=torch.zeros(count, dtype=dtype),
            seen=seen,
        )

    def _seen(self, rows: pa.Table) -> tuple[npt.NDArray[np.int64], Seen]:
        """Rate bins, and the liked and disliked items before the cut-off."""
        count = len(rows)
        if "seen" not in rows.column_names or "liked" not in rows.column_names:
            empty = torch.zeros(0, dtype=torch.int64)
            return np.zeros(count, dtype=np.int64), Seen(
                empty, torch.zeros(2 * count, dtype=torch.int64), torch.arange(count)
            )
        items, starts, sizes = self._lists(rows, "seen")
        liked = pc.list_flatten(rows["liked"]).to_numpy(zero_copy_only=False).astype(bool)
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
        sizes = pc.fill_null(pc.list_value_length(rows[name]), 0).to_numpy().astype(np.int64)
        return self._indexes(pc.list_flatten(rows[name]), self._item_ids), np.cumsum(sizes) - sizes, sizes

    @staticmethod
    def _indexes(ids: pa.ChunkedArray, known: pa.Array) -> npt.NDArray[np.int64]:
        found = pc.fill_null(pc.index_in(ids.cast(pa.string()), known), -1)
        return np.asarray(found.to_numpy(), dtype=np.int64) + 1


def load(folder: str | Path) -> Scorer:
    """The model of a folder with model.safetensors and model.json. Raises ArtifactError."""
    return Scorer(read(Path(folder)))
