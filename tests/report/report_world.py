"""A small finished run, made by hand, with numbers that can be checked in the head."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from worlds import behaviour, publish, table

from trawl.config import Config, flat
from trawl.schemas import CONTRACTS
from trawl.store import Store

HOSTILE = "<script>alert(1)</script>"
ARMS: dict[str, dict[str, Any]] = {
    "none": {"extraction.source": "none"},
    "extracted & <b>aligned</b>": {"extraction.source": "extracted", "training.w_item": 0.1},
}
# 20 users: 8 and 18 valid, 9 and 19 test, 16 training; all rate films 1..4, so the cut-off is 2 and 2 samples follow.
RATINGS = [(user, item, 5.0 if (user + item) % 2 else 2.0) for user in range(1, 21) for item in range(1, 5)]


def data_run(store: Store, name: str = "early") -> str:
    """A run that ended after the data room."""
    marks = behaviour(store, RATINGS, items=6, titles={1: (HOSTILE, 1999)})
    _write(store, name, [{"arm": "default", "repetition": 0, "overrides": {}, "artifacts": marks}], Config())
    return name


def whole_run(store: Store, name: str = "whole") -> str:
    """A run of two arms with everything."""
    shared = behaviour(store, RATINGS, items=6, titles={1: (HOSTILE, 1999)}, cold=[6])
    shared |= _linking(store) | _positives(store)
    cells = []
    for arm, changes in ARMS.items():
        own = _knowledge(store, str(changes["extraction.source"])) | {"model": _model(store, arm, cells == [])}
        cells.append({"arm": arm, "repetition": 0, "overrides": changes, "artifacts": shared | own})
    _write(store, name, cells, Config())
    rows = [_result(arm, 0.70 + 0.05 * number) for number, arm in enumerate(ARMS)]
    store.write_text(json.dumps(rows), "runs", name, "result.json")
    store.write_text(json.dumps(_comparisons()), "runs", name, "comparisons.json")
    lines = [
        _line("users", shared["users"], skipped=False),
        _line("items", shared["items"], skipped=True),
    ]
    store.write_text("\n".join(json.dumps(line) for line in lines) + "\n", "runs", name, "log.jsonl")
    return name


def _write(store: Store, name: str, cells: Sequence[Mapping[str, Any]], cfg: Config) -> None:
    artifacts: dict[str, Any] = {}
    for cell in cells:
        for artifact, mark in cell["artifacts"].items():
            artifacts.setdefault(artifact, {"folder": f"{artifact}/{mark}", "fingerprint": mark})
    record = {
        "name": name,
        "recipe": cfg.model_dump(mode="json"),
        "recipe_digest": cfg.digest(),
        "created": "2026-01-02T03:04:05Z",
        "commit": "abc1234",
        "state": "done",
        "artifacts": artifacts,
        "cells": list(cells),
    }
    assert set(flat(record["recipe"])) >= {"extraction.source", "linking.threshold"}
    store.write_text(json.dumps(record), "runs", name, "run.json")


def _linking(store: Store) -> dict[str, str]:
    """Films 1..4 linked (2 tied, 3 wrongly), 5 and 6 not; film 5 has an entity in truth, film 6 none."""
    entities = [
        {"entity": n, "entity_id": f"Q{n}", "label": f"{HOSTILE} {n}", "year": 1999, "text": "A page."}
        for n in range(1, 8)
    ]
    similar = {1: 1.0, 2: 1.0, 3: 0.96, 4: 0.97, 5: 0.4, 6: None}
    knowledge = [
        {
            "item": item,
            "rank": 0,
            "entity_id": f"Q{item}" if item <= 4 else None,
            "text": f"Page of {item}. {HOSTILE}" if item <= 4 else None,
            "similarity": similar[item],
            "method": ("exact" if similar[item] == 1.0 else "edit") if item <= 4 else "none",
            "ties": int(item == 2),
        }
        for item in range(1, 7)
    ]
    truth = [{"item": i, "entity_ids": {3: ["Q7"], 6: []}.get(i, [f"Q{i}", "Q99"])} for i in (1, 2, 3, 4, 5)]
    return {
        "entities": publish(store, "entities", [table("entities", entities)]),
        "knowledge": publish(
            store, "knowledge", [table("knowledge", knowledge[:3]), table("knowledge", knowledge[3:])]
        ),
        "truth": publish(store, "truth", [table("truth", truth)]),
    }


def _answer(entity: int, status: str, text: str | None) -> dict[str, Any]:
    return {
        "entity": entity,
        "status": status,
        "reason": None if text else "nothing <there>",
        "text": text,
        "tokens_in": 100 if text else 0,
        "tokens_out": 10 if text else 0,
        "attempts": 2 if entity == 1 else 1,
        "seconds": 0.5,
        "engine": "extractive",
        "digest": None,
    }


def _prompt(entity: int, cited: Sequence[int]) -> dict[str, Any]:
    return {
        "entity": entity,
        "step": 0,
        "chunk": 0,
        "digest": f"d{entity}",
        "template": "t1",
        "items": list(cited),
        "text_digests": ["x"] * len(cited),
        "plan": "middle" if entity == 1 else "whole",
        "kept": [75] * len(cited),
        "ranges": [],
        "there": (100 if entity == 1 else 75) * len(cited),
        "texts_cut": len(cited) if entity == 1 else 0,
        "chunks": 1,
        "cut": 25 * len(cited) if entity == 1 else 0,
        "tokens": 90,
        "cutoff": 0,
    }


def _vectors(name: str, count: int, known: int) -> pa.Table:
    rows = [
        {
            "entity": n,
            "vector": [1.0 if n <= known else 0.0] * 8,
            "has_text": n <= known,
            "tokens_read": 9 if n <= known else 0,
            "tokens_there": 10 if n <= known else 0,
        }
        for n in range(1, count + 1)
    ]
    # A list of half floats cannot be made from Python floats in one step.
    wide = pa.Table.from_pylist(rows, schema=CONTRACTS[name].schema.set(1, pa.field("vector", pa.list_(pa.float32()))))
    return wide.cast(CONTRACTS[name].schema)


def _knowledge(store: Store, source: str) -> dict[str, str]:
    """Answers, prompts and vectors: for `none` no text at all, else films 1..4 and users 1..10."""
    known = {"item": 0 if source == "none" else 4, "user": 0 if source == "none" else 10}
    out: dict[str, str] = {}
    for kind, count in (("item", 6), ("user", 20)):
        rows = [
            _answer(n, "ok", f"{HOSTILE} likes {n}") if n <= known[kind] else _answer(n, "no_text", None)
            for n in range(1, count + 1)
        ]
        prompts = [_prompt(n, [1] if kind == "item" else [1, 2]) for n in range(1, known[kind] + 1)]
        out[f"{kind}_answers"] = publish(store, f"{kind}_answers", [table(f"{kind}_answers", rows)])
        out[f"{kind}_prompts"] = publish(store, f"{kind}_prompts", [table(f"{kind}_prompts", prompts)])
        out[f"{kind}_embeddings"] = publish(
            store, f"{kind}_embeddings", [_vectors(f"{kind}_embeddings", count, known[kind])]
        )
    texts = [
        {"item": n, "text": f"Source text {n}" if n <= 4 else None, "digest": None, "tokens": 3} for n in range(1, 7)
    ]
    return out | {"item_texts": publish(store, "item_texts", [table("item_texts", texts)])}


def _positives(store: Store) -> dict[str, str]:
    """Users 1..10 all have user 2 first (user 2 has 1); items 1..4 have each other around a ring; item 1's are tied."""

    def row(anchor: int, rank: int, partner: int, score: float) -> dict[str, Any]:
        return {"anchor": anchor, "rank": rank, "partner": partner, "score": score, "shared": 2}

    users = [row(n, 0, 1 if n == 2 else 2, 1.0) for n in range(1, 11)]
    items = [row(n, r, (n + r) % 4 + 1, 1.0 if n == 1 else 1.0 - r / 2) for n in range(1, 5) for r in (0, 1)]
    return {
        "user_positives": publish(store, "user_positives", [table("user_positives", users)]),
        "item_positives": publish(store, "item_positives", [table("item_positives", items)]),
    }


