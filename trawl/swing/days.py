"""Which days' interactions count, and how much: windows of days, weights that halve with age.

A day is a whole number: days since 1970-01-01, UTC. Ages are whole days, from an interaction's day to the window's last
one, so that all interactions of a day weigh the same and a partition date=YYYY-MM-DD says all that is needed.
"""

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trawl.errors import ConfigError, InputError
from trawl.swing.ids import is_text, refuse

Unit = Literal["s", "ms", "us", "ns"]
DayNumbers = npt.NDArray[np.int32]
PREVIOUS = "previous"  # the day before today's
_MOST_HALF_LIVES = 100  # what is older weighs less than 1e-30 and is left out, so that no product of weights is 0
_FIRST = (datetime.date(1, 1, 1) - datetime.date(1970, 1, 1)).days
_LAST = (datetime.date(9999, 12, 31) - datetime.date(1970, 1, 1)).days
_PER_DAY = {"s": 86400, "ms": 86400 * 10**3, "us": 86400 * 10**6, "ns": 86400 * 10**9}
_ZONE = r"[Tt ].*([Zz]|[+-]\d\d(:?\d\d)?)\s*$"


@dataclass(frozen=True, kw_only=True)
class Window:
    """The days last - days + 1 .. last, and the weight 0.5^(age / half_life_days) of each.

    days: 0 = all up to `last`. half_life_days: 0 = all weigh 1. Raises ConfigError.
    """

    last: int
    days: int = 0
    half_life_days: float = 0.0

    def __post_init__(self) -> None:
        if self.days < 0:
            raise ConfigError(f"swing.window_days = {self.days}: must not be negative; 0 is all days")
        if not 0 <= self.half_life_days < float("inf"):
            raise ConfigError(f"swing.half_life_days = {self.half_life_days}: must not be negative; 0 is no decay")

    @property
    def first(self) -> int:
        """The first day that counts. With a half-life nothing older than 100 of them does."""
        spans = [self.days] if self.days else []
        if self.half_life_days:
            spans.append(int(self.half_life_days * _MOST_HALF_LIVES) + 1)
        return max(_FIRST, self.last - min(spans) + 1) if spans else _FIRST

    def counts(self, days: DayNumbers) -> npt.NDArray[np.bool_]:
        """(rows,) which of the days are in the window."""
        return np.asarray((days >= self.first) & (days <= self.last))

    def holds(self, day: int) -> bool:
        return self.first <= day <= self.last

    def weights(self, days: DayNumbers) -> npt.NDArray[np.float32]:
        """(rows,) 0.5^(age / half_life_days) / factor: between two windows they differ by a power of two alone.

        So, weights in float32 or not, a day later each is exactly what it was or half of that, and unnormalised scores
        that did not change otherwise are those of the day before times the ratio of the factors. Cosine needs none.
        """
        phase = days / self.half_life_days
        whole = np.floor(phase)
        steps = (whole - np.floor(self.last / self.half_life_days)).astype(np.int32)
        return np.asarray(np.ldexp(np.exp2(phase - whole).astype(np.float32), steps), dtype=np.float32)

    @property
    def shift(self) -> int:
        """The power of two that weights are relative to."""
        return int(np.floor(self.last / self.half_life_days)) if self.half_life_days else 0

    @property
    def factor(self) -> float:
        """What scores of a graph with `weights` are multiplied with: four weights stand in each term."""
        if not self.half_life_days:
            return 1.0
        phase = self.last / self.half_life_days
        return float(np.exp2(-4.0 * (phase - np.floor(phase))))


def parse_day(text: str, today: datetime.date | None = None) -> int:
    """The day of YYYY-MM-DD, or of `previous`: the one before today's (UTC). Raises InputError."""
    if text == PREVIOUS:
        now = today or datetime.datetime.now(datetime.UTC).date()
        return (now - datetime.date(1970, 1, 1)).days - 1
    try:
        return (datetime.date.fromisoformat(text) - datetime.date(1970, 1, 1)).days
    except ValueError:
        raise InputError(f"day {text!r}: is no date; write YYYY-MM-DD, or previous for the day before today") from None


def day_name(day: int) -> str:
    """YYYY-MM-DD."""
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).isoformat()


