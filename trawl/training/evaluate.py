"""Metrics by split and slice of a predictions table."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from trawl.schemas import TEST, VALID
from trawl.training.metrics import measure, plain
from trawl.training.slices import slices

_SPLITS = {"validation": VALID, "test": TEST}


def evaluate(predictions: pa.Table) -> dict[str, dict[str, Any]]:
    """{validation: {auc, gauc, logloss, ece, rows, warm: {...}, cold: {...}}, test: {the same, slices: {...}}}.

    Warm and cold are there when there are cold rows, in validation too: what is meant for new items is chosen there.
    slices: {items: [...], users: [...], text: [...]} of `slices`, each with its name, counts and metrics. A metric that
    its rows do not define (one label only) is None.
    """
    user, label, score = (predictions[name].to_numpy() for name in ("user", "label", "score"))
    cold = predictions["cold"].to_numpy()
    out: dict[str, dict[str, Any]] = {}
    for name, split in _SPLITS.items():
        rows = pc.equal(predictions["split"], split).to_numpy()
        out[name] = plain(measure(user[rows], label[rows], score[rows]))
        if cold[rows].any():
            for part, mask in (("warm", rows & ~cold), ("cold", rows & cold)):
                out[name][part] = plain(measure(user[mask], label[mask], score[mask]))
    out["test"]["slices"] = _slices(predictions.filter(pc.equal(predictions["split"], TEST)))
    return out


def _slices(test: pa.Table) -> dict[str, list[dict[str, Any]]]:
    user, label, score = (test[name].to_numpy() for name in ("user", "label", "score"))
    return {
        kind: [s.words() | plain(measure(user[s.rows], label[s.rows], score[s.rows])) for s in found]
        for kind, found in slices(test)
    }
