"""Knowledge texts beside their sources, the parts that an answer took over marked in both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trawl.report.record import Record, Variant, share
from trawl.report.spans import Compared, Piece, compare, condense
from trawl.report.texts import source_of

_ITEMS, _USERS = 5, 3  # examples shown
_LOOKED_AT = 64  # items whose texts are compared for the share
_ROWS = 256  # of the first part: where the examples come from
_SHOWN, _SHOWN_CITED = 4000, 700  # characters of a text
_CITED = 15  # texts of a user's items that are shown
_ORDER = ("extracted", "given", "raw")  # what changes the texts most comes first


@dataclass(frozen=True)
class Source:
    """A text that went in: what is shown of its `length` characters."""

    name: str  # the item's title where there are several, else ""
    pieces: tuple[Piece, ...]
    length: int
    shortened: bool


@dataclass(frozen=True)
class Example:
    """What went in and what came out for one item or user. `kept` and `cut`: tokens of the texts in the prompt."""

    kind: str
    name: str
    sources: tuple[Source, ...]
    answer: tuple[Piece, ...]
    found: float | None  # share of the answer's words that stand in a source, in runs
    kept: int | None
    cut: int | None


@dataclass(frozen=True)
class Knowledge:
    """Examples, and over a few more items the share of the answers' words that are taken over."""

    source: str
    examples: tuple[Example, ...]
    looked_at: int
    found: float | None


def knowledge(record: Record) -> Knowledge | None:
    """Of the source that changes the texts most; None when no arm has answers with text."""
    best = {kind: _best(record, kind) for kind in ("item", "user")}
    item, user = best["item"], best["user"]
    if item is None:
        return None
    rows = _some(record, item, _LOOKED_AT)
    texts = _read(record, item, "item", [r["entity"] for r in rows])
    compared = {r["entity"]: compare([_text(texts, r["entity"])], r["text"]) for r in rows}
    chosen = rows[:: max(1, len(rows) // _ITEMS)][:_ITEMS]
    examples = [
        *_items(record, item, chosen, compared),
        *(_users(record, user) if user else ()),
    ]
    words, found = (sum(getattr(c, name) for c in compared.values() if any(c.sources)) for name in ("words", "found"))
    return Knowledge(source_of(record, item), tuple(examples), len(rows), share(found, words))


def _best(record: Record, kind: str) -> Variant | None:
    known = [v for v in record.variants(f"{kind}_answers") if source_of(record, v) in _ORDER]
    return min(known, key=lambda v: _ORDER.index(source_of(record, v)), default=None)


def _read(record: Record, variant: Variant, kind: str, items: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The texts that the prompts were made of: from outside, or what was extracted of the items; or none at all."""
    prompts = record.beside(variant, f"{kind}_prompts")
    extracted = prompts is not None and "item_answers" in prompts.manifest.inputs
    table, key = ("item_answers", "entity") if extracted else ("item_texts", "item")
    found: dict[int, dict[str, Any]] = record.pick(record.beside(variant, table), key, items, ["text"])
    return found


def _text(texts: Mapping[int, Mapping[str, Any]], item: int) -> str:
    return str(texts.get(item, {}).get("text") or "")


def _some(record: Record, variant: Variant, count: int) -> list[dict[str, Any]]:
    """Rows with text from the head of the first part that has any, evenly spread."""
    for number in range(len(variant.manifest.parts)):
        for table in record.part(variant, number, ["entity", "text"], _ROWS):
            rows = table.filter(pc.greater(pc.utf8_length(table.column("text")), 0))
            step = max(1, rows.num_rows // count)
            if rows.num_rows:
                return list(rows.take(pa.array(range(0, rows.num_rows, step)[:count], pa.int64())).to_pylist())
    return []


def _prompts(record: Record, variant: Variant, kind: str, entities: Sequence[int]) -> dict[int, dict[str, Any]]:
    """What an entity's prompts cite, keep and leave out; an item that stands in several chunks is cited once."""
    prompts = record.beside(variant, f"{kind}_prompts")
    out: dict[int, dict[str, Any]] = {}
    if prompts is None or not entities:
        return {}
    wanted = np.array(list(entities), dtype=np.int64)
    rows = record.rows(prompts, "entity", wanted, ["chunk", "items", "kept", "cut"])
    for row in rows.sort_by([("entity", "ascending"), ("chunk", "ascending")]).to_pylist():
        found = out.setdefault(row["entity"], {"items": [], "kept": 0, "cut": 0})
        found["items"] = list(dict.fromkeys([*found["items"], *row["items"]]))
        found["kept"] += sum(row["kept"])
        found["cut"] += row["cut"]
    return out


def _items(
    record: Record, variant: Variant, rows: Sequence[Mapping[str, Any]], compared: Mapping[int, Compared]
) -> list[Example]:
    wanted = [row["entity"] for row in rows]
    titles = record.pick(record.first("items"), "item", wanted, ["title"])
    prompts = _prompts(record, variant, "item", wanted) if source_of(record, variant) == "extracted" else {}
    return [
        _example("item", titles.get(item, {}).get("title") or f"item {item}", [""], compared[item], prompts.get(item))
        for item in wanted
    ]


def _users(record: Record, variant: Variant) -> list[Example]:
    rows = _some(record, variant, _USERS)
    wanted = [row["entity"] for row in rows]
    prompts = _prompts(record, variant, "user", wanted)
    cited = sorted({item for prompt in prompts.values() for item in prompt["items"][:_CITED]})
    titles = record.pick(record.first("items"), "item", cited, ["title"])
    texts = _read(record, variant, "user", cited)
    ids = record.pick(record.first("users"), "user", wanted, ["user_id"])
    out = []
    for row in rows:
        prompt = prompts.get(row["entity"], {"items": []})
        items = [item for item in prompt["items"][:_CITED] if _text(texts, item)]
        names = [titles.get(item, {}).get("title") or f"item {item}" for item in items]
        compared = compare([_text(texts, item) for item in items], row["text"])
        name = str(ids.get(row["entity"], {}).get("user_id", row["entity"]))
        out.append(_example("user", name, names, compared, prompts.get(row["entity"])))
    return out


def _example(
    kind: str, name: str, names: Sequence[str], compared: Compared, prompt: Mapping[str, Any] | None
) -> Example:
    most = _SHOWN if kind == "item" else _SHOWN_CITED
    return Example(
        kind=kind,
        name=name,
        sources=tuple(
            _source(title, found, most) for title, found in zip(names, compared.sources, strict=True) if found
        ),
        answer=condense(compared.answer, _SHOWN),
        found=share(compared.found, compared.words) if any(compared.sources) else None,  # else nothing was read
        kept=prompt["kept"] if prompt else None,
        cut=prompt["cut"] if prompt else None,
    )


def _source(name: str, pieces: tuple[Piece, ...], most: int) -> Source:
    length = sum(len(piece.text) for piece in pieces)
    return Source(name, condense(pieces, most), length, length > most)
