"""A planted world for the training tests: what a user likes can be learned.

Odd users like even items and even users odd ones; vectors tell the parity of items and users, their fields do not.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
from small import REPLACE
from worlds import behaviour, publish, table

from trawl.config import Config
from trawl.executors import Inline
from trawl.inputs import Inputs
from trawl.stage import run_stage
from trawl.store import Store
from trawl.training.stage import MODEL, PREDICTIONS

USERS, ITEMS, EVENTS, WIDTH = 150, 30, 20, 8


def planted(
    path: Path,
    *,
    users: int = USERS,
    seed: int = 0,
    cold: tuple[int, ...] = (),
    noise: float = 0.05,
    events: tuple[int, ...] = (EVENTS,),
    cutoff_max: int = 30,
) -> tuple[Store, dict[str, str]]:
    """A store with every table that the model stage may read, and their fingerprints.

    `events`: how many user u has is the one at u modulo their number.
    """
    store, rng = Store(str(path / "store")), np.random.default_rng(seed)
    ratings = []
    for user in range(1, users + 1):
        for item in rng.permutation(ITEMS)[: events[user % len(events)]] + 1:
            liked = (user % 2 == item % 2) != (rng.random() < noise)
            ratings.append((user, int(item), float(rng.choice([4, 5]) if liked else rng.choice([1, 2, 3]))))
    marks = behaviour(
        store,
        ratings,
        users=users,
        items=ITEMS,
        cold=cold,
        cutoff_max=cutoff_max,
        user_fields={u: {"town": [f"t{u % 5}"]} for u in range(1, users + 1)},
        item_fields={i: {"shelf": [f"s{i % 3}", f"s{5 + i % 5}"]} for i in range(1, ITEMS + 1)},
    )
    for side, count in (("item", ITEMS), ("user", users)):
        kinds = np.where(np.arange(1, count + 1) % 2, 1.0, -1.0)
        vectors = rng.normal(size=(count, WIDTH)) * 0.3
        vectors[:, 0] += kinds
        vectors[:, -1] = 0.5  # a constant dimension, as some encoders have
        marks[f"{side}_embeddings"] = publish(store, f"{side}_embeddings", [_vectors(vectors)])
        marks[f"{side}_positives"] = publish(store, f"{side}_positives", [_positives(count)])
    return store, marks


def _vectors(vectors: np.ndarray) -> object:
    """The last entity has no text."""
    last = len(vectors)
    rows = [
        {
            "entity": i,
            "vector": (vectors[i - 1] * (i != last)).astype(np.float16),
            "has_text": i != last,
            "tokens_read": 3,
            "tokens_there": 3,
        }
        for i in range(1, last + 1)
    ]
    return table("item_embeddings", rows)


def _positives(count: int) -> object:
    """The next entities of the same kind."""
    rows = [
        {"anchor": a, "rank": r, "partner": (a + 2 * (r + 1) - 1) % count + 1, "score": 1.0 / (r + 1), "shared": 3}
        for a in range(1, count + 1)
        for r in range(2)
    ]
    return table("item_positives", rows)


def config(*settings: str) -> Config:
    """A small model that is quick to train, in this process."""
    small = Config().override(
        "resources.launcher=task",
        "resources.executor=inline",
        "extraction.source=raw",
        "model.embedding=8",
        *REPLACE,
        "model.hidden=[16]",
        "model.attention=[8]",
        "model.history=5",
        "model.adapter_dim=6",
        "model.experts=2",
        "model.expert_hidden=8",
        "training.batch_size=64",
        "training.epochs=6",
        "training.patience=6",
        "training.lr=0.02",
    )
    return small.override(*settings)


def fit(store: Store, marks: dict[str, str], cfg: Config) -> tuple[dict[str, str], pa.Table]:
    """Run both stages; returns the fingerprints with theirs, and the predictions."""
    marks = dict(marks)
    marks["model"] = run_stage(MODEL, cfg, store, marks, Inline()).fingerprint
    marks["predictions"] = run_stage(PREDICTIONS, cfg, store, marks, Inline()).fingerprint
    return marks, Inputs(store, marks).table("predictions")
