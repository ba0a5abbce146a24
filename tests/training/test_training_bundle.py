"""The trained model as files: round trip, refusal of what is not whole or not ours."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from planted import config, planted

from trawl.errors import ArtifactError
from trawl.executors import Inline
from trawl.inputs import Inputs
from trawl.model.bundle import CARD, ITEMS, USERS, VERSION, WEIGHTS, read
from trawl.stage import run_stage
from trawl.store import digest_json
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
    for version in (VERSION - 1, VERSION + 1):
        edit(copy, version=version)
        says = f"trawl-model version {version}, this trawl reads trawl-model version {VERSION} here"
        with pytest.raises(ArtifactError, match=says):
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


@pytest.mark.parametrize("name", [ITEMS, USERS])
def test_other_ids_are_refused(copy: Path, name: str) -> None:
    table = pq.read_table(copy / name)
    pq.write_table(table.slice(1), copy / name)
    with pytest.raises(ArtifactError, match=f"{name}: is not the file that {CARD} was written for; take both"):
        read(copy)
    (copy / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name}: missing; copy the whole model folder"):
        read(copy)


def test_ids_stand_beside_the_card_and_not_in_it(finished: tuple[Inputs, Path]) -> None:
    inputs, folder = finished
    bundle = read(folder)
    assert bundle.catalogue.items.to_pylist() == inputs.table("items")["item_id"].to_pylist()
    users = inputs.table("users")["user_id"].to_pylist()
    assert bundle.catalogue.users.to_pylist() == [users[index - 1] for index in bundle.lexicon.users]
    assert len(bundle.catalogue.users) > 100
    card = (folder / CARD).read_text()
    assert not any(f'"{name}"' in card for name in users)
    assert set(json.loads(card)["vocabularies"]) == {"user_fields", "item_fields", "levels"}


def test_what_is_no_bundle_is_refused(copy: Path, tmp_path: Path) -> None:
    (copy / CARD).write_text("[]")
    with pytest.raises(ArtifactError, match="no model card"):
        read(copy)
    with pytest.raises(ArtifactError, match="missing"):
        read(tmp_path)
