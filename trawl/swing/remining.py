"""Partners of a day's graph from an earlier day's: what cannot have changed is copied, the rest is mined.

The result is that of a full run, always: ids to the letter, scores to 1e-12 (they are copied to the last bit where no
weights decay). See `touched` for what counts as changed. Where more than half of the anchors is touched, or the earlier
result is no help, everything is mined, and the reason is told.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trawl.errors import InputError
from trawl.swing.days import Window
from trawl.swing.earlier import SCHEMA, Earlier
from trawl.swing.formula import Formula
from trawl.swing.graph import Floats, Ints
from trawl.swing.ranking import rounded
from trawl.swing.sides import SideGraph
from trawl.swing.touched import Flags, reached, touched

MOST = 0.5  # share of the anchors touched above which all are mined


@dataclass(frozen=True)
class Copied:
    """What an earlier result is good for."""

    touched: Flags  # (n,) anchors to mine
    rows: pa.Table | None  # of all others, as columns of numbers in the new graph; None: mine all
    why: str  # a line when all are mined

    @property
    def share(self) -> float:
        """Of the anchors that are touched."""
        return float(self.touched.mean()) if len(self.touched) else 0.0
