"""What a person asks of finished or running work: status, why two runs differ, rows of a table, what can go."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from trawl import schemas
from trawl.config import flat
from trawl.errors import ArtifactError, AskedWrongly
from trawl.extraction.cache import HELD, AnswerCache
from trawl.inputs import Inputs
from trawl.runs import Run
from trawl.store import INDEX, Manifest, Store

_SCRAP_SECONDS = 86400.0
_OF_ITEMS = ("facts", "fact_embeddings")  # whose entities are items
_GROUNDED = 2  # contract version of the answers that have the columns of grounding


def _raw_columns(artifact: str) -> list[tuple[str, str, str]]:
    """Columns that hold an index: (column, its kind, name of the column of raw ids)."""
    columns = [("user", "user", "user_id"), ("item", "item", "item_id")]
    for kind in ("user", "item"):
        if artifact.startswith(f"{kind}_") or (kind == "item" and artifact in _OF_ITEMS):
            columns += [("neighbour", kind, "neighbour_id")]
            columns += [("entity", kind, f"{kind}_id"), ("anchor", kind, "anchor_id"), ("partner", kind, "partner_id")]
    return columns


def status(run: Run) -> dict[str, Any]:
    """State of the run and of each of its artifacts, over all cells."""
    record = run.read("run.json")
    seen: dict[tuple[str, str], dict[str, Any]] = {}
    for cell in record["cells"]:
        for artifact, mark in cell["artifacts"].items():
            row = seen.setdefault((artifact, mark), _artifact_status(run.store, artifact, mark))
            row["cells"].append(f"{cell['arm']}/{cell['repetition']}")
    done = len(run.results())
    return {
        "name": record["name"],
        "state": record["state"],
        "created": record["created"],
        "cells": {"finished": done, "all": len(record["cells"])},
        "artifacts": list(seen.values()),
    }


def _artifact_status(store: Store, artifact: str, mark: str) -> dict[str, Any]:
    row: dict[str, Any] = {"artifact": artifact, "fingerprint": mark, "state": "missing", "cells": []}
    manifest = store.manifest(artifact, mark)
    if manifest:
        return row | {
            "state": "published",
            "rows": manifest.rows,
            "seconds": manifest.seconds,
            "peak_mib": manifest.peak_mib,
            "statuses": dict(manifest.statuses),
        }
    if store.exists(artifact, mark):
        ready = [n for n in store.names(artifact, mark, "_parts") if n.endswith(".json")]
        return row | {"state": "begun", "parts": len(ready)}
    return row


def why(first: Run, second: Run) -> list[dict[str, Any]]:
    """What made the artifacts of two runs differ: config keys, raw inputs, versions - the causes, not what follows.

    One row per cause: artifact, kind (config, source, version, contract, stages), key, first, second.
    """
    records = first.read("run.json"), second.read("run.json")
    rows: list[dict[str, Any]] = []
    alone: tuple[dict[str, None], dict[str, None]] = {}, {}  # tables that only one of the two has
    for artifact, one, two in _pairs(*records):
        if one is None or two is None:
            alone[one is None][artifact] = None
        elif one != two:
            rows += _causes(artifact, first.store.manifest(artifact, one), second.store.manifest(artifact, two))
    unmade = [row for row in rows if row["kind"] == "stages"]
    if unmade or any(alone):  # what is not made has no manifest that could tell: the recipes do
        rows = [row for row in rows if row["kind"] != "stages"] + _recipe_causes(*records, {r["key"] for r in rows})
        rows += unmade if not rows else []
    for run, tables in zip((first, second), alone, strict=True):
        rows += [_cause("tables", "stages", f"only in {run.name}", list(tables), None)] if tables else []
    unique = {json.dumps(row, sort_keys=True, default=str): row for row in rows}
    return list(unique.values())


def _recipe_causes(one: Mapping[str, Any], two: Mapping[str, Any], known: set[str]) -> list[dict[str, Any]]:
    """Keys in which two recipes differ, but those that are known as causes and those that change no table."""
    mine, theirs = flat(one["recipe"]), flat(two["recipe"])
    keys = [k for k in sorted(mine.keys() | theirs.keys()) if mine.get(k) != theirs.get(k) and k not in known]
    keys = [k for k in keys if k != "name" and not k.startswith(("resources.", "search."))]
    return [_cause("recipe", "config", key, mine.get(key), theirs.get(key)) for key in keys]


def _pairs(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[tuple[str, str | None, str | None]]:
    """Artifacts side by side: by cell where both runs have the same cells, else by the first that each has."""
    cells = [{(c["arm"], c["repetition"]): c["artifacts"] for c in record["cells"]} for record in (one, two)]
    shared = [key for key in cells[0] if key in cells[1]]
    if shared:
        sides = [(cells[0][key], cells[1][key]) for key in shared]
    else:
        sides = [tuple({a: v["fingerprint"] for a, v in r["artifacts"].items()} for r in (one, two))]  # type: ignore[list-item]
    out = {(a, x.get(a), y.get(a)): None for x, y in sides for a in dict.fromkeys([*x, *y])}
    return list(out)


def _causes(artifact: str, one: Manifest | None, two: Manifest | None) -> Iterator[dict[str, Any]]:
    if one is None or two is None:
        yield _cause(
            artifact, "stages", artifact, "published" if one else "not made yet", "published" if two else "not made yet"
        )
        return
    for kind, a, b in (
        ("config", one.config, two.config),
        ("source", one.sources, two.sources),
        ("model", one.models, two.models),
    ):
        for key in sorted(a.keys() | b.keys()):
            for dotted, x, y in _differences(key, a.get(key), b.get(key)):
                yield _cause(artifact, kind, dotted, x, y)
    for kind in ("version", "contract"):
        if getattr(one, kind) != getattr(two, kind):
            yield _cause(artifact, kind, kind, getattr(one, kind), getattr(two, kind))


def _differences(key: str, one: Any, two: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(one, dict) and isinstance(two, dict):
        for name in sorted(one.keys() | two.keys()):
            yield from _differences(f"{key}.{name}", one.get(name), two.get(name))
    elif one != two:
        yield key, one, two


def _cause(artifact: str, kind: str, key: str, one: Any, two: Any) -> dict[str, Any]:
    return {"artifact": artifact, "kind": kind, "key": key, "first": one, "second": two}


def show(run: Run, artifact: str, limit: int, arm: str = "", repetition: int = 0) -> Iterator[dict[str, Any]]:
    """Rows of any table of a run, raw ids beside indexes (`user_id`, `item_id`). Raises AskedWrongly, ArtifactError."""
    inputs = _opened(run, artifact, arm, repetition)
    left = limit
    for number in range(len(inputs.parts(artifact))):
        if left <= 0:
            return
        rows = inputs.part(artifact, number).slice(0, left)
        left -= rows.num_rows
        yield from _with_raw_ids(inputs, artifact, rows).to_pylist(maps_as_pydicts="lossy")


def grounding(run: Run, artifact: str, arm: str = "", repetition: int = 0) -> dict[str, Any]:
    """Of a table of answers: how many name something, the mean share that stands in the sources, how many have more.

    Empty for other tables and for answers that were not looked at.
    """
    inputs = _opened(run, artifact, arm, repetition)
    if "grounded" not in schemas.CONTRACTS[artifact].schema.names or inputs.manifest(artifact).contract < _GROUNDED:
        return {}
    rows = below = 0
    total = 0.0
    for part in inputs.each(artifact, ["grounded"]):
        shares = part.column("grounded").drop_null().to_numpy()
        rows, below, total = rows + len(shares), below + int((shares < 1).sum()), total + float(shares.sum())
    return {"rows": rows, "mean": total / rows, "below": below} if rows else {}


def _opened(run: Run, artifact: str, arm: str, repetition: int) -> Inputs:
    record = run.read("run.json")
    marks = {name: entry["fingerprint"] for name, entry in record["artifacts"].items()}
    if arm:
        found = [c["artifacts"] for c in record["cells"] if (c["arm"], c["repetition"]) == (arm, repetition)]
        if not found:
            names = ", ".join(f"{c['arm']}/{c['repetition']}" for c in record["cells"])
            raise AskedWrongly(f"run {run.name!r} has no cell {arm}/{repetition} (cells: {names})")
        marks = found[0]
    if artifact not in marks or artifact not in schemas.CONTRACTS:
        tables = ", ".join(name for name in marks if name in schemas.CONTRACTS)
        raise AskedWrongly(f"run {run.name!r} has no table {artifact!r} (tables: {tables})")
    if run.store.manifest(artifact, marks[artifact]) is None:
        raise ArtifactError(
            f"{artifact}: not made yet in run {run.name!r}; run `trawl run` to the end or --until {artifact}"
        )
    return Inputs(run.store, marks)


def cell_inputs(run: Run, arm: str, repetition: int) -> tuple[Inputs, list[str], dict[str, Any]]:
    """The tables of a cell (of the first without `arm`), which of them the export room made, and the cell's name.

    Raises AskedWrongly for an unknown cell, ArtifactError for one that is not trained yet.
    """
    cells = run.read("run.json")["cells"]
    found = [c for c in cells if arm in ("", c["arm"]) and c["repetition"] == repetition]
    if not found:
        names = ", ".join(f"{c['arm']}/{c['repetition']}" for c in cells)
        raise AskedWrongly(f"run {run.name!r} has no cell {arm or '*'}/{repetition} (cells: {names})")
    cell = found[0]
    made = [name for name in ("item_vectors", "user_vectors", "item_neighbours") if name in cell["artifacts"]]
    for name in ("model", *made):
        if name not in cell["artifacts"] or run.store.manifest(name, cell["artifacts"][name]) is None:
            raise ArtifactError(f"{name}: not made yet in run {run.name!r}; run `trawl run` to the end")
    origin = {"run": run.name, "arm": cell["arm"], "repetition": repetition}
    return Inputs(run.store, cell["artifacts"]), made, origin


def _with_raw_ids(inputs: Inputs, artifact: str, rows: pa.Table) -> pa.Table:
    for column, kind, name in _raw_columns(artifact):
        table, raw = f"{kind}s", f"{kind}_id"
        if column not in rows.column_names or name in rows.column_names or not inputs.has(table):
            continue
        wanted = pc.unique(rows.column(column))
        kept = [t.filter(pc.is_in(t.column(kind), wanted)) for t in inputs.each(table, [kind, raw])]
        known = pa.concat_tables(kept)
        at = pc.index_in(rows.column(column), known.column(kind).combine_chunks())
        place = rows.column_names.index(column) + 1
        rows = rows.add_column(place, name, known.column(raw).combine_chunks().take(at))
    return rows


def gc(store: Store, keep_runs: int, dry: bool = False) -> list[str]:
    """Remove all but the newest runs, and every artifact that neither those nor a pointer names.

    Temporary files of writers that were killed go after a day. Returns what was (or with `dry` would be) removed. The
    answers in the cache stay, they are what was paid for; their segments are merged, in other caches of those runs too.
    """
    records = [(name, Run(store, name).read("run.json")) for name in store.names("runs") if name != INDEX]
    records = sorted((r for r in records if r[1]), key=lambda r: (r[1]["created"], r[0]), reverse=True)
    kept: set[tuple[str, str]] = set()
    for _, record in records[:keep_runs]:
        kept |= {(a, mark) for cell in record["cells"] for a, mark in cell["artifacts"].items()}
    for name in store.names("pointers"):
        kept |= {(str(a), str(mark)) for a, mark in (store.pointer(name) or {}).items()}
    doomed: list[tuple[str, ...]] = [("runs", name) for name, _ in records[keep_runs:]]
    doomed += [key for key in store.artifacts() if key not in kept]
    doomed += [names for names in store.scraps(_SCRAP_SECONDS) if names[:2] not in doomed]
    recipes = [record.get("recipe", {}) for _, record in records[:keep_runs]]
    held = {str(side["generation"]) for recipe in recipes for side in recipe.get("retry", {}).values()}
    doomed += [(*HELD, name) for name in store.names(*HELD) if name not in held]
    if not dry:
        for key in doomed:
            store.remove(*key)
        others = {recipe.get("resources", {}).get("answer_cache", "") for recipe in recipes} - {""}
        for cache in (store, *map(Store, sorted(others))):
            AnswerCache(cache).compact()
    return ["/".join(key) for key in doomed]
