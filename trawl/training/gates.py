"""How gates share out their load: whether the experts of a mixture, and the sources of a side, are used at all."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trawl import uses
from trawl.model.adapters import Adapter, Adapters, Prestored, gates, source_gate
from trawl.model.recommender import Recommender, Side
from trawl.model.world import Entities, Stacked, World

Ids = npt.NDArray[np.int64]
_ROWS = 65536  # most entities of a side that are looked at
_BLOCK = 1 << 22  # samples counted at a time
COLLAPSED = 0.9  # share of the load from which on one expert does the work of all


@dataclass(frozen=True)
class _Read:
    """A side whose adapter has a gate, and what an epoch reads of it."""

    side: uses.Side
    sources: tuple[str, ...]
    adapter: Adapter | Adapters | Prestored
    entities: Entities
    ids: Tensor  # (N,)
    times: Tensor  # (N,) how often each was read


class Loads:
    """The gates of a model, looked at over what an epoch's samples read."""

    def __init__(self, model: Recommender, world: World, read: Mapping[uses.Side, Ids]) -> None:
        """`read`: the user and the item of each training sample."""
        self.seen: list[_Read] = []
        for side, own, entities in _sides(model, world):
            if own.adapter is None or entities.vectors is None:
                continue
            if any(gates(own.adapter)) or source_gate(own.adapter):
                times = _counted(read[side], entities.count)
                ids = np.flatnonzero(times)
                ids = ids[:: max(1, -(-len(ids) // _ROWS))]
                drawn = (torch.from_numpy(ids), torch.from_numpy(times[ids]))
                self.seen.append(_Read(side, tuple(own.sources), own.adapter, entities, *drawn))

    def __call__(self) -> dict[str, dict[str, Any]]:
        """Now. A side's mixture is named by the side, by side.matrix with several sources, the gate over these sources
        side.sources.

        share       of each expert or source, the mean over the epoch's readings with vectors, by the gate as it is now
        entropy     of these shares in nats; perplexity, its exponential: the experts that the load amounts to
        decided     the mean over readings of the largest share
        collapsed   whether one expert has COLLAPSED of the load or more
        sources     of side.sources: the matrices, in the order of their shares
        """
        with torch.inference_mode():
            return {name: load for seen in self.seen for name, load in _loads(seen)}


def _loads(seen: _Read) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, load) of each gate of a side."""
    entities = seen.entities
    assert entities.text is not None and entities.vectors is not None
    ids, times = (part.to(entities.text.device) for part in (seen.ids, seen.times))
    found = gates(seen.adapter)
    for place, gate in enumerate(found):
        if gate is not None:
            name = seen.side if len(found) == 1 else f"{seen.side}.{seen.sources[place]}"
            yield name, _load(gate.load(_vectors(entities, ids, place)), _there(entities, ids, place) * times)
    if between := source_gate(seen.adapter):
        text = entities.text[ids]
        load = _load(between.load(entities.vectors.rows(ids), text), text.any(dim=1) * times)
        yield f"{seen.side}.sources", load | {"sources": list(seen.sources)}


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


def _load(share: Tensor, weight: Tensor) -> dict[str, Any]:
    """Of (N, n) shares, weighted by (N,)."""
    share, weight = share.double(), weight.double() / max(1.0, float(weight.sum()))
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
