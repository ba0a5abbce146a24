"""The bundle: round trip, scores of raw rows, refusal of what is not whole or not ours."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from planted import config, planted

from trawl.errors import ArtifactError, InputError
from trawl.executors import Inline
from trawl.inputs import Inputs
from trawl.schemas import FIELDS
from trawl.stage import run_stage
from trawl.store import digest_json
from trawl.training.bundle import CARD, WEIGHTS, read
from trawl.training.scorer import load
from trawl.training.stage import MODEL, PREDICTIONS

EVERYTHING = (
    "model.similarity=true",
    "model.adapted_similarity=true",
    "training.epochs=2",
    "training.w_item=0.1",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Inputs, Path]:
    """Inputs with a trained model and its predictions, and the model's folder."""
    cfg = config(*EVERYTHING)
    store, marks = planted(tmp_path_factory.mktemp("bundle"))
    marks["model"] = run_stage(MODEL, cfg, store, marks, Inline()).fingerprint
    marks["predictions"] = run_stage(PREDICTIONS, cfg, store, marks, Inline()).fingerprint
    return Inputs(store, marks), Path(store.path("model", marks["model"]))


@pytest.fixture
def copy(finished: tuple[Inputs, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished[1], tmp_path / "copy"))


def raw_rows(inputs: Inputs, predictions: pa.Table) -> pa.Table:
    """What a caller knows of each predicted row, without any index."""
    users = {r["user"]: r for r in inputs.table("users").to_pylist()}
    splits = {r["user"]: r["cutoff"] for r in inputs.table("splits").to_pylist()}
    vectors = {r["entity"]: r for r in inputs.table("user_embeddings").to_pylist()}
    log: dict[int, list[dict[str, object]]] = {}
    for row in inputs.table("log").to_pylist():
        log.setdefault(row["user"], []).append(row)
    rows = []
    for row in predictions.to_pylist():
        user = row["user"]
        history = log[user][: row["position"]]
        seen = log[user][: splits[user]]
        rows.append(
            {
                "user_id": users[user]["user_id"],
                "fields": users[user]["fields"],
                "item_id": f"i{row['item']}",
                "history": [f"i{e['item']}" for e in history],
                "ratings": [e["rating"] for e in history],
                "seen": [f"i{e['item']}" for e in seen],
                "liked": [e["label"] for e in seen],
                "user_vector": vectors[user]["vector"] if vectors[user]["has_text"] else None,
            }
        )
    strings = pa.list_(pa.string())
    schema = {"user_id": pa.string(), "fields": FIELDS, "item_id": pa.string(), "history": strings, "seen": strings}
    schema |= {"ratings": pa.list_(pa.float32()), "liked": pa.list_(pa.bool_()), "user_vector": pa.list_(pa.float16())}
    return pa.Table.from_pylist(rows, schema=pa.schema(list(schema.items())))


def test_a_loaded_bundle_scores_raw_rows_as_the_pipeline_did(finished: tuple[Inputs, Path]) -> None:
    inputs, folder = finished
    predictions = inputs.table("predictions")
    scores = load(folder).score(raw_rows(inputs, predictions))
    np.testing.assert_allclose(scores, predictions["score"].to_numpy(), atol=1e-6)


def test_unknown_ids_and_missing_columns_still_score(finished: tuple[Inputs, Path]) -> None:
    rows = pa.table({"item_id": ["nowhere", "i1"], "history": [["i2", "nowhere"], []], "ratings": [[5.0, 1.0], []]})
    rows = rows.set_column(1, "history", pa.array([["i2", "nowhere"], []], pa.list_(pa.string())))
    scores = load(finished[1]).score(rows)
    assert ((scores > 0) & (scores < 1)).all()
    with pytest.raises(InputError, match="columns missing: history"):
        load(finished[1]).score(rows.drop(["history"]))
    with pytest.raises(InputError, match="as many as"):
        load(finished[1]).score(rows.set_column(2, "ratings", pa.array([[5.0], []], pa.list_(pa.float64()))))


def test_the_recipe_is_read_back(finished: tuple[Inputs, Path]) -> None:
    bundle, cfg = read(finished[1]), config(*EVERYTHING)
    for key in MODEL.keys(cfg):
        assert bundle.cfg.get(key) == cfg.get(key)
    assert bundle.fingerprints == {name: finished[0].fingerprints[name] for name in MODEL.reads(cfg)}


def edit(folder: Path, **changes: object) -> None:
    card = json.loads((folder / CARD).read_text()) | changes
    card.pop("digest")
    card["digest"] = digest_json(card)
    (folder / CARD).write_text(json.dumps(card))


def test_another_version_is_refused_by_name(copy: Path) -> None:
    edit(copy, version=2)
    with pytest.raises(ArtifactError, match="trawl-model version 2, this trawl reads trawl-model version 1"):
        read(copy)


def test_an_unknown_key_of_another_trawl_is_refused(copy: Path) -> None:
    edit(copy, config={"model.colour": 1})
    with pytest.raises(ArtifactError, match=r"model\.colour"):
        read(copy)


def test_an_altered_card_is_refused(copy: Path) -> None:
    text = (copy / CARD).read_text()
    (copy / CARD).write_text(text.replace('"levels"', '"Levels"'))
    with pytest.raises(ArtifactError, match="altered"):
        read(copy)


def test_other_weights_are_refused(copy: Path) -> None:
    data = bytearray((copy / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (copy / WEIGHTS).write_bytes(data)
    with pytest.raises(ArtifactError, match="take both from one model"):
        read(copy)


def test_what_is_no_bundle_is_refused(copy: Path, tmp_path: Path) -> None:
    (copy / CARD).write_text("[]")
    with pytest.raises(ArtifactError, match="no model card"):
        read(copy)
    with pytest.raises(ArtifactError, match="missing"):
        read(tmp_path)
