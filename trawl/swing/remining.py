"""Partners of a day's graph from an earlier day's: what cannot have changed is copied, the rest is mined.

The result is that of a full run, always: ids to the letter, scores to 1e-12. See `touched` for what counts as changed.
Where more than half of the anchors is touched, or the earlier result is no help, everything is mined and the reason is
told.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trawl.errors import InputError
from trawl.swing.days import Window
from trawl.swing.earlier import Earlier
from trawl.swing.formula import Formula
from trawl.swing.graph import Ints
from trawl.swing.kernel import Partners
from trawl.swing.ranking import rounded
from trawl.swing.reading import Interactions
from trawl.swing.sides import Caps, Side, SideGraph, side_graph
from trawl.swing.touched import Flags, touched

MOST = 0.5  # share of the anchors touched above which all are mined


@dataclass(frozen=True)
class Again:
    """What an earlier result is good for. `why`: a line when everything is mined."""

    touched: Flags | None = None  # (n,) anchors to mine; None: nothing could be compared
    kept: Partners | None = None  # of all others, by numbers of the new graph; None: mine all
    why: str = ""

    @property
    def share(self) -> float | None:
        """Of the anchors that are touched."""
        return None if self.touched is None else _share(self.touched)

    def of(self, anchors: range) -> Partners | None:
        """The copied rows of a range of anchors."""
        if self.kept is None:
            return None
        rows = slice(*np.searchsorted(self.kept.anchor, [anchors.start, anchors.stop]).tolist())
        return Partners(**{name: values[rows] for name, values in vars(self.kept).items()})


def again(
    earlier: Earlier,
    found: Interactions,
    side: Side,
    new: SideGraph,
    window: Window,
    formula: Formula,
    caps: Caps | None = None,
) -> Again:
    """Compare the graph of an earlier result, made again from the interactions, with today's."""
    old = side_graph(found, side, earlier.window, caps)
    if old.digest() != earlier.graph:
        return Again(why=f"{earlier.path}: the interactions of its window are not those that it was made of")
    if (old.anchors.by_number, old.features.by_number) != (new.anchors.by_number, new.features.by_number):
        return Again(why=f"{earlier.path}: its ids were ordered otherwise (as numbers when all are whole numbers)")
    known = (len(found.user_ids), len(found.item_ids))
    anchors = old.anchors.places(known[side == "item"])[new.anchors.known]
    features = old.features.places(known[side == "user"])[new.features.known]
    flags = touched(old, new, anchors, features, formula, scale=2.0 ** (earlier.window.shift - window.shift))
    if _share(flags) > MOST:
        return Again(flags, why=f"{_share(flags):.0%} of the anchors are touched")
    try:
        rows = earlier.rows()
    except (InputError, pa.ArrowException, OSError) as error:
        return Again(flags, why=str(error).splitlines()[0])
    was, becomes = old.factor, new.factor * 2.0 ** (4 * (earlier.window.shift - window.shift))
    kept = _kept(rows, new, ~flags, *((1.0, 1.0) if formula.normalize == "cosine" else (was, becomes)))
    return Again(flags, kept) if kept else Again(flags, why=f"{earlier.path}: names ids that are not there")


def _share(flags: Flags) -> float:
    return float(flags.mean()) if len(flags) else 0.0


def _kept(rows: pa.Table, new: SideGraph, wanted: Flags, was: float, becomes: float) -> Partners | None:
    """The rows of wanted anchors by their numbers, scores of the factor `was` multiplied to that of `becomes`."""
    anchor = _numbers(rows["anchor"], new.anchors.text)
    mine = (anchor >= 0) & wanted[anchor]
    rows, anchor = rows.filter(pa.array(mine)), anchor[mine]
    partner = _numbers(rows["partner"], new.anchors.text)
    if (partner < 0).any():
        return None
    score = rows["score"].to_numpy()
    if (was, becomes) != (1.0, 1.0):
        # Rounding gives back what the kernel found, to the bit, so that copying again and again loses nothing.
        score = rounded(score / was) * becomes
    rank = rows["rank"].to_numpy()
    order = np.lexsort((rank, anchor))
    found = (anchor[order], rank[order], partner[order], score[order], rows["shared"].to_numpy()[order])
    return Partners(*found)


def _numbers(ids: pa.ChunkedArray, known: pa.Array) -> Ints:
    out: Ints = pc.fill_null(pc.index_in(ids, value_set=known), -1).to_numpy().astype(np.int64)
    return out
