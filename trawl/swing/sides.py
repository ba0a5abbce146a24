"""The graph of one side from interactions with raw ids: what stands in it is numbered in the order of the ids."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from trawl.swing.days import DayNumbers, Window
from trawl.swing.graph import Bipartite, Ints, bipartite
from trawl.swing.ids import Numbers, ordered
from trawl.swing.reading import Interactions

Side = Literal["user", "item"]


@dataclass(frozen=True)
class Ids:
    """The ids of one side that have an interaction, ascending: as numbers when all are whole numbers, else as text."""

    text: pa.Array  # (count,) large_string
    known: Ints  # (count,) position of each among all that were read
    by_number: bool

    def places(self, count: int) -> Numbers:
        """(count,) number of each id among all that were read, -1 for those that are not here."""
        out = np.full(count, -1, dtype=np.int32)
        out[self.known] = np.arange(len(self.known), dtype=np.int32)
        return out


@dataclass(frozen=True)
class SideGraph:
    """A graph of anchors and features, with their raw ids."""

    graph: Bipartite
    anchors: Ids
    features: Ids
    interactions: int  # rows that count, a pair that stands twice counted twice
    factor: float = 1.0  # what an unnormalised score of the graph is multiplied with: see Window.weights

    def digest(self) -> str:
        """Of ids and edges, with their weights."""
        out = blake2b(digest_size=16)
        for ids in (self.anchors.text, self.features.text):
            for buffer in pa.concat_arrays([ids, ids.slice(0, 0)]).buffers()[1:]:
                out.update(buffer or b"")
        graph = self.graph
        for array in (graph.rows_ptr, graph.rows, graph.lists_ptr, graph.lists, graph.row_values):
            out.update(b"-" if array is None else memoryview(array).cast("B"))
        return out.hexdigest()


def side_graph(found: Interactions, side: Side, window: Window | None = None) -> SideGraph:
    """The graph of the interactions of a window, or of all. A pair that stands twice counts once, with its newest day."""
    own, other = (found.user, found.item) if side == "user" else (found.item, found.user)
    own_ids, other_ids = (
        (found.user_ids, found.item_ids) if side == "user" else (found.item_ids, found.user_ids)
    )
    day = found.day
    if window is not None and day is not None:
        kept = window.counts(day)
        own, other, day = own[kept], other[kept], day[kept]
    anchors, features = _ids(own, own_ids), _ids(other, other_ids)
    rows, columns = anchors.places(len(own_ids))[own], features.places(len(other_ids))[other]
    shape = (len(anchors.known), len(features.known))
    if window is None or day is None or not window.half_life_days:
        return SideGraph(bipartite(rows, columns, shape), anchors, features, len(own))
    return SideGraph(_weighted(rows, columns, shape, day, window), anchors, features, len(own), window.factor)


def _ids(numbers: Numbers, known: pa.Array) -> Ids:
    seen = np.zeros(len(known), dtype=np.bool_)
    seen[numbers] = True
    places = np.flatnonzero(seen)
    ids = known.take(pa.array(places))
    order, by_number = ordered(ids)
    return Ids(ids.take(pa.array(order)), places[order], by_number)


def _weighted(rows: Numbers, columns: Numbers, shape: tuple[int, int], day: DayNumbers, window: Window) -> Bipartite:
    order = np.lexsort((day, columns, rows))
    rows, columns, day = rows[order], columns[order], day[order]
    newest = np.ones(len(rows), dtype=np.bool_)
    newest[:-1] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
    rows, columns, values = rows[newest], columns[newest], window.weights(day[newest])
    pointer = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))]).astype(np.int64)
    lists = sp.csr_array((values, columns, pointer), shape=shape).tocsc()
    return Bipartite(
        rows_ptr=pointer,
        rows=columns,
        lists_ptr=lists.indptr,
        lists=lists.indices,
        row_values=values,
        list_values=lists.data,
    )

