"""The graph of one side from interactions with raw ids: what stands in it is numbered in the order of the ids."""

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from trawl.errors import ConfigError
from trawl.swing.cap_plan import AUTO, EXACT, CapPlan, Rule, planned
from trawl.swing.caps import Keys, cap_lists, id_keys
from trawl.swing.days import DayNumbers, Window
from trawl.swing.degrees import Degrees
from trawl.swing.graph import LEADERS, Bipartite, Ints, bipartite
from trawl.swing.ids import Numbers, ordered
from trawl.swing.reading import Interactions

Side = Literal["user", "item"]


@dataclass(frozen=True, kw_only=True)
class Caps:
    """What `cap_plan` reads: the same names and defaults as in the recipe's section `swing`. Raises ConfigError.

    Each of the first three is auto, exact or a number of 1 and above.
    """

    users_per_item: Rule = AUTO  # of each item's users that user targets walk
    items_per_user: Rule = AUTO  # of each user's items that item targets walk
    target_features: Rule = AUTO  # of a target's own items or users that are walked
    cap_seed: int = 0  # which entries a cap keeps
    exact_steps: float = 1e10  # auto: exact up to this cost
    leaders: int = LEADERS  # capped: candidates of a target that are scored on whole rows; 0: none

    def __post_init__(self) -> None:
        for name in ("users_per_item", "items_per_user", "target_features"):
            value = getattr(self, name)
            if value not in (AUTO, EXACT) and not (isinstance(value, int) and value >= 1):
                raise ConfigError(f"swing.{name} = {value!r}: auto, exact, or a number of 1 and above")
        if self.leaders < 0:
            raise ConfigError(f"swing.leaders = {self.leaders}: must be at least 0")
        if self.cap_seed < 0 or not self.exact_steps > 0:
            raise ConfigError(f"swing.cap_seed = {self.cap_seed}, swing.exact_steps = {self.exact_steps}: too small")


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

    graph: Bipartite  # under the plan's caps
    whole: Bipartite
    plan: CapPlan
    anchors: Ids
    features: Ids
    interactions: int  # rows that count, a pair that stands twice counted twice
    factor: float = 1.0  # what an unnormalised score of the graph is multiplied with: see Window.weights

    @property
    def degrees(self) -> Ints:
        """(n,) features of each anchor, in full."""
        return self.whole.degrees

    @property
    def capped(self) -> bool:
        return not self.plan.exact

    def digest(self) -> str:
        """Of ids and edges, with their weights."""
        out = blake2b(digest_size=16)
        for ids in (self.anchors.text, self.features.text):
            for buffer in pa.concat_arrays([ids, ids.slice(0, 0)]).buffers()[1:]:
                out.update(buffer or b"")
        graph, whole = self.graph, self.whole
        arrays = (graph.rows_ptr, graph.rows, graph.lists_ptr, graph.lists, graph.row_values)
        for array in (*arrays, whole.rows_ptr, whole.lists_ptr):
            out.update(b"-" if array is None else np.ascontiguousarray(array).data)
        return out.hexdigest()


def side_graph(found: Interactions, side: Side, window: Window | None = None, caps: Caps | None = None) -> SideGraph:
    """The graph of the interactions of a window, or of all. A pair that stands twice counts once, with its newest day.

    Raises ConfigError for another side.
    """
    if side not in ("user", "item"):
        raise ConfigError(f"side = {side!r}: choose user or item")
    rows, columns = (found.user, found.item) if side == "user" else (found.item, found.user)
    ids = (found.user_ids, found.item_ids) if side == "user" else (found.item_ids, found.user_ids)
    day = found.day
    if window is not None and day is not None:
        kept = window.counts(day)
        rows, columns, day = rows[kept], columns[kept], day[kept]
    anchors, features = _ids(rows, ids[0]), _ids(columns, ids[1])
    rows, columns = anchors.places(len(ids[0]))[rows], features.places(len(ids[1]))[columns]
    shape, factor = (len(anchors.known), len(features.known)), 1.0
    if window is None or day is None or not window.half_life_days:
        whole = bipartite(rows, columns, shape)
    else:
        whole, factor = _weighted(rows, columns, shape, day, window), window.factor
    plan = planned(side, caps or Caps(), Degrees.of(whole.degrees), Degrees.of(whole.lengths))
    graph = whole if plan.exact else _capped(whole, plan, anchors, features)
    return SideGraph(graph, whole, plan, anchors, features, len(rows), factor)


def _capped(whole: Bipartite, plan: CapPlan, anchors: Ids, features: Ids) -> Bipartite:
    """Rows and lists under the plan's caps. What is kept depends on the raw ids alone."""
    return capped_graph(whole, plan, (id_keys(anchors.text), id_keys(features.text)))


def capped_graph(whole: Bipartite, plan: CapPlan, keys: tuple[Keys, Keys] | None = None) -> Bipartite:
    """The same under a plan. keys: what is hashed of each anchor and feature; by default their numbers."""
    keys = keys or (np.arange(whole.n, dtype=np.uint64), np.arange(whole.p, dtype=np.uint64))
    caps, out = plan.caps, whole
    other: Side = "item" if plan.side == "user" else "user"
    if caps.lists:
        pointer, kept = cap_lists(
            whole.lists_ptr,
            whole.lists,
            caps.lists,
            owner=other,
            seed=caps.seed,
            owner_keys=keys[1],
            entry_keys=keys[0],
        )
        values = None if whole.list_values is None else whole.list_values[kept]
        out = replace(out, lists_ptr=pointer, lists=whole.lists[kept], list_values=values)
    if caps.rows:
        pointer, kept = cap_lists(
            whole.rows_ptr,
            whole.rows,
            caps.rows,
            owner=plan.side,
            seed=caps.seed,
            owner_keys=keys[0],
            entry_keys=keys[1],
        )
        values = None if whole.row_values is None else whole.row_values[kept]
        out = replace(out, rows_ptr=pointer, rows=whole.rows[kept], row_values=values)
    out = replace(out, capped=True, popularity=whole.lengths)
    if not caps.lists:
        return out
    out = replace(out, full_ptr=whole.rows_ptr, full_rows=whole.rows, full_values=whole.row_values)
    return replace(out, leaders=caps.leaders)


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
        lists_ptr=lists.indptr.astype(np.int64),
        lists=lists.indices,
        row_values=values,
        list_values=lists.data,
    )
