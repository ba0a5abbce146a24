"""SWING on its own: interactions in, partners out; numpy, scipy and pyarrow only.

import pyarrow as pa
from trawl.swing import mine

views = pa.table({"who": ["ann", "ann", "bob", "bob"], "what": ["x", "y", "x", "y"]})
mine(views, "who", "what", side="user", top_k=5)  # anchor, rank, partner, score, shared
"""

from trawl.swing.hubness import Hubness, hubness
from trawl.swing.kernel import Partners, Swing, swing_topk
from trawl.swing.tables import mine

__all__ = ["Hubness", "Partners", "Swing", "hubness", "mine", "swing_topk"]
