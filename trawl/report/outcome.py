"""Numbers of training and of the experiment: results by arm, differences with intervals, curves, stages."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trawl.report.record import Record, Variant

METRICS = ("auc", "gauc", "logloss")
LOSSES = ("loss", "rec", "uu", "ii")


@dataclass(frozen=True)
class ArmRow:
    """Means of one arm over its repetitions. `test` and `slices` hold a mean by metric, None where there is none."""

    arm: str
    knowledge: str
    injection: str
    contrastive: bool
    repetitions: int
    epochs: float | None
    seconds: float | None
    validation: Mapping[str, float | None]
    test: Mapping[str, float | None]
    slices: Mapping[str, Mapping[str, float | None]]  # warm, cold
    differences: Mapping[str, Mapping[str, Any]]  # slice -> the comparison of AUC with the reference


@dataclass(frozen=True)
class Results:
    """All arms in the order of the recipe, and which one validation prefers."""

    rows: tuple[ArmRow, ...]
    reference: str
    best: ArmRow
    sliced: bool  # warm and cold items are told apart


@dataclass(frozen=True)
class Curve:
    """One model's course: values by epoch of each loss part and of the validation AUC."""

    arm: str
    repetition: int
    best_epoch: int | None
    rows: tuple[Mapping[str, float | None], ...]  # epoch, loss, rec, uu, ii, auc
    gates: tuple[str, ...] = ()  # how the experts or sources of each gate share the load at the best epoch, a line each
    facts: str = ""  # what the positives by shared facts were drawn from


@dataclass(frozen=True)
class StageRow:
    """One artifact of the run, made or still to be made."""

    artifact: str
    fingerprint: str
    whose: str
    state: str  # made, there before, or not made
    rows: int
    parts: int
    bytes: int
    seconds: float
    peak_mib: float
    statuses: Mapping[str, int]


def results(record: Record) -> Results | None:
    """None when no cell is finished."""
    if not record.results:
        return None
    finished = {row["arm"] for row in record.results}
    compared = [c["reference"] for c in record.comparisons]
    reference = record.recipe["experiment"]["reference"] or record.arms[0]
    rows = tuple(_arm(record, arm) for arm in record.arms if arm in finished)
    best = max(rows, key=lambda r: r.validation["auc"] or 0.0)
    sliced = any(v is not None for r in rows for part in r.slices.values() for v in part.values())
    return Results(rows, compared[0] if compared else reference, best, sliced)


def _arm(record: Record, arm: str) -> ArmRow:
    mine = [row for row in record.results if row["arm"] == arm]
    found = {c["slice"]: c for c in record.comparisons if c["arm"] == arm and c["metric"] == "auc"}
    return ArmRow(
        arm=arm,
        knowledge=str(mine[0]["knowledge"]),
        injection=str(mine[0]["injection"]),
        contrastive=bool(mine[0]["contrastive"]),
        repetitions=len(mine),
        epochs=_mean([row.get("epochs") for row in mine]),
        seconds=_mean([row.get("seconds") for row in mine]),
        validation=_means([row["validation"] for row in mine]),
        test=_means([row["test"] for row in mine]),
        slices={part: _means([row["test"].get(part) for row in mine]) for part in ("warm", "cold")},
        differences=found,
    )


def _means(metrics: Sequence[Mapping[str, Any] | None]) -> dict[str, float | None]:
    return {name: _mean([(m or {}).get(name) for m in metrics]) for name in METRICS}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def curves(record: Record) -> list[Curve]:
    """One per distinct model, in the order of the cells; an arm that shares another's model is named by that one."""
    return [c for v in record.all if v.artifact == "model" and (c := _curve(record, v))]


