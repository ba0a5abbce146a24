"""One index over the runs of a store: `<store>/runs/index.html`, and the same rows for the terminal."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.fs as pafs

from trawl.errors import ArtifactError
from trawl.report.page import render
from trawl.store import INDEX, Store

_NEWEST = 200
_PAGES = ("report.html", "study.html")  # of a run, of a search over runs


@dataclass(frozen=True)
class Row:
    """One run. `difference`: the best arm's test AUC against `reference`, with low and high; None where there is none.

    A run whose record cannot be read has the state "unreadable" and nothing else.
    """

    name: str
    state: str
    recipe: str = ""
    digest: str = ""
    created: str = ""
    finished: int = 0
    cells: int = 0
    best: str = ""
    valid: float | None = None
    test: float | None = None
    reference: str = ""
    difference: Mapping[str, float] | None = None
    page: str = ""  # file of its page, "" where there is none
    study: bool = False  # a search over runs


def build(store: Store) -> str:
    """Write the index anew and return its path."""
    found, more = runs(store)
    store.write_text(render("index.html", {"runs": found, "more": more}), "runs", INDEX)
    return store.where("runs", INDEX)


def runs(store: Store, newest: int = _NEWEST) -> tuple[list[Row], int]:
    """The newest runs, the youngest first, and how many more there are.

    Of many runs those whose record was written last are read, so the cost is bounded.
    """
    names = [name for name in store.names("runs") if name != INDEX]
    infos = store.fs.get_file_info([store.path("runs", name, "run.json") for name in names]) if names else []
    there = [(i.mtime_ns or 0, n) for i, n in zip(infos, names, strict=True) if i.type == pafs.FileType.File]
    there.sort(reverse=True)
    rows = [_row(store, name) for _, name in there[:newest]]
    return sorted(rows, key=lambda r: (r.created, r.name), reverse=True), max(0, len(there) - newest)


def _row(store: Store, name: str) -> Row:
    try:
        record = _json(store, name, "run.json")
        results = _json(store, name, "result.json") or []
        comparisons = _json(store, name, "comparisons.json") or []
        return Row(
            name=name,
            state=str(record["state"]),
            recipe=str(record["recipe"]["name"]),
            digest=str(record["recipe_digest"]),
            created=str(record["created"]),
            finished=len(results),
            cells=len(record["cells"]),
            page=next((file for file in _PAGES if store.exists("runs", name, file)), ""),
            study=bool(record.get("study")),
            **_best(results, comparisons),
        )
    except (ValueError, KeyError, TypeError, ArtifactError):  # one broken run hides no other
        return Row(name=name, state="unreadable")


def _json(store: Store, name: str, file: str) -> Any:
    text = store.find_text("runs", name, file)
    return None if text is None else json.loads(text)


def _best(results: Sequence[Mapping[str, Any]], comparisons: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The arm of highest mean validation AUC, as on the run's page: chosen without looking at its test rows."""
    arms = list(dict.fromkeys(row["arm"] for row in results))
    if not arms:
        return {}
    valid = {arm: _mean(results, arm, "validation") for arm in arms}
    best = max(arms, key=lambda arm: valid[arm] or 0.0)
    found = next((c for c in comparisons if (c["arm"], c["metric"], c["slice"]) == (best, "auc", "all")), None)
    known = found if found and found["low"] is not None else None
    return {
        "best": best,
        "valid": valid[best],
        "test": _mean(results, best, "test"),
        "reference": str(found["reference"]) if found else "",
        "difference": {k: float(known[k]) for k in ("difference", "low", "high")} if known else None,
    }


def _mean(results: Sequence[Mapping[str, Any]], arm: str, split: str) -> float | None:
    values = [row[split]["auc"] for row in results if row["arm"] == arm]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