def to_days(column: pa.Array, unit: Unit, where: object, name: str, first_row: int = 1) -> DayNumbers:
    """(rows,) the days of a column of Arrow timestamps or dates, ISO 8601 text, or numbers of `unit`s since 1970.

    Times without a zone are UTC. Raises InputError at the first row without a time, ConfigError for another unit.
    """
    if unit not in get_args(Unit):
        raise ConfigError(f"time unit {unit!r}: choose one of {', '.join(get_args(Unit))}")
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    refuse(pc.is_null(column), "the time is null", column, where, name, first_row)
    kind = column.type
    if is_text(kind):
        return _of_text(column.cast(pa.string()), unit, where, name, first_row)
    if pa.types.is_date(kind):
        return np.asarray(column.cast(pa.date32()).cast(pa.int32()).to_numpy(zero_copy_only=False), dtype=np.int32)
    if pa.types.is_timestamp(kind):
        return _whole(column.cast(pa.int64()), kind.unit, where, name, first_row)
    if pa.types.is_floating(kind):
        column = column.cast(pa.float64())
        wrong = pc.invert(pc.is_finite(column))
        refuse(wrong, "the time is no number", column, where, name, first_row)
        return _whole(column, unit, where, name, first_row)
    if pa.types.is_integer(kind):
        return _whole(column, unit, where, name, first_row)
    raise InputError.at(where, f"column {name}", f"holds {kind}", "times are timestamps, dates, ISO text or numbers")


def numbers(column: pa.Array, what: str, where: object, name: str, first_row: int = 1) -> pa.Array:
    """A column as float64; text that holds numbers is read. Raises InputError at the first row that holds none."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if not (is_text(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise InputError.at(where, f"column {name}", f"holds {kind}", "numbers are needed")
    out = _cast(column, lambda some: some.cast(pa.float64()), f"the {what} is no number", where, name, first_row)
    refuse(pc.is_null(out), f"the {what} is null", out, where, name, first_row)
    refuse(pc.is_nan(out), f"the {what} is NaN", out, where, name, first_row)
    return out


def _whole(column: pa.Array, unit: str, where: object, name: str, first_row: int) -> DayNumbers:
    days = np.floor_divide(column.to_numpy(zero_copy_only=False), _PER_DAY[unit])
    wrong = (days < _FIRST) | (days > _LAST)
    hint = "the time is beyond the year 9999; state another --time-unit?"
    refuse(pa.array(wrong), hint, column, where, name, first_row)
    return np.asarray(days, dtype=np.int32)


def _of_text(text: pa.Array, unit: Unit, where: object, name: str, first_row: int) -> DayNumbers:
    """Whole columns of digits are numbers; else each row is ISO 8601, with a zone or without."""
    if pc.all(pc.match_substring_regex(text, r"^\s*-?\d+(\.\d+)?\s*$"), min_count=0).as_py():
        plain = pc.all(pc.match_substring_regex(text, r"^\s*-?\d{1,18}\s*$"), min_count=0).as_py()
        kind = pa.int64() if plain else pa.float64()
        return _whole(pc.utf8_trim_whitespace(text).cast(kind), unit, where, name, first_row)
    zoned = pc.match_substring_regex(text, _ZONE)

    def parsed(some: pa.Array, zone: pa.Array) -> pa.Array:
        out = [
            pc.if_else(chosen, some, None).cast(pa.timestamp("us", tz)).cast(pa.int64())
            for chosen, tz in ((zone, "UTC"), (pc.invert(zone), None))
        ]
        return pc.coalesce(*out)

    both = pa.table({"text": text, "zone": zoned})

    def read(some: Any) -> pa.Array:
        return parsed(_one(some["text"]), _one(some["zone"]))

    whole = _cast(both, read, "the time is neither ISO 8601 nor a number", where, name, first_row)
    return _whole(whole, "us", where, name, first_row)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _cast(rows: Any, cast: Callable[[Any], pa.Array], what: str, where: object, name: str, first_row: int) -> pa.Array:
    """`cast` of an array or table. Raises InputError naming the first row that it refuses."""
    try:
        return cast(rows)
    except pa.ArrowException:
        low, high = 0, len(rows)  # the first `low` rows pass, the first `high` do not
        while high - low > 1:
            middle = (low + high) // 2
            try:
                cast(rows.slice(low, middle - low))
                low = middle
            except pa.ArrowException:
                high = middle
    value = rows.slice(low, 1)
    shown = value["text"][0] if isinstance(value, pa.Table) else value[0]
    raise InputError.at(where, f"row {low + first_row}, column {name}", f"{what} ({shown})", "mend or drop the row")
