"""SWING from a table of interactions with raw ids to a table of partners with raw ids."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypedDict, Unpack

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trawl.errors import AskedWrongly, ConfigError
from trawl.swing import cap_error
from trawl.swing.days import Unit, Window, parse_day
from trawl.swing.formula import Formula, NodeWeight, Normalize
from trawl.swing.graph import Ints
from trawl.swing.kernel import Partners
from trawl.swing.ranges import Ranges
from trawl.swing.reading import Columns, Interactions, interactions, of_table
from trawl.swing.remining import Again
from trawl.swing.sides import Caps, Side, SideGraph, side_graph

SCHEMA = pa.schema(
    [
        ("anchor", pa.string()),
        ("rank", pa.int32()),
        ("partner", pa.string()),
        ("score", pa.float64()),
        ("shared", pa.int64()),
    ]
)


class Switches(TypedDict, total=False):
    """The fields of `Formula`."""

    alpha: float
    diagonal: bool
    node_weight: NodeWeight
    node_a: float
    node_b: float
    inverted: bool
    normalize: Normalize


@dataclass(frozen=True, kw_only=True)
class Days:
    """Which days count: the `window_days` up to `day` (0: all), weighing half per `half_life_days` of age (0: all one).

    day: YYYY-MM-DD, `previous` (the day before today, UTC), or empty: the newest day among the interactions.
    """

    day: str = ""
    window_days: int = 0
    half_life_days: float = 0.0

    def window(self, newest: int) -> Window:
        """Raises InputError for a day that is none, ConfigError for negative numbers."""
        last = parse_day(self.day) if self.day else newest
        return Window(last=last, days=self.window_days, half_life_days=self.half_life_days)


def mine(  # noqa: PLR0913 - the front door of a library; all but four have defaults that serve
    table: pa.Table,
    user_column: str,
    item_column: str,
    side: Side,
    *,
    top_k: int = 10,
    formula: Formula | None = None,
    time_column: str = "",
    time_unit: Unit = "s",
    days: Days | None = None,
    caps: Caps | None = None,
    workers: int = 1,
    **switches: Unpack[Switches],
) -> pa.Table:
    """Partners of all users or all items: (anchor, rank, partner, score, shared), sorted by (anchor, rank).

    Each row of `table` is an interaction. Ids are text or whole numbers and come back as text. A pair that stands
    twice counts once; an empty table gives an empty table. Ties go to the smaller id: ids are ordered as numbers when
    all of the column are whole numbers, else as text. Switches are fields of `formula`, as in normalize="none".
    With `days`, time_column says when (timestamps, dates, ISO 8601 text, or numbers of time_unit since 1970); of a pair
    that stands twice the newest counts. caps: see `Caps`; workers: threads, which change no result.

    Raises ConfigError (side, top_k, switches, days) and InputError (a column is missing, an id is null, NaN, empty or
    negative, a time is none).
    """
    if days and not time_column:
        raise AskedWrongly("days are chosen by a column of times: name time_column")
    columns = Columns(user=user_column, item=item_column, time=time_column, time_unit=time_unit)
    found = interactions(of_table(table), columns)
    graph = side_graph(found, side, (days or Days()).window(newest(found)) if time_column else None, caps)
    try:
        chosen = replace(formula or Formula(), **switches)
    except TypeError as error:
        raise ConfigError(f"switches of the formula: {error}") from None
    parts = Mined(graph, chosen, top_k, workers).tables()
    return pa.concat_tables([SCHEMA.empty_table(), *parts])


def newest(found: Interactions) -> int:
    """The newest day; 0 when there is none."""
    return int(found.day.max()) if found.day is not None and len(found.day) else 0


@dataclass
class Mined:
    """The partners of one graph as tables, some of them copied where there is an earlier result to copy from.

    `best` and `error` are there when all tables were taken.
    """

    graph: SideGraph
    formula: Formula
    top_k: int
    workers: int = 1
    again: Again = field(default_factory=Again)
    best: list[Ints] = field(default_factory=list)  # the best partners, by number
    error: cap_error.CapError | None = None  # where the graph is capped and nothing was copied

    def tables(self) -> Iterator[pa.Table]:
        """Tables of `SCHEMA`, in the order of anchors."""
        graph, formula, count = self.graph, self.formula, self.graph.graph.n
        some = self.again.kept is not None
        ranges = Ranges(graph, formula, self.top_k, self.workers, self.again.touched if some else None)
        sample = cap_error.sampled(graph.plan, formula, np.arange(0 if some else count), count)
        factor, sampled = 1.0 if formula.normalize == "cosine" else graph.factor, [_NOBODY]
        for anchors, found in ranges:
            sampled.append(_rows(found, np.isin(found.anchor, sample)))
            rows = _merged(replace(found, score=found.score * factor), self.again.of(anchors))
            self.best.append(rows.partner[rows.rank == 0])
            yield self._table(rows)
        if len(sample):
            limit = cap_error.limit_of(graph.plan)
            whole, rows = cap_error.InMemory(graph.whole, formula), _joined(sampled)
            self.error = cap_error.measured(whole, formula, rows, sample, self.top_k, own=ranges.own, limit_steps=limit)

    def _table(self, rows: Partners) -> pa.Table:
        ids = self.graph.anchors.text
        columns = (
            ids.take(pa.array(rows.anchor)),
            rows.rank,
            ids.take(pa.array(rows.partner)),
            rows.score,
            rows.shared,
        )
        return pa.table(dict(zip(SCHEMA.names, columns, strict=True))).cast(SCHEMA)


_NOBODY = Partners(
    anchor=np.empty(0, np.int64),
    rank=np.empty(0, np.int32),
    partner=np.empty(0, np.int64),
    score=np.empty(0, np.float64),
    shared=np.empty(0, np.int64),
)


def _rows(found: Partners, which: npt.NDArray[np.bool_] | Ints) -> Partners:
    return Partners(**{name: values[which] for name, values in vars(found).items()})


def _joined(parts: list[Partners]) -> Partners:
    return Partners(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(_NOBODY)})


def _merged(mined: Partners, copied: Partners | None) -> Partners:
    """The rows of both, which are of different anchors, in the order of anchors and ranks."""
    if copied is None:
        return mined
    both = _joined([mined, copied])
    return _rows(both, np.argsort(both.anchor, kind="stable"))
