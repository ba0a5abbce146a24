"""Caps in the stages: which ones a side gets, what tasks leave of their error, and what the manifest says of both.

Each task leaves a small JSON file in the stage's work folder; the driver adds them up before the manifest is written.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trawl.inputs import Inputs
from trawl.pool import Handle, Pool
from trawl.swing import sharing
from trawl.swing.adjacency import Adjacency, Side
from trawl.swing.cap_error import CapError, InMemory, Source, divided, limit_of, measured, sampled, warning, words
from trawl.swing.cap_plan import CapPlan, Settings, planned
from trawl.swing.degrees import Degrees
from trawl.swing.formula import Formula
from trawl.swing.graph import Floats, Ints
from trawl.swing.hubness import collapse
from trawl.swing.kernel import Partners, Swing
from trawl.swing.sharing import Parted, Prepared, Shuffle, Whole
from trawl.swing.shuffle import blocks_of, fetch

_TOLD = "told"  # folder
_COMMONEST = 64  # partners that a task names


@dataclass(frozen=True, kw_only=True)
class Given:
    """What mining tasks share. `full`: the graph without caps, where `mined` has some."""

    mined: Any  # handle of a Whole, or a Parted
    full: Any  # the same; or None
    plan: CapPlan
    anchors: int  # that have a feature
    pool: Pool
    factor: float = 1.0  # what scores that are not cosines are multiplied with: see Window.weights

    def open(self) -> Whole | Parted:
        """Raises EngineDied when what was shared is lost."""
        found: Whole | Parted = self.mined if isinstance(self.mined, Parted) else self.pool.get(self.mined)
        return found


def give(
    pool: Pool,
    both: Adjacency,
    side: Side,
    tasks: int,
    settings: Settings,
    *,
    keys: tuple[Handle, Handle] | None = None,
    shuffle: Shuffle = "auto",
    block_bytes: int = sharing.BLOCK_BYTES,
) -> tuple[Given, Prepared]:
    """One side's graph for all tasks, under the caps that its cost asks for. keys: as `sharing.prepare` has them."""
    other: Side = "item" if side == "user" else "user"
    seen = [pool.call(_histogram, both.count(s), *both.of(s)) for s in (side, other)]
    degrees, lengths = (pool.get(handle) for handle in seen)
    plan = planned(side, settings, degrees, lengths)
    caps = None if plan.exact else plan.caps
    prepared = sharing.prepare(pool, both, side, tasks, caps=caps, keys=keys, shuffle=shuffle, block_bytes=block_bytes)
    full = None
    if caps:
        full = sharing.prepare(pool, both, side, 1, shuffle=shuffle, block_bytes=block_bytes).value
    anchors = int(degrees.counts[degrees.lowest > 0].sum())
    return Given(mined=prepared.value, full=full, plan=plan, anchors=anchors, pool=pool), prepared


def _histogram(count: int, *segments: Any) -> Degrees:
    return Degrees.of(sharing.list_lengths(count, *segments))


class Fetched:
    """The whole graph where it stands in partitions; what a target touches of it is fetched."""

    def __init__(self, full: Parted, formula: Formula) -> None:
        self.full, self.formula = full, divided(formula)

    def cost(self, target: int) -> float:
        lengths: Ints = self.full.pool.get(self.full.lengths)
        features = fetch(self.full, self.full.rows, np.array([target])).entries
        return float(lengths[features].sum()) + float(len(features)) ** 2

    def blocks(self, targets: Ints) -> Iterator[tuple[Swing, Ints, Ints]]:
        for block in blocks_of(self.full, targets):
            yield Swing(block.graph, self.formula), block.anchors, block.targets

    def degrees(self, anchors: Ints) -> Ints:
        found: Ints = self.full.pool.get(self.full.degrees)
        return found[anchors]


def tell(
    inputs: Inputs, task: str, given: Given, targets: range, degrees: Ints, found: Partners, error: CapError
) -> None:
    """Leave what the manifest is to say of a task's targets. degrees (n,): features of each anchor."""
    best = found.partner[found.rank == 0]
    partners, counts = np.unique(best, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:_COMMONEST]
    mine = degrees[targets.start : targets.stop]
    text = {
        "plan": given.plan.as_dict(),
        "error": vars(error),
        "population": Degrees.of(mine[mine > 0]).as_dict(),
        "positives": Degrees.of(degrees[best]).as_dict(),
        "commonest": [partners[most].tolist(), counts[most].tolist()],
    }
    inputs.store.write_text(json.dumps(text), *inputs.work, _TOLD, f"{task}.json")


def error_of(
    given: Given, formula: Formula, targets: range, found: Partners, top_k: int, own: Floats | None
) -> CapError:
    """Of those of a task's targets that are in the sample."""
    if given.full is None:
        return CapError()
    some = sampled(given.plan, formula, np.arange(targets.start, targets.stop), given.anchors)
    if not len(some):
        return CapError()
    return measured(source_of(given, formula), formula, found, some, top_k, own=own, limit_steps=limit_of(given.plan))


_SOURCES: dict[tuple[Any, Formula], tuple[Any, InMemory]] = {}


def source_of(given: Given, formula: Formula) -> Source:
    """The graph without caps; one for each process, where a node holds it whole."""
    if isinstance(given.full, Parted):
        return Fetched(given.full, formula)
    key = (given.full.hex() if hasattr(given.full, "hex") else id(given.full), formula)
    if key not in _SOURCES:
        _SOURCES.clear()
        _SOURCES[key] = (given.full, InMemory(given.pool.get(given.full).graph, formula))
    return _SOURCES[key][1]


def told(inputs: Inputs, formula: Formula, interactions: str, top_k: int) -> dict[str, Any]:
    """For the manifest: the plan, the cap error, degrees, and a warning where positives are poor."""
    names = inputs.store.names(*inputs.work, _TOLD)
    found = [json.loads(inputs.store.read_text(*inputs.work, _TOLD, name)) for name in names]
    if not found:
        return {}
    degrees = {k: Degrees.merged([Degrees.from_dict(f[k]) for f in found]) for k in ("population", "positives")}
    out: dict[str, Any] = {
        "interactions": interactions,
        "caps": found[0]["plan"],
        "degrees": {name: some.as_dict() for name, some in degrees.items()},
    }
    warnings = [_collapsed(found, formula, interactions)]
    if found[0]["plan"]["cut_lists"] or found[0]["plan"]["cut_rows"]:
        out["cap_error"] = error = CapError.merged([CapError(**f["error"]) for f in found]).as_dict()
        out["cap_words"] = words(error, top_k)
        warnings.append(warning(error, top_k))
    return out | {"warnings": [line for line in warnings if line]}


def _collapsed(found: Sequence[dict[str, Any]], formula: Formula, interactions: str) -> str:
    """A warning by the commonest partners that tasks named, which serve at least so many; the page counts all."""
    named = [np.concatenate([np.empty(0, np.int64), *(f["commonest"][part] for f in found)]) for part in (0, 1)]
    distinct, place = np.unique(named[0], return_inverse=True)
    serves = np.sort(np.bincount(place, weights=named[1], minlength=len(distinct)))[::-1]
    served = sum(sum(f["positives"]["counts"]) for f in found)
    return collapse(served, float(serves[:10].sum()), interactions, formula.normalize)
