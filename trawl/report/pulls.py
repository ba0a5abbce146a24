"""How hard each part of the joint loss pulled, and what of its scales was learned, by epoch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from trawl.report.record import Record, Variant

PARTS = {"rec": "recommendation", "uu": "users", "ii": "items", "auxiliary": "backbone's own"}
LEARNED = {"temperature": "temperature", "w_user": "weight of users", "w_item": "weight of items"}


@dataclass(frozen=True)
class Pull:
    """One epoch of a model."""

    arm: str
    repetition: int
    epoch: int
    best: bool
    norms: Mapping[str, tuple[float, float]]  # part -> of its weighted gradient, on the adapters and on all
    learned: Mapping[str, float]


def pulls(record: Record) -> list[Pull]:
    """Of models with more than one part, in the order of the cells."""
    return [pull for v in record.all if v.artifact == "model" for pull in _epochs(record, v)]


def _epochs(record: Record, variant: Variant) -> list[Pull]:
    where = (variant.artifact, variant.fingerprint, "metrics.json")
    if not record.store.exists(*where):
        return []
    found = json.loads(record.store.read_text(*where))
    arm, _, repetition = variant.cells[0].rpartition("/")
    out = []
    for epoch in found.get("epochs") or []:
        norms = {part: (n["adapter"], n["all"]) for part, n in (epoch.get("norms") or {}).items() if part in PARTS}
        learned = {name: epoch[name] for name in LEARNED if name in epoch}
        if len(norms) > 1 or learned:
            best = epoch["epoch"] == found.get("best_epoch")
            out.append(Pull(arm, int(repetition), int(epoch["epoch"]), best, norms, learned))
    return out