_NORMS = {"rec": {"adapter": 0.25, "all": 0.5}, "ii": {"adapter": 0.0625, "all": 0.0625}}


def _model(store: Store, arm: str, plain: bool) -> str:
    """A model's folder as training leaves it: a manifest and metrics.json."""
    mark = publish(store, "truth", [table("truth", [{"item": len(arm), "entity_ids": []}])])
    manifest = store.read_text("truth", mark, "_manifest.json").replace('"artifact": "truth"', '"artifact": "model"')
    store.write_text(manifest, "model", mark, "_manifest.json")
    epochs = [
        {
            "epoch": n,
            "loss": 0.7 / n,
            "rec": 0.6 / n,
            "uu": 0.0,
            "ii": 0.0 if plain else 5.0 / n,
            **({} if plain else {"norms": _NORMS, "temperature": 0.1234}),
            "validation": {"auc": 0.6 + 0.03 * n, "gauc": 0.6, "logloss": 0.6, "rows": 4},
            "seconds": 1.0,
        }
        for n in (1, 2, 3)
    ]
    store.write_text(json.dumps({"epochs": epochs, "best_epoch": 3}), "model", mark, "metrics.json")
    return mark


def _result(arm: str, auc: float) -> dict[str, Any]:
    def figures(value: float) -> dict[str, Any]:
        return {"auc": value, "gauc": value - 0.01, "logloss": 1 - value, "rows": 4}

    return {
        "arm": arm,
        "repetition": 0,
        "backbone": "din",
        "knowledge": str(ARMS[arm]["extraction.source"]),
        "injection": "replace",
        "contrastive": arm != "none",
        "validation": figures(auc + 0.01),
        "test": figures(auc) | {"warm": figures(auc + 0.02), "cold": figures(auc - 0.1), "slices": _slices(auc)},
        "model": "m",
        "epochs": 3,
        "seconds": 3.0,
    }


