"""Which SWING: the paper's double sum and the variants that are in use, one switch each.

With F_u the features of anchor u, L_i the anchors of feature i, w the node weights and x the edge weights (all 1
unless a decayed graph gives others),

    s(u, v) = sum over i, j in F_u ∩ F_v of  x_ui x_uj x_vi x_vj w_i w_j / (alpha + |L_i ∩ L_j|)

- `diagonal`: i = j is summed as well, as T eq. 1 prints it; without, only pairs of two features count.
- `alpha`: smoothing, 1 in K. 0 is allowed: a pair of features of u has at least u itself in common.
- `node_weight`, of a feature with n anchors in its list: none: 1; sqrt: n^-1/2 (LibRecommender, recfarm, which sum each
  pair once and write alpha - 1 for our alpha); power: (node_a + n)^-node_b (Flink ML: 15, .3; Alink: 5, -.35).
- `inverted`: 1 / sum of (alpha + |L_i ∩ L_j|), as K eqs. 1 and 2 print it: ranks the least similar first, for study.
- `normalize`: what a score is divided by.
  none    nothing, the printed formula.
  cosine  sqrt(s(u, u) s(v, v)).
  degree  |F_u| |F_v|, which needs no self scores.

Why cosine is the default: by the printed formula the most active anchors are everybody's best partner. On
MovieLens-1M, all ratings, 188 of 6,040 users are ever a positive, ten of them serve 84 % of the anchors, and in a batch
of 256 some 56 other anchors share an anchor's positive, which a contrastive loss then takes for negatives. With cosine
there are 2,716 positives and .15 such collisions. Dividing by the product of the degrees comes near (2,399 and .5;
items: cosine 1,904 positives, degree 1,900) and saves the pass over all anchors that cosine needs; the root of that
product does not (1,072, and one user serves 17 % of the anchors).
"""

from dataclasses import dataclass
from math import isfinite
from typing import Literal, get_args

from trawl.errors import ConfigError

Normalize = Literal["none", "cosine", "degree"]
NodeWeight = Literal["none", "sqrt", "power"]


@dataclass(frozen=True, kw_only=True)
class Formula:
    """The switches above; the same names as in the recipe's section `swing`. Raises ConfigError."""

    alpha: float = 1.0
    diagonal: bool = True
    node_weight: NodeWeight = "none"
    node_a: float = 15.0  # power
    node_b: float = 0.3  # power
    inverted: bool = False
    normalize: Normalize = "cosine"

    def __post_init__(self) -> None:
        if not (self.alpha >= 0 and isfinite(self.alpha)):
            raise ConfigError(f"swing.alpha = {self.alpha}: must be a number, 0 or above")
        if self.normalize not in get_args(Normalize):
            raise ConfigError(f"swing.normalize = {self.normalize!r}: choose none, cosine or degree")
        if self.node_weight not in get_args(NodeWeight):
            raise ConfigError(f"swing.node_weight = {self.node_weight!r}: choose none, sqrt or power")
        if not (self.node_a >= 0 and isfinite(self.node_a) and isfinite(self.node_b)):
            raise ConfigError(f"swing.node_a = {self.node_a}, swing.node_b = {self.node_b}: node_a must be 0 or above")
        if self.inverted and (self.normalize != "none" or self.node_weight != "none"):
            raise ConfigError("swing.inverted = true: only with swing.normalize = none and swing.node_weight = none")
