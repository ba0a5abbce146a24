"""The joint loss L = L_rec + w_user L_uu + w_item L_ii (T eq. 3; K eq. 4 is the case of equal weights).

A backbone may add a loss of its own, as DIEN its auxiliary one; it comes weighted.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from trawl import uses
from trawl.config import Config
from trawl.model.contrastive import info_nce, info_nce_drawn
from trawl.model.recommender import Output
from trawl.model.scales import Scales
from trawl.model.world import Batch, Pairs
from trawl.training.gather import Gather
from trawl.training.group import Alone

PARTS = ("rec", "uu", "ii", "auxiliary")  # the last one is the backbone's own, and comes weighted
_SIDES: dict[str, uses.Side] = {"uu": "user", "ii": "item"}


@dataclass(frozen=True)
class Parts:
    """Scalars; `plain` before their weights and without a gradient, `weighted` as they are summed."""

    plain: dict[str, Tensor]
    weighted: dict[str, Tensor]  # those that count; the same ones in every batch and worker

    @property
    def total(self) -> Tensor:
        rec, *rest = self.weighted.values()
        return sum(rest, start=rec)

    def numbers(self) -> Iterator[float]:
        """The whole, then each of PARTS."""
        yield float(self.total.detach())
        yield from (float(self.plain[name]) for name in PARTS)


class JointLoss:
    """With a mean reduction w scales the loss of an anchor, with a sum that of a step's anchors together."""

    def __init__(self, cfg: Config, scales: Scales | None = None, gather: Gather | None = None) -> None:
        """`scales`: the model's; by default the recipe's numbers. `gather`: of the workers that share the anchors."""
        self.cfg, self.scales, self.gather = cfg.training, scales or Scales(cfg), gather or Gather(Alone())
        self.sides = {part: side for part, side in _SIDES.items() if uses.weight(cfg, side)}

    def __call__(self, output: Output, batch: Batch, rows: float) -> Parts:
        """`rows`: samples of the global batch per worker, so that the workers' mean is the global batch's."""
        rec = functional.binary_cross_entropy_with_logits(output.logit, batch.label, reduction="sum") / rows
        losses = {
            "rec": rec,
            "uu": self._side(output.users, batch.users, output.logit),
            "ii": self._side(output.items, batch.items, output.logit),
            "auxiliary": rec.new_zeros(()) if output.auxiliary is None else output.auxiliary.sum() / rows,
        }
        weighted = {"rec": rec} | {part: self.scales.weighted(s, losses[part]) for part, s in self.sides.items()}
        weighted["auxiliary"] = losses["auxiliary"]  # 0 where there is none: an own backbone's may come and go
        return Parts({name: loss.detach() for name, loss in losses.items()}, weighted)

    def _side(self, vectors: tuple[Tensor, ...] | None, pairs: Pairs | None, like: Tensor) -> Tensor:
        if vectors is None or pairs is None:
            return like.new_zeros(())
        if pairs.negative is not None:
            return self._drawn(vectors, pairs, pairs.negative)
        whole = pairs.whole or pairs
        if pairs.whole is not None:
            vectors = tuple(self.gather(v, len(whole.anchor)) for v in vectors)
        ids = (whole.anchor, whole.positive)
        return info_nce(
            (vectors[0], vectors[1]), *ids, self.scales.temperature, self.cfg.reduction, known_AA=whole.known
        )

    def _drawn(self, vectors: tuple[Tensor, ...], pairs: Pairs, negative: Tensor) -> Tensor:
        """Anchors do not meet here, so each worker sums its own; their mean is the whole's."""
        three = (vectors[0], vectors[1], vectors[2])
        total = info_nce_drawn(three, pairs.positive, negative, self.scales.temperature, "sum")
        workers = 1 if pairs.whole is None else self.gather.size
        count = 1 if self.cfg.reduction == "sum" else max(1, len((pairs.whole or pairs).anchor))
        return total * workers / count
