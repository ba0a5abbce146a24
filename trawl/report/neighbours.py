"""Nearest items by the encoder's vectors and by the trained adapter's, beside those that behave alike.

The contrastive loss pulls an item towards its positives; if it did so, the neighbours after the adapter hold more of
them than those before. Exact neighbours are sought for a sample of items only, block by block over all items.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trawl.report.record import Record, Variant, share, whose
from trawl.report.texts import source_of

_SAMPLE = 100  # items that the figures are taken over
_SHOWN = 5  # of these, with titles
_PARTS = 10  # of a table that are looked into
_TOP = 10  # neighbours compared
_LISTED = 5  # neighbours printed
_BLOCK = 8192  # vectors in memory at a time

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Lists = Mapping[int, list[tuple[int, float]]]  # item -> (neighbour, similarity or score), nearest first


@dataclass(frozen=True)
class Near:
    """One item of a list; `both`: it is a positive that stands among the nearest too, of either kind of vectors."""

    title: str
    value: float
    both: bool


@dataclass(frozen=True)
class Around:
    """One item and what is near it. `adapted` is empty where no arm adapts items."""

    title: str
    frozen: tuple[Near, ...]
    adapted: tuple[Near, ...]
    partners: tuple[Near, ...]


@dataclass(frozen=True)
class Neighbours:
    """Of one version of the vectors. Shares are means over the items looked at.

    `changed`: of the nearest by frozen vectors those that are not among the nearest by adapted ones. `before`,
    `after`: of an item's positives (at most _TOP) those among its nearest, over items that have positives.
    """

    source: str
    arms: str
    looked_at: int
    top: int
    changed: float | None
    before: float | None
    after: float | None
    adapted: bool  # whether an adapter's neighbours were made
    items: tuple[Around, ...]


def neighbours(record: Record) -> list[Neighbours]:
    """One for each version of the adapted neighbours in the first repetition; without any, of the frozen vectors."""
    adapted = record.variants("item_neighbours")
    out = []
    frozen: dict[str, Lists] = {}  # several arms stand on the same vectors
    for variant in adapted or record.variants("item_embeddings"):
        vectors = record.beside(variant, "item_embeddings")
        if vectors is None or source_of(record, vectors) == "none":
            continue
        positives = record.beside(variant, "item_positives") or record.first("item_positives")
        partners = _partners(record, positives, vectors)
        if vectors.fingerprint not in frozen:
            frozen[vectors.fingerprint] = nearest(record, vectors, np.array(sorted(partners), dtype=np.int64), _TOP)
        near = frozen[vectors.fingerprint]
        after = _listed(record, variant, near) if adapted else {}
        out.append(_compared(record, variant, near, after, {i: partners[i] for i in near}))
    return out


def _partners(record: Record, positives: Variant | None, vectors: Variant) -> dict[int, list[tuple[int, float]]]:
    """A sample of items that have text, with their positives, spread over a few parts; without positives any items."""
    key = "anchor" if positives else "entity"
    table = positives or vectors
    parts = np.unique(np.linspace(0, len(table.manifest.parts) - 1, _PARTS).astype(int))
    there = np.concatenate(
        [np.zeros(0, dtype=np.int64), *(_spread(record, table, int(n), key, len(parts)) for n in parts)]
    )
    texts = record.rows(vectors, "entity", there, ["has_text"])
    chosen: Ints = np.sort(texts.filter(texts.column("has_text")).column("entity").to_numpy())
    chosen = _even(chosen, _SAMPLE)
    out: dict[int, list[tuple[int, float]]] = {int(item): [] for item in chosen}
    if positives and len(chosen):
        rows = record.rows(positives, key, chosen, ["rank", "partner", "score"])
        rows = rows.filter(pc.less(rows.column("rank"), _TOP)).sort_by([(key, "ascending"), ("rank", "ascending")])
        for row in rows.to_pylist():
            out[row["anchor"]].append((row["partner"], row["score"]))
    return out


def _spread(record: Record, variant: Variant, number: int, key: str, parts: int) -> Ints:
    """Of one part enough items for its share of the sample, twice over, since some have no text."""
    for table in record.part(variant, number, [key]):
        return _even(np.unique(table.column(key).to_numpy()), -(-2 * _SAMPLE // parts))
    return np.zeros(0, dtype=np.int64)


def _even(items: Ints, count: int) -> Ints:
    """At most so many, evenly spread."""
    if len(items) <= count:
        return items
    kept: Ints = items[np.linspace(0, len(items) - 1, count).astype(int)]
    return kept


def nearest(record: Record, vectors: Variant, items: Ints, top: int) -> dict[int, list[tuple[int, float]]]:
    """The `top` nearest by cosine of each of a few items, exact, themselves left out, ties to the smaller index.

    Items without text are left out on both sides. Memory: a block of vectors and (items, top) of the best so far.
    """
    own = record.rows(vectors, "entity", items, ["vector", "has_text"])
    asked, queries = _unit(own)
    if not len(asked):
        return {}
    best = np.full((len(asked), top), -np.inf, dtype=np.float32)
    who = np.zeros((len(asked), top), dtype=np.int64)
    for table in record.batches(vectors, ["entity", "vector", "has_text"], _BLOCK):
        index, block = _unit(table)
        if not len(index):
            continue
        similar = queries @ block.T  # (q, b)
        similar[asked[:, None] == index[None, :]] = -np.inf
        kept = np.argpartition(-similar, min(top, len(index)) - 1, axis=1)[:, :top]
        values = np.concatenate([best, np.take_along_axis(similar, kept, axis=1)], axis=1)
        names = np.concatenate([who, index[kept]], axis=1)
        order = np.lexsort((names, -values), axis=1)[:, :top]
        best, who = np.take_along_axis(values, order, axis=1), np.take_along_axis(names, order, axis=1)
    return {
        int(item): [(int(n), float(v)) for n, v in zip(who[row], best[row], strict=True) if np.isfinite(v)]
        for row, item in enumerate(asked)
    }


def _unit(table: pa.Table) -> tuple[Ints, Floats]:
    """Indexes and (n, d) unit vectors of the rows that have text."""
    table = table.filter(table.column("has_text"))
    index: Ints = table.column("entity").to_numpy()
    if not len(index):
        return index, np.zeros((0, 1), dtype=np.float32)
    flat = table.column("vector").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    block: Floats = flat.reshape(len(index), -1).astype(np.float32)
    block /= np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12)
    return index, block


def _listed(record: Record, variant: Variant, near: Lists) -> dict[int, list[tuple[int, float]]]:
    """The published neighbours of the same items."""
    rows = record.rows(variant, "item", np.array(sorted(near), dtype=np.int64), ["rank", "neighbour", "similarity"])
    out: dict[int, list[tuple[int, float]]] = {}
    for row in rows.sort_by([("item", "ascending"), ("rank", "ascending")]).to_pylist():
        mine = out.setdefault(row["item"], [])
        if len(mine) < _TOP:
            mine.append((row["neighbour"], row["similarity"]))
    return out


def _compared(record: Record, variant: Variant, near: Lists, after: Lists, partners: Lists) -> Neighbours:
    both = [item for item in near if not after or item in after]
    changed = [1 - _overlap(near[i], after[i]) for i in both if after and near[i]]
    known = [i for i in both if partners[i]]
    order = sorted(both, key=lambda i: (not partners[i], i))
    step = max(1, len(known) // _SHOWN)
    shown = (order[: len(known)] or order)[::step][:_SHOWN]
    vectors = record.beside(variant, "item_embeddings") or variant
    return Neighbours(
        source=source_of(record, vectors),
        arms=whose(variant, record),
        looked_at=len(both),
        top=_TOP,
        changed=share(sum(changed), len(changed)),
        before=share(sum(_overlap(partners[i], near[i]) for i in known), len(known)),
        after=share(sum(_overlap(partners[i], after[i]) for i in known), len(known)) if after else None,
        adapted=bool(after),
        items=_named(record, shown, near, after, partners),
    )


def _overlap(wanted: list[tuple[int, float]], found: list[tuple[int, float]]) -> float:
    """Share of the wanted that are among the found."""
    there = {item for item, _ in found}
    return sum(item in there for item, _ in wanted) / len(wanted)


def _named(record: Record, shown: list[int], near: Lists, after: Lists, partners: Lists) -> tuple[Around, ...]:
    lists = [{i: ranked.get(i, [])[:_LISTED] for i in shown} for ranked in (near, after, partners)]
    wanted = [*shown, *(item for each in lists for row in each.values() for item, _ in row)]
    titles = record.pick(record.first("items"), "item", wanted, ["title"])

    def title(item: int) -> str:
        return str(titles.get(item, {}).get("title") or f"item {item}")

    def named(row: list[tuple[int, float]], known: Iterable[tuple[int, float]]) -> tuple[Near, ...]:
        there = {item for item, _ in known}
        return tuple(Near(title(n), value, n in there) for n, value in row)

    frozen, adapted, alike = lists
    return tuple(
        Around(
            title=title(i),
            frozen=named(frozen[i], partners[i]),
            adapted=named(adapted[i], partners[i]),
            partners=named(alike[i], [*near[i], *after.get(i, [])]),
        )
        for i in shown
    )
