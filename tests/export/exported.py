"""A small trained run to export from, and its predicted rows as a caller without the store would have them."""

from pathlib import Path

import pyarrow as pa
import small

from trawl import pipeline
from trawl.config import Config
from trawl.export.writer import export
from trawl.inputs import Inputs
from trawl.schemas import FIELDS
from trawl.store import Store

NAMES = ("item_vectors", "user_vectors", "item_neighbours")


def trained(store: Store, cfg: Config) -> tuple[Inputs, list[str]]:
    """Run the whole pipeline in this process: its tables, and which of them the export room made."""
    small.run_all(store, cfg)
    marks = pipeline.plan(cfg).fingerprints
    return Inputs(store, marks), [name for name in NAMES if name in marks]


def raw_rows(inputs: Inputs) -> pa.Table:
    """What a caller knows of each predicted row, without any index."""
    users = {r["user"]: r for r in inputs.table("users").to_pylist()}
    items = {r["item"]: r["item_id"] for r in inputs.table("items").to_pylist()}
    splits = {r["user"]: r["cutoff"] for r in inputs.table("splits").to_pylist()}
    log: dict[int, list[dict[str, object]]] = {}
    for row in inputs.table("log").to_pylist():
        log.setdefault(row["user"], []).append(row)
    rows = []
    for row in inputs.table("predictions").to_pylist():
        user = row["user"]
        history, seen = log[user][: row["position"]], log[user][: splits[user]]
        rows.append(
            {
                "user_id": users[user]["user_id"],
                "item_id": items[row["item"]],
                "history": [items[e["item"]] for e in history],  # type: ignore[index]
                "ratings": [e["rating"] for e in history],
                "seen": [items[e["item"]] for e in seen],  # type: ignore[index]
                "liked": [e["label"] for e in seen],
                "fields": users[user]["fields"],
            }
        )
    strings = pa.list_(pa.string())
    schema = {"user_id": pa.string(), "item_id": pa.string(), "history": strings, "ratings": pa.list_(pa.float32())}
    schema |= {"seen": strings, "liked": pa.list_(pa.bool_()), "fields": FIELDS}
    return pa.Table.from_pylist(rows, schema=pa.schema(list(schema.items())))


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


NONE = ("extraction.source=none", "training.w_user=0", "training.w_item=0")
ARMS = {
    "din-none": NONE,
    "din-knowledge": ("model.adapted_similarity=true",),
    "deepfm-none": ("model.backbone=deepfm", *NONE),
    "deepfm-knowledge": ("model.backbone=deepfm", "model.adapter=mlp", "model.injection=add"),
    "raw-similarity": ("model.adapter=raw", "model.side=item", "training.w_user=0", "training.w_item=0"),
    "hybrid-sources": (
        *("model.adapter=hybrid", "model.knowledge=['text', 'kg']", "model.injection=fields"),
        *("model.knowledge_dim=8", "model.adapted_similarity=true", "model.similarity_of=['kg', 'text', 'cf']"),
    ),
    "add-target": ("model.injection=add", "model.history_knowledge=false", "model.expert_last=relu"),
    "ids-genre": (
        *(*NONE, "model.features=ids", "model.similarity_of=['genre', 'cf']"),
        *("model.numeric_fields=['year']", "model.numeric_bins=4"),
    ),
    "likes-kg": (*NONE, "model.knowledge=['kg']", "model.injection=concat", "model.similarity_of=['cf']"),
    "similarity-alone": (
        "model.injection=none",
        "training.w_user=0",
        "training.w_item=0",
        "model.history_ratings=false",
    ),
}


class Exported:
    """Exports of all arms of one store, each made once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, Store(str(folder / "store"))
        self.made: dict[str, tuple[Inputs, Path]] = {}

    def arm(self, name: str) -> tuple[Inputs, Path]:
        if name not in self.made:
            inputs, wanted = trained(self.store, small.config(*ARMS[name]))
            export(inputs, wanted, {"run": "r", "arm": name, "repetition": 0}, str(self.folder / name))
            self.made[name] = inputs, self.folder / name
        return self.made[name]