def _slices(auc: float) -> dict[str, Any]:
    """By items: none, and two bins, of which the second defines no AUC; by text in the arm with knowledge."""

    def one(name: str, value: float | None, **counts: int) -> dict[str, Any]:
        return {"name": name, **counts, "auc": value, "gauc": value, "logloss": 0.5, "ece": 0.01, "rows": 2}

    bounds = {"0": (0, 0), "q1": (1, 56), "q2": (57, 1234)}
    values = {"0": auc - 0.1, "q1": auc, "q2": None}
    items = [one(n, values[n], **{"from": low, "to": high}) for n, (low, high) in bounds.items()]
    return {"items": items} | ({"text": [one("with", auc), one("without", 0.5)]} if auc > 0.7 else {})


def _comparisons() -> list[dict[str, Any]]:
    arm = list(ARMS)[1]
    return [
        {
            "arm": arm,
            "reference": "none",
            "slice": part,
            "metric": "auc",
            "difference": 0.05,
            "low": low,
            "high": 0.09,
            "p": 0.01,
            "p_holm": 0.02,
            "repetitions": 1,
        }
        for part, low in (("all", 0.0123), ("warm", 0.01), ("cold", -0.0321))
    ]


def _line(artifact: str, mark: str, *, skipped: bool) -> dict[str, Any]:
    return {
        "time": 1.0,
        "event": "stage",
        "artifact": artifact,
        "fingerprint": mark,
        "rows": 1,
        "seconds": 1.5,
        "peak_mib": 100.0,
        "skipped": skipped,
        "statuses": {},
        "arm": "none",
        "repetition": 0,
    }
