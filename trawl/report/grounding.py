"""How much of what the answers name stands in what their prompts showed: shares, the commonest exceptions, examples."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from trawl.report.record import Record, Variant, share, whose
from trawl.report.spans import Piece, condense
from trawl.report.texts import source_of

SINCE = 2  # contract version of the answers that have the columns
EDGES = (0.0, 0.5, 0.8, 0.95, 1.0)  # shares from each of these up to the next; 1 is its own
_COMMON, _REMEMBERED = 12, 5000
_EXAMPLES = 3  # of each version
_ROWS = 256  # rows at a time where examples are looked for
_PARTS = 4  # parts that are looked at for examples
_CITED = 15
_SHOWN, _SHOWN_SOURCE = 1600, 1200  # characters of an answer, of all its sources


@dataclass(frozen=True)
class Example:
    """An answer with what it names and no source has, beside its sources (title, text)."""

    name: str
    share: float
    unsupported: tuple[str, ...]
    answer: tuple[Piece, ...]  # the unsupported marked; empty where the row kept no text
    sources: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Grounds:
    """Of one version of the answers: `rows` name something; `bins` of them by share (EDGES)."""

    kind: str
    source: str
    arms: str
    rows: int
    mentions: int
    mean: float | None
    flagged: float | None  # share of the rows that name something unsupported
    bins: tuple[int, ...]
    common: tuple[tuple[str, int], ...]
    examples: tuple[Example, ...]


def grounds(record: Record) -> list[Grounds]:
    """Every judged version of the answers in the first repetition, items before users."""
    found = [
        _grounds(record, kind, variant)
        for kind in ("item", "user")
        for variant in record.variants(f"{kind}_answers")
        if variant.manifest.contract >= SINCE
    ]
    return [one for one in found if one.rows]


def _grounds(record: Record, kind: str, variant: Variant) -> Grounds:
    bins: npt.NDArray[np.int64] = np.zeros(len(EDGES), dtype=np.int64)
    common: Counter[str] = Counter()
    rows = mentions = flagged = 0
    total, source = 0.0, source_of(record, variant)
    for table in record.batches(variant, ["mentions", "grounded", "unsupported"]):
        shares = table.column("grounded").drop_null().to_numpy()
        bins += np.bincount(np.searchsorted(EDGES, shares, side="right") - 1, minlength=len(EDGES))
        rows, total = rows + len(shares), total + float(shares.sum())
        flagged += int((shares < 1).sum())
        mentions += pc.sum(table.column("mentions")).as_py() or 0
        for row in pc.list_flatten(table.column("unsupported")).value_counts().to_pylist():
            common[row["values"][:120]] += row["counts"]
        common = Counter(dict(common.most_common(_REMEMBERED)))
    return Grounds(
        kind=kind,
        source=source,
        arms=whose(variant, record),
        rows=rows,
        mentions=mentions,
        mean=share(total, rows),
        flagged=share(flagged, rows),
        bins=tuple(int(n) for n in bins),
        common=tuple(common.most_common(_COMMON)),
        # A shuffled answer was held against the text that it was made from, which is another entity's.
        examples=tuple(_examples(record, kind, variant)) if flagged and not source.startswith("shuffled") else (),
    )


def _examples(record: Record, kind: str, variant: Variant) -> Iterator[Example]:
    rows = _doubtful(record, variant)
    wanted = [row["entity"] for row in rows]
    prompts = record.pick(record.beside(variant, f"{kind}_prompts"), "entity", wanted, ["items"])
    cited = {row: list(prompts.get(row, {}).get("items", [row] if kind == "item" else []))[:_CITED] for row in wanted}
    items = sorted({item for mine in cited.values() for item in mine})
    titles = record.pick(record.first("items"), "item", items, ["title"])
    texts = record.pick(record.beside(variant, "item_texts"), "item", items, ["text"])
    ids = record.pick(record.first("users"), "user", wanted, ["user_id"]) if kind == "user" else {}
    for row in rows:
        mine = cited[row["entity"]]
        names = [titles.get(item, {}).get("title") or f"item {item}" for item in mine]
        known = str(ids.get(row["entity"], {}).get("user_id", row["entity"]))
        yield Example(
            name=known if kind == "user" else (names or [known])[0],
            share=row["grounded"],
            unsupported=tuple(row["unsupported"]),
            answer=_marked(row["text"] or "", row["unsupported"]),
            sources=tuple(_sources(names, [texts.get(item, {}) for item in mine])),
        )


def _doubtful(record: Record, variant: Variant) -> list[dict[str, Any]]:
    """Rows of the first parts with the smallest shares among those looked at, at most one part's head each."""
    columns = ["entity", "text", "grounded", "unsupported"]
    found: list[dict[str, Any]] = []
    for number in range(min(_PARTS, len(variant.manifest.parts))):
        table = next(record.part(variant, number, columns, _ROWS), None)
        if table is None:
            continue
        low = table.filter(pc.less(table.column("grounded"), 1.0))
        found += low.take(
            pc.sort_indices(low, [("grounded", "ascending"), ("entity", "ascending")])[:_EXAMPLES]
        ).to_pylist()
    found = found or _next_doubtful(record, variant, columns)
    return sorted(found, key=lambda row: (row["grounded"], row["entity"]))[:_EXAMPLES]


def _next_doubtful(record: Record, variant: Variant, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The first such row anywhere: they are rare."""
    for table in record.batches(variant, columns, 16 * _ROWS):
        low = table.filter(pc.less(table.column("grounded"), 1.0))
        if low.num_rows:
            rows: list[dict[str, Any]] = low.slice(0, 1).to_pylist()
            return rows
    return []


def _sources(names: Sequence[str], texts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    room = max(200, _SHOWN_SOURCE // max(1, len(names)))
    for name, row in zip(names, texts, strict=True):
        text = str(row.get("text") or "")
        yield name, text if len(text) <= room else f"{text[: room - 1].rstrip()}…"


def _marked(text: str, unsupported: Sequence[str]) -> tuple[Piece, ...]:
    """The answer in pieces, the unsupported mentions as the used ones."""
    words = sorted(set(filter(None, unsupported)), key=len, reverse=True)
    if not text or not words:
        return ()
    pieces = []
    done = 0
    for match in re.finditer("|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in words), text):
        pieces += [Piece(text[done : match.start()], False), Piece(match.group(), True)]
        done = match.end()
    pieces.append(Piece(text[done:], False))
    return condense([piece for piece in pieces if piece.text], _SHOWN)
