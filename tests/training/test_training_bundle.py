"""The trained model as files: round trip, refusal of what is not whole or not ours."""

import json
import shutil
from pathlib import Path

import pytest
from planted import config, planted

from trawl.errors import ArtifactError
from trawl.executors import Inline
from trawl.inputs import Inputs
from trawl.model.bundle import CARD, WEIGHTS, read
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
    edit(copy, version=2)
    with pytest.raises(ArtifactError, match="trawl-model version 2, this trawl reads trawl-model version 1 here"):
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
