"""Somebody's own backbone by import path: its form, its absence, what it must keep."""

import sys
from pathlib import Path

import pytest
import torch
from own_backbone import Plain
from samples import SHAPE, encoded

from trawl.config import Config
from trawl.errors import ConfigError
from trawl.model.backbones import build
from trawl.model.backbones.own import load
from trawl.model.keys import keys
from trawl.model.recommender import Recommender, Sizes


def cfg(name: str, *more: str) -> Config:
    return Config().override(f"model.backbone={name}", *more)


@pytest.mark.parametrize("name", ["own", "own.py:", ":Net", "a b:Net", "a:b:c", "a/b:Net", "DIN"])
def test_the_form_is_checked_with_the_recipe(name: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.backbone: no backbone .*, or your own as package\.module:Class"):
        cfg(name)


def test_it_is_made_from_shape_and_section() -> None:
    found = build(SHAPE, cfg("own_backbone:Plain", "model.backbone_arguments.hidden=[3,2]").model)
    assert isinstance(found, Plain)
    assert [layer.out_features for layer in found.head if isinstance(layer, torch.nn.Linear)] == [3, 2, 1]
    assert found(encoded(dtype=torch.float32)).shape == (4,)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere_at_all:Net", "cannot be imported .No module named 'nowhere_at_all'.; put it on the path of driver"),
        ("own_backbone:Missing", "has no attribute 'Missing'"),
        ("own_backbone:NoModule", "is no subclass of torch.nn.Module"),
        ("own_backbone:Three", r"cannot be made with \(Shape, Model\): .*'more'"),
        (
            "own_backbone:Needy",
            r"cannot be made with \(Shape, Model\): KeyError: 'layers' \(own_backbone\.py, line \d+\)",
        ),
        ("own_backbone.deeper:Net", "cannot be imported .*is not a package"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        build(SHAPE, cfg(name).model)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broken_module_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_backbone.py").write_text("def f(:\n", encoding="utf-8")
    (tmp_path / "faulty_backbone.py").write_text("import os\n\n1 / 0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="'broken_backbone:Net': cannot be imported"):
        load("broken_backbone:Net")
    with pytest.raises(ConfigError, match=r"cannot be imported: ZeroDivisionError: .* \(faulty_backbone\.py, line 3\)"):
        load("faulty_backbone:Net")


@pytest.mark.parametrize("place", ["taken_backbone.py", "taken_backbone/__init__.py", "taken_backbone/net.py"])
def test_code_in_a_models_folder_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """The folder may be on the path: it is the working directory of `python -m`."""
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\nNet = 1\n", encoding="utf-8")
    for name in ("model.json", "model.safetensors"):
        (tmp_path / name).touch()
    monkeypatch.syspath_prepend(tmp_path)
    module = "taken_backbone.net" if place.endswith("net.py") else "taken_backbone"
    with pytest.raises(ConfigError, match=r"lies in the model's folder .*; code is not taken from there"):
        load(f"{module}:Net")
    assert not (tmp_path / "ran").exists()
    assert "taken_backbone" not in sys.modules


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Column", r"gave logits of shape \(3, 1\), not \(3,\)"),
        ("Nothing", r"gave logits of shape NoneType, not \(3,\)"),
        ("Whole", r"gave logits of type torch\.int64, not of a float"),
        ("Untaught", "gave logits without a gradient"),
        ("Faulty", r"its forward failed: KeyError: 'b' \(own_backbone\.py, line \d+\)"),
    ],
)
def test_what_breaks_the_contract_is_refused(name: str, says: str) -> None:
    from test_model_recommender import batch, world

    sizes = Sizes(user_rows=7, item_rows=9, levels=5)
    net = Recommender(sizes, cfg(f"own_backbone:{name}", "extraction.source=none"))
    with pytest.raises(ConfigError, match=f"'own_backbone:{name}': {says}") as caught:
        net(batch(), world())
    assert "\n" not in str(caught.value)
    assert name != "Untaught" or net.eval()(batch(), world()).logit.shape == (3,), "scoring needs no gradient"


def test_its_arguments_are_hashed_for_it_alone() -> None:
    assert "model.backbone_arguments" in keys(cfg("own_backbone:Plain"))
    assert "model.backbone_arguments" not in keys(cfg("din"))
