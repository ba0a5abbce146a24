"""Numbers of linking: coverage, ties, similarities, accuracy where the truth is known, and links worth a look."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trawl.report.doubts import Collector, Crowded, Unlinked
from trawl.report.record import Record, Variant, share

_BINS = 40
_DOUBTS = 12
_ROWS = 4096  # texts are among the columns
_COLUMNS = ["item", "rank", "entity_id", "similarity", "method", "ties"]


@dataclass(frozen=True)
class Doubt:
    """A link that is worth a look: known to be wrong, tied with others, of another year, or of low similarity."""

    title: str
    year: int | None
    label: str
    entity_id: str
    similarity: float | None
    ties: int
    apart: int | None  # years between item and entity, None where one is not known
    verdict: str  # "right", "wrong", or "" where the truth is not known


@dataclass(frozen=True)
class Accuracy:
    """Against the truth: items with a known answer, those linked, and those linked rightly."""

    items: int
    linked: int
    right: int

    @property
    def share(self) -> float | None:
        return share(self.right, self.linked)


@dataclass(frozen=True)
class Links:
    """`counts[b]` items have a best similarity in [edges[b], edges[b + 1])."""

    items: int
    linked: int
    tied: int
    with_text: int
    methods: dict[str, int]
    counts: npt.NDArray[np.int64]
    edges: npt.NDArray[np.float64]
    accuracy: Accuracy | None
    doubts: tuple[Doubt, ...]
    threshold: float
    apart: int | None  # linked items whose entity names another year; None where there are too many to compare
    shared: int  # entities that several items are linked to
    counted_all: bool  # whether every link went into `shared`
    unlinked: tuple[Unlinked, ...]
    crowded: tuple[Crowded, ...]

    @property
    def coverage(self) -> float | None:
        return share(self.linked, self.items)


def links(record: Record) -> Links | None:
    """None when nothing was linked in this run."""
    knowledge = record.first("knowledge")
    if not knowledge:
        return None
    items = linked = tied = with_text = 0
    edges = np.linspace(0.0, 1.0, _BINS + 1)
    counts = np.zeros(_BINS, dtype=np.int64)
    truth = record.beside(knowledge, "truth")
    judged = np.zeros(3, dtype=np.int64)
    suspects: list[dict[str, Any]] = []
    collector = Collector(record)
    for table in record.batches(knowledge, [*_COLUMNS, "text"], _ROWS):
        rows = table.filter(pc.equal(table.column("rank"), 0))
        found = rows.filter(pc.not_equal(rows.column("method"), "none"))
        items, linked = items + rows.num_rows, linked + found.num_rows
        tied += _true(pc.greater(found.column("ties"), 0))
        with_text += _true(pc.greater(pc.utf8_length(found.column("text")), 0))
        counts += np.histogram(rows.column("similarity").drop_null().to_numpy(), bins=edges)[0]
        right = _judge(record, truth, rows) if truth else None
        if right is not None:
            known = ~np.isnan(right)
            there = rows.column("entity_id").is_valid().to_numpy()
            judged += np.array([known.sum(), (known & there).sum(), np.nansum(right * there)], dtype=np.int64)
        suspects = _doubtful(suspects, rows, right, collector.see(rows))
    return Links(
        items=items,
        linked=linked,
        tied=tied,
        with_text=with_text,
        methods=dict(sorted(knowledge.manifest.statuses.items())),
        counts=counts,
        edges=edges,
        accuracy=Accuracy(*(int(n) for n in judged)) if truth else None,
        doubts=_named(record, suspects),
        threshold=float(record.setting(knowledge, "linking.threshold")),
        apart=collector.apart if collector.ids is not None else None,
        shared=collector.shared(),
        counted_all=collector.complete,
        unlinked=collector.near_misses(),
        crowded=collector.crowded(record.batches(knowledge, ["item", "rank", "entity_id"])),
    )


def _true(flags: pa.ChunkedArray) -> int:
    return int(pc.sum(flags).as_py() or 0)


def _judge(record: Record, truth: Variant, rows: pa.Table) -> npt.NDArray[np.float64]:
    """Of each row: 1 the entity is an accepted one, 0 it is not, NaN nothing is known of the item."""
    out = np.full(rows.num_rows, np.nan)
    if not rows.num_rows:
        return out
    items, chosen = rows.column("item"), _pair(rows.column("item"), rows.column("entity_id"))
    low, high = items[0].as_py(), items[-1].as_py()
    for number, part in enumerate(truth.manifest.parts):
        if part.last < low or part.first > high:
            continue
        for known in record.part(truth, number, ["item", "entity_ids"]):
            lists = known.column("entity_ids").combine_chunks()
            parents = pc.list_parent_indices(lists)
            accepted = _pair(known.column("item").combine_chunks().take(parents), pc.list_flatten(lists))
            here = pc.is_in(items, known.column("item").combine_chunks()).to_numpy()
            right = pc.fill_null(pc.is_in(chosen, _flat(accepted)), False).to_numpy()
            out[here] = right[here]
    return out


def _flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _pair(items: pa.Array | pa.ChunkedArray, ids: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return pc.binary_join_element_wise(pc.cast(items, pa.string()), ids, "\0")


def _doubtful(
    suspects: list[dict[str, Any]],
    rows: pa.Table,
    right: npt.NDArray[np.float64] | None,
    apart: npt.NDArray[np.float64],
) -> list[dict[str, Any]]:
    """The worst links so far: known to be wrong first, then tied ones, of another year, of low similarity."""
    verdict = np.full(rows.num_rows, np.nan) if right is None else right
    rows = rows.select(_COLUMNS).append_column("right", pa.array(verdict)).append_column("apart", pa.array(apart))
    rows = rows.filter(pc.not_equal(rows.column("method"), "none"))
    wrong, tied = pc.equal(rows.column("right"), 0.0), pc.greater(rows.column("ties"), 0)
    far = pc.greater(rows.column("apart"), 0.0)
    near = rows.filter(pc.or_(pc.or_(wrong, tied), pc.or_(far, pc.less(rows.column("similarity"), 1.0))))
    order = [("right", "ascending"), ("similarity", "ascending"), ("item", "ascending")]  # NaN comes last
    worst = near.take(pc.sort_indices(near, order)[:_DOUBTS]).to_pylist()
    tied_only = near.filter(pc.greater(near.column("ties"), 0)).slice(0, _DOUBTS).to_pylist()
    far_only = near.filter(pc.greater(near.column("apart"), 0.0)).slice(0, _DOUBTS).to_pylist()
    unique = {row["item"]: row for row in [*suspects, *worst, *tied_only, *far_only]}
    ordered = sorted(unique.values(), key=lambda r: (r["right"] != 0, -(r["ties"] > 0), r["similarity"], r["item"]))
    wrongs = [r for r in ordered if r["right"] == 0][: _DOUBTS // 2]
    rest = [r for r in ordered if r["right"] != 0]
    ties = [r for r in rest if r["ties"] > 0][: _DOUBTS // 4]
    dated = [r for r in rest if r["ties"] == 0 and r["apart"] > 0][: _DOUBTS // 4]
    others = [r for r in rest if r["ties"] == 0 and r not in dated]
    return (wrongs + ties + dated + others)[:_DOUBTS]


def _named(record: Record, suspects: list[dict[str, Any]]) -> tuple[Doubt, ...]:
    titles = record.pick(record.first("items"), "item", [r["item"] for r in suspects], ["title", "year"])
    labels = record.pick(record.first("entities"), "entity_id", [r["entity_id"] for r in suspects], ["label"])
    return tuple(
        Doubt(
            title=titles.get(r["item"], {}).get("title", f"item {r['item']}"),
            year=titles.get(r["item"], {}).get("year"),
            label=labels.get(r["entity_id"], {}).get("label", ""),
            entity_id=r["entity_id"],
            similarity=r["similarity"],
            ties=r["ties"],
            apart=None if np.isnan(r["apart"]) else int(r["apart"]),
            verdict={1.0: "right", 0.0: "wrong"}.get(r["right"], ""),
        )
        for r in suspects
    )
