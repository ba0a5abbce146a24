"""How the gates of mixtures share out their load: whether the experts are used at all."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trawl.model import uses
from trawl.model.adapters import HybridExperts, MixtureOfExperts, gates
from trawl.model.recommender import Recommender, Side
from trawl.model.world import Entities, Stacked, World

Ids = npt.NDArray[np.int64]
Gate = MixtureOfExperts | HybridExperts
_ROWS = 65536  # most entities of a side that are looked at
_BLOCK = 1 << 22  # samples counted at a time
COLLAPSED = 0.9  # share of the load from which on one expert does the work of all


class Loads:
    """The gates of a model, looked at over what an epoch's samples read."""

    def __init__(self, model: Recommender, world: World, read: Mapping[uses.Side, Ids]) -> None:
        """`read`: the user and the item of each training sample."""
        self.seen: list[tuple[list[str], Entities, list[Gate | None], Tensor, Tensor]] = []
        for side, own, entities in _sides(model, world):
            found = gates(own.adapter) if own.adapter is not None and entities.vectors is not None else []
            if any(found):
                times = _counted(read[side], entities.count)
                ids = np.flatnonzero(times)
                ids = ids[:: max(1, -(-len(ids) // _ROWS))]
                names = [side if len(found) == 1 else f"{side}.{source}" for source in own.sources]
                self.seen.append((names, entities, found, torch.from_numpy(ids), torch.from_numpy(times[ids])))

    def __call__(self) -> dict[str, dict[str, Any]]:
        """side, or side.matrix with several sources -> share, entropy, perplexity, decided, collapsed; now.

        share       of each expert, the mean over the epoch's readings with vectors, by the gates as they are now
        entropy     of these shares in nats; perplexity, its exponential: the experts that the load amounts to
        decided     the mean over readings of the largest share
        collapsed   whether one expert has COLLAPSED of the load or more
        """
        out: dict[str, dict[str, Any]] = {}
        for names, entities, found, *seen in self.seen:
            assert entities.text is not None
            ids, times = (part.to(entities.text.device) for part in seen)
            for place, gate in enumerate(found):
                if gate is not None:
                    out[names[place]] = _load(
                        gate, _vectors(entities, ids, place), _there(entities, ids, place) * times
                    )
        return out


def _counted(read: Ids, count: int) -> Ids:
    """(count,) how often each entity was read, a block of the samples at a time."""
    out = np.zeros(count, dtype=np.int64)
    for start in range(0, len(read), _BLOCK):
        out += np.bincount(read[start : start + _BLOCK], minlength=count)
    return out


def _sides(model: Recommender, world: World) -> tuple[tuple[uses.Side, Side, Entities], ...]:
    return ("user", model.user, world.users), ("item", model.item, world.items)


def _vectors(entities: Entities, ids: Tensor, place: int) -> Tensor:
    frozen = entities.vectors
    assert frozen is not None
    return (frozen.parts[place] if isinstance(frozen, Stacked) else frozen).rows(ids)


def _there(entities: Entities, ids: Tensor, place: int) -> Tensor:
    assert entities.text is not None
    text = entities.text[ids]
    return text if text.dim() == 1 else text[:, place]


def _load(gate: Gate, vectors: Tensor, weight: Tensor) -> dict[str, Any]:
    with torch.inference_mode():
        share = gate.load(vectors).double()
    weight = weight.double() / max(1.0, float(weight.sum()))
    mean = (share * weight.unsqueeze(1)).sum(dim=0).cpu().numpy()
    positive = mean[mean > 0]
    entropy = float(-(positive * np.log(positive)).sum())
    return {
        "share": [round(float(s), 4) for s in mean],
        "entropy": round(entropy, 4),
        "perplexity": round(math.exp(entropy), 3),
        "decided": round(float((share.amax(dim=1) * weight).sum()), 4),
        "collapsed": bool(len(mean) > 1 and mean.max() >= COLLAPSED),
    }
