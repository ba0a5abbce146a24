"""Doubts about links beyond single ones: items without a link, entities with several items, years that differ."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trawl.report.record import Record

_SHOWN = 8
_TITLES = 6  # of one entity
_MOST = 1_000_000  # distinct entities that are counted; of years: entities that are looked up


@dataclass(frozen=True)
class Unlinked:
    """An item without a link; `similarity` of the best candidate, None where there was none."""

    title: str
    year: int | None
    similarity: float | None


@dataclass(frozen=True)
class Crowded:
    """An entity that several items are linked to."""

    label: str
    entity_id: str
    items: int
    titles: tuple[str, ...]


class Collector:
    """Sees the first rows (rank 0) of the knowledge table batch by batch."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.unlinked: list[dict[str, Any]] = []
        self.counts = pa.table({"entity_id": pa.array([], pa.string()), "items": pa.array([], pa.int64())})
        self.complete = True  # whether all entities were counted
        self.ids, self.years = _entity_years(record)
        self.apart = 0

    def see(self, rows: pa.Table) -> npt.NDArray[np.float64]:
        """Takes the rows in; returns the years between each item and its entity, NaN where one is not known."""
        none = rows.filter(pc.equal(rows.column("method"), "none")).select(["item", "similarity"])
        order = [("similarity", "descending"), ("item", "ascending")]  # nulls come last
        near = none.take(pc.sort_indices(none, order)[:_SHOWN]).to_pylist()
        ranked = sorted([*self.unlinked, *near], key=lambda r: (-(r["similarity"] or 0.0), r["item"]))
        self.unlinked = ranked[:_SHOWN]
        self._count(rows.column("entity_id").drop_null())
        apart = self._apart(rows)
        self.apart += int((apart > 0).sum())
        return apart

    def _count(self, ids: pa.ChunkedArray) -> None:
        if self.counts.num_rows > _MOST:
            self.complete = False
            return
        new = pa.table({"entity_id": ids.cast(pa.string()), "items": pa.array(np.ones(len(ids), dtype=np.int64))})
        both = pa.concat_tables([self.counts, new]).group_by("entity_id").aggregate([("items", "sum")])
        self.counts = both.rename_columns(["entity_id", "items"])

    def _apart(self, rows: pa.Table) -> npt.NDArray[np.float64]:
        items = self.record.first("items")
        if self.ids is None or items is None or not rows.num_rows:
            return np.full(rows.num_rows, np.nan)
        wanted = rows.column("item").to_numpy()
        own = self.record.rows(items, "item", wanted, ["year"])
        mine = _aligned(rows.column("item"), own.column("item"), own.column("year"))
        return np.abs(mine - _aligned(rows.column("entity_id"), self.ids, self.years))

    def near_misses(self) -> tuple[Unlinked, ...]:
        """The unlinked items whose best candidate came closest."""
        titles = self.record.pick(
            self.record.first("items"), "item", [r["item"] for r in self.unlinked], ["title", "year"]
        )
        found = [(titles.get(r["item"], {}), r) for r in self.unlinked]
        return tuple(Unlinked(t.get("title") or f"item {r['item']}", t.get("year"), r["similarity"]) for t, r in found)

    def shared(self) -> int:
        """Entities with several items."""
        return int(pc.sum(pc.greater(self.counts.column("items"), 1)).as_py() or 0)

    def crowded(self, batches: Any) -> tuple[Crowded, ...]:
        """The entities with most items; `batches`: the knowledge table once more, with item and entity_id."""
        some = self.counts.filter(pc.greater(self.counts.column("items"), 1))
        some = some.take(pc.sort_indices(some, [("items", "descending"), ("entity_id", "ascending")])[:_SHOWN])
        if not some.num_rows:
            return ()
        members: dict[str, list[int]] = {name: [] for name in some.column("entity_id").to_pylist()}
        keys = some.column("entity_id").combine_chunks()
        for table in batches:
            found = table.filter(pc.is_in(table.column("entity_id").cast(pa.string()), keys))
            for row in found.to_pylist():
                if row["rank"] == 0 and len(members[row["entity_id"]]) < _TITLES:
                    members[row["entity_id"]].append(row["item"])
        items = [item for mine in members.values() for item in mine]
        titles = self.record.pick(self.record.first("items"), "item", items, ["title"])
        labels = self.record.pick(self.record.first("entities"), "entity_id", list(members), ["label"])
        return tuple(
            Crowded(
                label=labels.get(row["entity_id"], {}).get("label", ""),
                entity_id=row["entity_id"],
                items=row["items"],
                titles=tuple(titles.get(i, {}).get("title") or f"item {i}" for i in members[row["entity_id"]]),
            )
            for row in some.to_pylist()
        )


def _entity_years(record: Record) -> tuple[pa.Array | None, pa.Array | None]:
    """Ids and years of the entities that name one; None where there are too many to hold."""
    entities = record.first("entities")
    if entities is None or entities.manifest.rows > _MOST:
        return None, None
    schema = pa.schema([("entity_id", pa.string()), ("year", pa.int32())])
    found = [t.filter(pc.is_valid(t.column("year"))) for t in record.batches(entities, ["entity_id", "year"])]
    whole = pa.concat_tables([schema.empty_table(), *(t.cast(schema) for t in found)])
    return whole.column("entity_id").combine_chunks(), whole.column("year").combine_chunks()


def _aligned(wanted: Any, keys: Any, values: Any) -> npt.NDArray[np.float64]:
    """The value of each wanted key, NaN where it has none."""
    flat = keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys
    places = pc.index_in(wanted, flat)
    found: npt.NDArray[np.float64] = pc.take(values, places).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return np.where(places.is_valid().to_numpy(zero_copy_only=False), found, np.nan).astype(np.float64)
