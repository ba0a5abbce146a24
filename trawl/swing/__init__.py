"""SWING on its own: interactions in, partners out; numpy, scipy, pyarrow and numba only.

import pyarrow as pa
from trawl.swing import mine

views = pa.table({"who": ["ann", "ann", "bob", "bob"], "what": ["x", "y", "x", "y"]})
mine(views, "who", "what", side="user", top_k=5)  # anchor, rank, partner, score, shared
"""

from trawl.swing.formula import Formula
from trawl.swing.front import Request, mine_file
from trawl.swing.graph import Bipartite, bipartite
from trawl.swing.hubness import Hubness, hubness
from trawl.swing.kernel import Partners, Swing
from trawl.swing.reading import Columns
from trawl.swing.sides import Caps
from trawl.swing.tables import Days, mine

__all__ = [
    "Bipartite",
    "Caps",
    "Columns",
    "Days",
    "Formula",
    "Hubness",
    "Partners",
    "Request",
    "Swing",
    "bipartite",
    "hubness",
    "mine",
    "mine_file",
]
