"""The papers' recipes, whole, on a small made-up world: every arm trains, and is what its paper says."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small

from trawl import experiment, recipes, uses
from trawl.config import Config
from trawl.executors import Inline
from trawl.inputs import Inputs
from trawl.runs import Cell
from trawl.store import Store

SMALL = [
    *(s for s in small.SETTINGS if s.startswith(("data.", "resources.", "encoding.", "model.embedding"))),
    *("data.source=synthetic", "data.partitions=2", "experiment.repetitions=1", "experiment.bootstrap=20"),
    *("training.epochs=1", "model.hidden=[8]", "model.history=3", "extraction.user_items=2"),
]


def ran(name: str, folder: Path, *settings: str) -> tuple[Config, Store, dict[str, Cell], dict[str, Any]]:
    """The recipe, the store, the cells and the rows of the result by arm."""
    cfg, store = recipes.load(name, [*SMALL, *settings]), Store(str(folder / "store"))
    run = experiment.run(cfg, store, name, lambda c: Inline(), experiment.Listener(lambda *a: None, lambda row: None))
    rows = {row["arm"]: row for row in run.results()}
    assert all(0 <= row["test"]["auc"] <= 1 for row in rows.values())
    return cfg, store, {cell.arm: cell for cell in experiment.expand(cfg)}, rows


def course(store: Store, row: dict[str, Any]) -> dict[str, Any]:
    """The record of a trained arm's first epoch."""
    found: dict[str, Any] = json.loads(store.read_text("model", row["model"], "metrics.json"))["epochs"][0]
    return found


def test_kellmrec(tmp_path: Path) -> None:
    facts = tmp_path / "facts.parquet"
    ids = [f"f{number:06d}" for number in range(1, 201)]
    told = {"item_id": ids, "relation": ["director"] * 200, "value": ["a", "b", "c", "d"] * 50}
    pq.write_table(pa.table(told), facts)
    settings = (f"facts.table={facts}", "facts.of=item")
    cfg, store, cells, rows = ran("kellmrec", tmp_path, *settings)
    assert list(rows) == list(cells) and set(rows) == set(cfg.experiment.arms)
    own = cells["kellmrec"].cfg
    assert (own.model.injection, own.model.adapter, own.training.negatives) == ("concat", "mlp", "low_swing")
    assert (own.training.w_user, own.training.w_item, own.training.temperature) == (0.004, 0.004, 0.03)
    assert all(uses.adapts(own, side) for side in uses.SIDES) and own.swing.normalize == "none"
    record = course(store, rows["kellmrec"])
    assert record["uu"] > 0 and record["ii"] > 0
    assert rows["kellmrec"]["contrastive"] and not rows["kellmrec-without-cl"]["contrastive"]
    assert course(store, rows["kellmrec-without-cl"])["ii"] == 0
    assert course(store, rows["kellmrec-facts"])["ii"] != record["ii"], "one director, one more positive"
    marks = {arm: cell.fingerprints for arm, cell in cells.items()}
    prompts = Inputs(store, marks["kellmrec"]).table("user_prompts")
    assert prompts.num_rows and marks["kellmrec"]["user_prompts"] != marks["llmrec"]["user_prompts"]
    assert "item_texts" not in marks["llmrec"], "the prompts of llmrec see no text from outside"


@pytest.mark.parametrize(("name", "arms"), [("paper", 4), ("kar", 7)])
def test_the_others(tmp_path: Path, name: str, arms: int) -> None:
    _, store, _, rows = ran(name, tmp_path)
    assert len(rows) == arms
    contrastive = {arm for arm, row in rows.items() if row["contrastive"]}
    assert contrastive == ({"trawl"} if name == "paper" else set())
    assert course(store, rows["trawl" if name == "paper" else "kar"]).get("gates"), "experts under a gate"
