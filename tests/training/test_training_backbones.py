"""Every backbone learns the planted taste, with knowledge and without; losses of their own reach the training."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from planted import config, planted

from trawl.config import Config
from trawl.errors import ConfigError
from trawl.executors import Inline
from trawl.inputs import Inputs
from trawl.model.bundle import read
from trawl.sections_model import BACKBONES
from trawl.stage import run_stage
from trawl.training.gather import Gather
from trawl.training.loop import Progress, Training
from trawl.training.material import material
from trawl.training.pairing import Pairing
from trawl.training.stage import MODEL, PREDICTIONS

SMALL = ("model.recurrent=8", "model.cin=[6,4]", "model.head_width=6", "model.attention_layers=1")
KNOWLEDGE = {"none": ("extraction.source=none", "training.epochs=6"), "knowledge": ("model.adapter=mlp",)}


def trained(tmp_path: Path, cfg: Config, users: int = 150) -> tuple[Progress, Training]:
    store, marks = planted(tmp_path, users=users)
    inputs = Inputs(store, {name: marks[name] for name in MODEL.reads(cfg)}, work=("model", "x", "_work"))
    model, found = material(inputs, cfg)
    training = Training(model, found, cfg)
    return training.run(), training


@pytest.mark.parametrize("knowledge", KNOWLEDGE)
@pytest.mark.parametrize("name", [n for n in BACKBONES if n not in ("din", "deepfm")])  # those: test_training_stage
def test_the_planted_taste_is_learned(tmp_path: Path, name: str, knowledge: str) -> None:
    cfg = config(f"model.backbone={name}", *SMALL, *KNOWLEDGE[knowledge])
    progress, _ = trained(tmp_path, cfg, 800 if knowledge == "none" else 150)
    assert progress.best_auc > 0.8


def test_the_low_rank_mixture_learns_it(tmp_path: Path) -> None:
    cfg = config("model.backbone=dcnv2", "model.cross_rank=4", "model.cross_experts=2", *SMALL)
    assert trained(tmp_path, cfg)[0].best_auc > 0.8


def test_diens_auxiliary_loss_reaches_the_training(tmp_path: Path) -> None:
    dien = ("model.backbone=dien", *SMALL, "training.epochs=4", "training.precision=float64")
    progress, training = trained(tmp_path, config(*dien, "model.dien_auxiliary=0.5"))
    for epoch in progress.epochs:
        assert epoch["auxiliary"] > 0
        assert epoch["loss"] == pytest.approx(epoch["rec"] + epoch["auxiliary"])
    assert progress.epochs[-1]["auxiliary"] < progress.epochs[0]["auxiliary"]
    assert "backbone.auxiliary.item.weight" in progress.best
    without, _ = trained(tmp_path / "without", config(*dien))
    assert "auxiliary" not in without.epochs[0]
    assert "backbone.auxiliary.item.weight" not in without.best
    assert without.epochs[0]["rec"] != progress.epochs[0]["rec"]
    again, _ = trained(tmp_path / "again", config(*dien, "model.dien_auxiliary=0.5"))
    assert [e["loss"] for e in again.epochs] == [e["loss"] for e in progress.epochs]  # drawn by the seed
    assert training.scores(training.material.valid).shape == (len(training.material.valid),)


def test_two_workers_draw_what_one_draws(tmp_path: Path) -> None:
    """Negatives are of the global batch's items, each worker taking those of its rows."""
    cfg = config("model.backbone=dien", "model.dien_auxiliary=1", *SMALL)
    store, marks = planted(tmp_path)
    _, found = material(Inputs(store, {name: marks[name] for name in MODEL.reads(cfg)}), cfg)
    picks = np.arange(7, 72)
    drawn = []
    for size in (1, 2):
        for rank in range(size):
            pairing = Pairing({}, cfg.training, Gather(SimpleNamespace(rank=rank, size=size)), cfg.model.history)
            drawn.append(pairing._others(found.train.item[picks], np.random.default_rng(3)))
    alone, *shares = drawn
    assert alone is not None
    assert alone.shape == (65, cfg.model.history)
    assert torch.equal(torch.cat(shares), alone)  # type: ignore[arg-type]
    assert set(alone.flatten().tolist()) <= set(found.train.item[picks].tolist())


def test_an_own_backbone_trains_predicts_and_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module lies outside of trawl and of the model's folder, which names its path and holds no code."""
    code = tmp_path / "code"
    code.mkdir()
    shutil.copy(Path(__file__).parents[1] / "model" / "own_backbone.py", code / "somebodys_net.py")
    monkeypatch.syspath_prepend(code)
    cfg = config("model.backbone=somebodys_net:WithLoss", "model.backbone_arguments.hidden=[8]")
    store, marks = planted(tmp_path)
    marks["model"] = run_stage(MODEL, cfg, store, marks, Inline()).fingerprint
    marks["predictions"] = run_stage(PREDICTIONS, cfg, store, marks, Inline()).fingerprint
    assert Inputs(store, marks).table("predictions").num_rows
    folder = Path(store.path("model", marks["model"]))
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors", ".parquet"}
    bundle = read(folder)
    assert bundle.cfg.model.backbone == "somebodys_net:WithLoss"
    assert bundle.cfg.model.backbone_arguments == {"hidden": [8]}
    assert type(bundle.model().backbone).__name__ == "WithLoss"
    monkeypatch.undo()
    sys.modules.pop("somebodys_net")
    with pytest.raises(ConfigError, match=r"'somebodys_net:WithLoss': cannot be imported .*; put it on the path"):
        bundle.model()


def test_an_own_backbones_loss_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "model")
    progress, _ = trained(tmp_path, config("model.backbone=own_backbone:WithLoss", "training.epochs=2"))
    assert all(epoch["auxiliary"] > 0 for epoch in progress.epochs)


def test_an_own_loss_without_a_gradient_pulls_at_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "model")
    cfg = config("training.epochs=2", "resources.gradient_norms=2")
    progress, _ = trained(tmp_path, cfg.override("model.backbone=own_backbone:WithZero"))
    plain, _ = trained(tmp_path / "plain", cfg.override("model.backbone=own_backbone:Plain"))
    for one, other in zip(progress.epochs, plain.epochs, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}
        assert set(one["norms"]) == {"rec"}
