"""Texts of items, from linked pages or from a file of given texts: cleaned, digested, counted."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trawl.errors import InputError
from trawl.extraction.prompts import clean
from trawl.raw import parquet, source
from trawl.store import digest_bytes


def page_texts(items: pa.Array, knowledge: pa.Table) -> list[str | None]:
    """The text of each item: its linked pages in the order of rank, between blank lines; null when none has any."""
    rows = knowledge.sort_by([("item", "ascending"), ("rank", "ascending")])
    rows = rows.filter(pc.is_valid(rows.column("text")))
    texts: dict[int, list[str]] = {}
    for item, text in zip(rows.column("item").to_pylist(), rows.column("text").to_pylist(), strict=True):
        texts.setdefault(item, []).append(text)
    return ["\n\n".join(texts[item]) if item in texts else None for item in items.to_pylist()]


def given_texts(path: str, item_ids: pa.Array) -> pa.Table:
    """The file's (item_id, text), checked: columns, nulls, ids twice, ids that no item has. Raises InputError."""
    try:
        table = pq.read_table(parquet(source(path)))
    except (OSError, pa.ArrowException) as error:
        raise InputError.at(path, "", f"cannot be read as Parquet ({error})", "check extraction.given") from None
    for name in ("item_id", "text"):
        if name not in table.column_names:
            has = ", ".join(table.column_names)
            raise InputError.at(path, "", f"no column {name} (it has {has})", "it needs item_id and text")
    try:
        ids = table.column("item_id").cast(pa.string()).combine_chunks()
        texts = table.column("text").cast(pa.large_string()).combine_chunks()
    except pa.ArrowException as error:
        raise InputError.at(path, "", f"item_id and text must be text or numbers: {error}") from None
    _refuse(path, ids, pc.is_null(ids), "item_id is empty")
    _refuse(path, ids, pa.array(_repeated(ids)), "item_id stands here a second time")
    unknown = pc.invert(pc.is_in(ids, item_ids.cast(pa.string())))
    _refuse(path, ids, unknown, "no item has this id")
    return pa.table({"item_id": ids, "text": texts})


def _refuse(path: str, ids: pa.Array, wrong: Any, what: str) -> None:
    row = pc.index(wrong, True).as_py()
    if row >= 0:
        raise InputError.at(path, f"row {row + 1}, item_id {ids[row]}", what, "mend the file")


def _repeated(ids: pa.Array) -> Any:
    codes = ids.dictionary_encode().indices.fill_null(-1).to_numpy()
    first = np.zeros(len(codes), dtype=bool)
    first[np.unique(codes, return_index=True)[1]] = True
    return ~first


def text_rows(items: pa.Array, texts: list[str | None], count: Callable[[str], int]) -> pa.Table:
    """Rows of item_texts; a text of which nothing is left after cleaning is none."""
    cleaned = [clean(text) if text is not None else "" for text in texts]
    return pa.table(
        {
            "item": items,
            "text": pa.array([text or None for text in cleaned], pa.large_string()),
            "digest": pa.array([digest_bytes(t.encode()) if t else None for t in cleaned], pa.string()),
            "tokens": pa.array([count(text) if text else 0 for text in cleaned], pa.int64()),
        }
    )