def _curve(record: Record, variant: Variant) -> Curve | None:
    where = (variant.artifact, variant.fingerprint, "metrics.json")
    if not record.store.exists(*where):
        return None
    found = json.loads(record.store.read_text(*where))
    arm, _, repetition = variant.cells[0].rpartition("/")
    rows = tuple(
        {name: epoch.get(name) for name in ("epoch", *LOSSES)} | {"auc": (epoch.get("validation") or {}).get("auc")}
        for epoch in found.get("epochs") or []
    )
    best = found.get("best_epoch")
    loads: Mapping[str, Any] = next(
        (e["gates"] for e in found.get("epochs") or [] if e.get("epoch") == best and "gates" in e), {}
    )
    gates = tuple(_gate(name, load) for name, load in loads.items())
    facts = _facts(found["facts"]) if found.get("facts") else ""
    return Curve(arm=arm, repetition=int(repetition), best_epoch=best, rows=rows, gates=gates, facts=facts)


def _facts(told: Mapping[str, Any]) -> str:
    """What the pairs by shared facts are of, and what the cap took away."""
    text = f"{', '.join(told['relations'])}: {told['values']:,} values that {told['entities']:,} items share"
    if told["left_out"]:
        text += f"; {told['left_out']:,} values left out, which more than {told['cap']:,} items have"
    return text if told["values"] else f"{text}: no pair was drawn"


def _gate(name: str, load: Mapping[str, Any]) -> str:
    """A gate's load in words; one that sends everything to a single expert, or source, is named."""
    sources = load.get("sources")
    names = [f"{source} " for source in sources] if sources else [""] * len(load["share"])
    shares = ", ".join(f"{name}{share:.0%}" for name, share in zip(names, load["share"], strict=True))
    used = f"{load['perplexity']:.1f} of {len(load['share'])} {'sources' if sources else 'experts'}"
    largest = load["share"].index(max(load["share"]))
    which = sources[largest] if sources else f"expert {largest + 1}"
    collapsed = f"; collapsed: {which} does the work of all"
    return f"{name}: {shares} (as much as {used}){collapsed if load['collapsed'] else ''}"


def stages(record: Record) -> list[StageRow]:
    """Every artifact of every cell once, in the order of the pipeline, with what making it took."""
    made = {(e["artifact"], e["fingerprint"]) for e in record.log if e.get("event") == "stage" and not e["skipped"]}
    published = {(v.artifact, v.fingerprint): v for v in record.all}
    order = {artifact: number for number, artifact in enumerate(record.run["artifacts"])}
    users: dict[tuple[str, str], list[str]] = {}
    for cell in record.cells:
        for key in cell["artifacts"].items():
            users.setdefault(key, []).append(f"{cell['arm']}/{cell['repetition']}")
    keys = sorted(users, key=lambda key: order.get(key[0], len(order)))
    return [_stage(key, published.get(key), key in made, users[key], record) for key in keys]


def _stage(key: tuple[str, str], variant: Variant | None, made: bool, cells: list[str], record: Record) -> StageRow:
    everyone = len(cells) == len(record.cells)
    manifest = variant.manifest if variant else None
    state = "not made"
    if manifest:
        state = "made" if made else "there before"
    return StageRow(
        artifact=key[0],
        fingerprint=key[1],
        whose="all" if everyone else ", ".join(cells),
        state=state,
        rows=manifest.rows if manifest else 0,
        parts=len(manifest.parts) if manifest else 0,
        bytes=sum(p.bytes for p in manifest.parts) if manifest else 0,
        seconds=manifest.seconds if manifest else 0.0,
        peak_mib=manifest.peak_mib if manifest else 0.0,
        statuses=dict(manifest.statuses) if manifest else {},
    )


def libraries(record: Record) -> dict[str, str]:
    """Versions by which the artifacts were made; several, joined, where they differ."""
    found: dict[str, set[str]] = {}
    for variant in record.all:
        for name, version in variant.manifest.libraries.items():
            found.setdefault(name, set()).add(version)
    return {name: ", ".join(sorted(versions)) for name, versions in sorted(found.items())}
