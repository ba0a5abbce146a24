"""What an answers stage counts beside its table: prompts asked and answers found, and why answers are missing.

Each task leaves small JSON files in the stage's work folder; the driver adds them up before the manifest is written.
An answer counts as asked when this table asked for it, also in a try that was interrupted; else it came from the cache.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from trawl.inputs import Inputs

_COUNTS, _REASONS = "counts", "reasons"
_MOST = 20  # reasons that a task tells, the commonest
_NUMBER = re.compile(r"\d+")


def keep_counts(inputs: Inputs, task: str, counts: Mapping[str, int]) -> None:
    """Leave a task's counts."""
    inputs.store.write_text(json.dumps(dict(counts)), *inputs.work, _COUNTS, f"{task}.json")


def keep_reasons(inputs: Inputs, task: str, rows: pa.Table, statuses: Sequence[str]) -> None:
    """Leave the commonest reasons of rows (entity, status, reason, digest) with these statuses."""
    bad = rows.filter(pc.is_in(rows.column("status"), value_set=pa.array(statuses, pa.string())))
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in bad.select(["entity", "status", "reason", "digest"]).to_pylist():
        key = (row["status"], _NUMBER.sub("#", row["reason"] or "")[:100])
        entry = found.setdefault(key, row | {"count": 0, "like": key[1]})
        entry["count"] += 1
    common = sorted(found.values(), key=lambda e: -e["count"])[:_MOST]
    inputs.store.write_text(json.dumps(common), *inputs.work, _REASONS, f"{task}.json")


def asked(inputs: Inputs) -> dict[str, int]:
    """Counts of all tasks: prompts asked, answers from the cache, prompts that were not sent."""
    out: dict[str, int] = {}
    for counts in _read(inputs, _COUNTS):
        for name, count in counts.items():
            out[name] = out.get(name, 0) + count
    return out


def reasons(inputs: Inputs) -> list[dict[str, Any]]:
    """The reasons over all tasks, the commonest first: count, status, reason, and entity and digest of one such row."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in (e for part in _read(inputs, _REASONS) for e in part):
        known = found.setdefault((entry["status"], entry["like"]), entry | {"count": 0})
        known["count"] += entry["count"]
    return sorted(found.values(), key=lambda e: (-e["count"], e["status"], e["like"]))


def _read(inputs: Inputs, folder: str) -> Iterator[Any]:
    names: Iterable[str] = inputs.store.names(*inputs.work, folder)
    for name in names:
        if name.endswith(".json"):
            yield json.loads(inputs.store.read_text(*inputs.work, folder, name))
