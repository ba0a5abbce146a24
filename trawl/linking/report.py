"""What the linker did, in numbers: for the run's page and for the front door."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trawl.linking.edit_distance import NONE

_BINS = 20


def linking_report(knowledge: pa.Table, truth: pa.Table | None = None) -> dict[str, Any]:
    """Coverage, share of ties among the linked, histogram of similarity; with truth the accuracy among the linked.

    knowledge: item, rank, entity_id, similarity, method, ties. truth: item, entity_ids (lists of accepted ids).
    """
    first = knowledge.filter(pc.equal(knowledge.column("rank"), 0))
    linked = first.filter(pc.not_equal(first.column("method"), NONE))
    ties = int(pc.sum(pc.greater(linked.column("ties"), 0)).as_py() or 0)
    scores = first.column("similarity").drop_null().to_numpy()
    counts, edges = np.histogram(scores, bins=_BINS, range=(0.0, 1.0))
    report: dict[str, Any] = {
        "items": first.num_rows,
        "linked": linked.num_rows,
        "coverage": _share(linked.num_rows, first.num_rows),
        "ties": ties,
        "tie_share": _share(ties, linked.num_rows),
        "methods": {r["values"]: r["counts"] for r in first.column("method").value_counts().to_pylist()},
        "similarity": {"edges": [round(float(e), 4) for e in edges], "counts": [int(c) for c in counts]},
    }
    return report if truth is None else report | _accuracy(first, truth)


def _accuracy(first: pa.Table, truth: pa.Table) -> dict[str, Any]:
    accepted = dict(
        zip(truth.column("item").to_pylist(), map(set, truth.column("entity_ids").to_pylist()), strict=True)
    )
    known = first.filter(pc.is_in(first.column("item"), pa.array(list(accepted), first.schema.field("item").type)))
    pairs = zip(known.column("item").to_pylist(), known.column("entity_id").to_pylist(), strict=True)
    judged = [entity in accepted[item] for item, entity in pairs if entity is not None]
    return {
        "truth_items": known.num_rows,
        "truth_linked": len(judged),
        "truth_coverage": _share(len(judged), known.num_rows),
        "right": sum(judged),
        "accuracy": _share(sum(judged), len(judged)),
    }


def _share(part: int, whole: int) -> float | None:
    """None where there is nothing to take a share of."""
    return part / whole if whole else None
