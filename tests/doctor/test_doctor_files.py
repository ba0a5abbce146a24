"""Inputs, stores, models, tokenizers and encoders that are missing or broken."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from trawl.config import Config
from trawl.doctor import files
from trawl.doctor.findings import Finding, Patient

sys.path.insert(0, str(Path(__file__).parents[1] / "extraction"))
from tiny_model import make_tiny_qwen2


def patient(tmp_path: Path, *settings: str) -> Patient:
    return Patient((Config().override(*settings),), str(tmp_path / "store"))


def only(findings: Any) -> Finding:
    (found,) = findings
    assert isinstance(found, Finding)
    return found


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_qwen2(tmp_path_factory.mktemp("tiny"))


def vllm(model: object) -> tuple[str, ...]:
    return ("extraction.engine=vllm", f"extraction.model={model}")


def test_inputs_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    settings = ("data.source=movielens", f"data.path={tmp_path}/gone", f"linking.entities={tmp_path}/there")
    found = {f.what.split(" = ")[0]: f for f in files.inputs(patient(tmp_path, *settings))}
    assert found["data.path"].state == "fail"
    assert "no such file or folder" in found["data.path"].what
    assert found["linking.entities"].state == "ok"
    assert only(files.inputs(patient(tmp_path))).state == "skip"


def test_a_store_is_left_as_it_was(tmp_path: Path) -> None:
    fresh = patient(tmp_path)
    assert only(files.store(fresh)).state == "ok"
    assert not (tmp_path / "store").exists()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "kept").touch()
    assert only(files.store(fresh)).state == "ok"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["kept"]


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file in its place")
    found = only(files.store(patient(tmp_path)))
    assert found.state == "fail"
    assert str(tmp_path / "store") in found.what
    assert "--store" in found.todo


def test_a_store_of_which_nothing_is_known() -> None:
    found = only(files.store(Patient((Config(),), "nofs://bucket/x")))
    assert found.state == "fail"
    assert "nofs://bucket/x" in found.what


def test_models_that_are_whole(tmp_path: Path, tiny: Path) -> None:
    found = only(files.models(patient(tmp_path, *vllm(tiny))))
    assert found.state == "ok"
    assert "million parameters" in found.what
    assert only(files.models(patient(tmp_path))).state == "skip"
    assert only(files.models(patient(tmp_path, "extraction.source=raw", *vllm("gone")))).state == "skip"


def broken(tiny: Path, folder: Path, fault: str) -> Path:
    """A copy of the model with something wrong with it."""
    for path in tiny.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = folder / "model.safetensors"
    if fault == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif fault == "config":
        (folder / "config.json").unlink()
    elif fault == "tokenizer":
        (folder / "tokenizer.json").unlink()
    else:
        index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("cut", "bytes where its head tells of"),
        ("config", "config.json is missing"),
        ("tokenizer", "no tokenizer beside it"),
        ("shard", "1 of 2 files of weights are missing, model-2.safetensors first"),
    ],
)
def test_models_that_are_broken(tmp_path: Path, tiny: Path, fault: str, words: str) -> None:
    found = only(files.models(patient(tmp_path, *vllm(broken(tiny, tmp_path, fault)))))
    assert (found.check, found.state) == ("models", "fail")
    assert words in found.what
    assert found.todo


def test_a_model_that_is_nowhere(tmp_path: Path) -> None:
    found = only(files.models(patient(tmp_path, *vllm(tmp_path / "gone"))))
    assert found.state == "fail"
    assert "no such folder" in found.what
    missing = only(files.models(patient(tmp_path, "encoding.encoder=transformer")))
    assert (missing.state, "encoding.model" in missing.what) == ("fail", True)


def test_tokenizers(tmp_path: Path, tiny: Path) -> None:
    assert only(files.tokenizer(patient(tmp_path))).state == "ok"
    assert only(files.tokenizer(patient(tmp_path, *vllm(tiny)))).state == "ok"
    assert only(files.tokenizer(patient(tmp_path, "extraction.source=none"))).state == "skip"
    nowhere = only(files.tokenizer(patient(tmp_path, *vllm(tmp_path / "gone"))))
    assert (nowhere.state, "no such folder" in nowhere.what) == ("fail", True)


def test_encoders(tmp_path: Path) -> None:
    found = only(files.encoder(patient(tmp_path, "encoding.dimension=64")))
    assert (found.state, found.what) == ("ok", "lexical: 64 numbers")
    assert only(files.encoder(patient(tmp_path, "extraction.source=none"))).state == "skip"
    bad = only(files.encoder(patient(tmp_path, "encoding.encoder=transformer", f"encoding.model={tmp_path}/gone")))
    assert (bad.state, "no such folder" in bad.what) == ("fail", True)


def test_each_arm_is_looked_at_once(tmp_path: Path, tiny: Path) -> None:
    first, other = Config(), Config().override(*vllm(tiny))
    found = list(files.tokenizer(Patient((first, other, first), str(tmp_path))))
    assert [f.state for f in found] == ["ok", "ok"]
