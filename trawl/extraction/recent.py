"""The last k items of each user before the cut-off (T 3.2.2): the only look that prompts take at behaviour."""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def last_before_cutoff(
    user: Ints, position: Ints, item: Ints, owners: Ints, cutoffs: Ints, most: int
) -> tuple[Ints, Ints, Ints]:
    """Of a log (one row per event) the items at positions cutoff - most .. cutoff - 1 of each user.

    owners, cutoffs: the users of the part and their cut-offs. Returns (users that have any, start, items): the items of
    users[n] are items[start[n] : start[n + 1]], oldest first. Rows may come in any order; later positions are not read.
    """
    order = np.argsort(owners, kind="stable")
    where = np.searchsorted(owners[order], user)
    cut = cutoffs[order][np.minimum(where, len(owners) - 1)] if len(owners) else np.zeros_like(user)
    kept = (position < cut) & (position >= cut - most)
    user, position, item = user[kept], position[kept], item[kept]
    in_order = np.lexsort((position, user))
    users, counts = np.unique(user, return_counts=True)
    return users, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), item[in_order]
