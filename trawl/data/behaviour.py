"""What is decided from behaviour alone: the order of a user's log, cut-offs, splits, cold items, samples.

Everything here is arithmetic on arrays of one part; nothing depends on how many parts there are.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trawl.checks import mix
from trawl.schemas import TEST, TRAIN, VALID

Ints = npt.NDArray[np.int64]
_COLD = 0xC01D  # so that cold items are no function of the same hash as the users' split


def order_log(rows: pa.Table, user: Ints, item: Ints, like_above: float) -> pa.Table:
    """The log of some users: each one's rows by (time, place in the source), numbered from 0.

    `rows` has rating, time, at; `user` and `item` are their indexes. label = rating > like_above.
    """
    time, at = rows.column("time").to_numpy(), rows.column("at").to_numpy()
    order = np.lexsort((at, time, user))
    user, rating = user[order], rows.column("rating").to_numpy()[order]
    return pa.table(
        {
            "user": user,
            "position": np.arange(len(user)) - np.searchsorted(user, user),
            "item": item[order],
            "rating": rating.astype(np.float32),
            "time": time[order],
            "label": rating > like_above,
        }
    )


def repeated_pair(user: Ints, item: Ints, at: Ints) -> int:
    """Row of the earliest repetition of a (user, item) pair; -1 when each stands once."""
    order = np.lexsort((at, item, user))
    same = (np.diff(user[order]) == 0) & (np.diff(item[order]) == 0)
    rows = order[1:][same]
    return int(rows[np.argmin(at[rows])]) if len(rows) else -1


def cutoffs(users: Ints, log_users: Ints, most: int) -> pa.Table:
    """One row per user, with or without events: cutoff = min((n + 1) // 2, most), n = events.

    `users`: contiguous indexes; `log_users`: the user of each row of their log.
    """
    first = int(users[0]) if len(users) else 1
    events = np.bincount(log_users - first, minlength=len(users)).astype(np.int64)
    return pa.table({"user": users, "cutoff": np.minimum((events + 1) // 2, most), "events": events})


class Split:
    """Which user is in which split, exactly by the shares: users in the order of a hash of (seed, index).

    8 bytes a user while it is made; afterwards two thresholds. Other partitions of the same numbering change nothing.
    """

    def __init__(self, users: int, shares: tuple[float, float, float], seed: int) -> None:
        """valid and test have round(share * users) users, train the others."""
        self._seed = seed
        held = [round(users * share) for share in shares[1:]]
        self._tops = [_smallest(users, count, seed) for count in (held[0], sum(held))]

    def of(self, users: Ints) -> npt.NDArray[np.str_]:
        """(n,) train, valid or test for each index."""
        order = _order(users, self._seed)
        return np.where(order <= self._tops[0], VALID, np.where(order <= self._tops[1], TEST, TRAIN))


class Cold:
    """Exactly round(share * items) items, by a hash of (seed, index)."""

    def __init__(self, items: int, share: float, seed: int) -> None:
        self._seed = seed ^ _COLD
        self._top = _smallest(items, round(items * share), self._seed)

    def of(self, items: Ints) -> npt.NDArray[np.bool_]:
        """(n,) whether each index is cold."""
        return _order(items, self._seed) <= self._top


def _order(indexes: Ints, seed: int) -> Ints:
    """Hashes as signed numbers above the smallest; mix permutes the 64-bit numbers, so no two indexes tie."""
    start = mix(np.array([seed % 2**63], np.uint64))[0]
    return mix(np.asarray(indexes).astype(np.uint64) ^ start).view(np.int64)


def _smallest(total: int, count: int, seed: int) -> int:
    """The hash of rank `count` among 1..total, or one below all of them for count 0."""
    if not count:
        return int(np.iinfo(np.int64).min)
    return int(np.partition(_order(np.arange(1, total + 1), seed), count - 1)[count - 1])


def samples(log: pa.Table, cutoff: Ints, split: npt.NDArray[np.str_], cold: npt.NDArray[np.bool_]) -> pa.Table:
    """Rows of the log at or after their user's cut-off; a training user's rows of cold items are left out.

    `cutoff`, `split`, `cold`: (rows,) those of each row's user and item.
    """
    keep = (log.column("position").to_numpy() >= cutoff) & ~(cold & (split == TRAIN))
    rows = log.select(["user", "position", "item", "label"]).append_column("split", pa.array(split, pa.string()))
    return rows.filter(pa.array(keep))


def of_each(values: pa.ChunkedArray, users: Ints, log_users: Ints) -> npt.NDArray[Any]:
    """A column of a table with one row per user (contiguous indexes), spread over the rows of their log."""
    first = int(users[0]) if len(users) else 1
    out: npt.NDArray[Any] = pc.take(values, pa.array(log_users - first)).to_numpy()
    return out
