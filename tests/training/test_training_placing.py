"""Device, precision and compilation of a training's steps."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import config, planted
from torch._dynamo.backends.registry import lookup_backend

from trawl.config import Config
from trawl.errors import ConfigError
from trawl.inputs import Inputs
from trawl.model import features
from trawl.sections_model import BACKBONES
from trawl.training.gather import Gather
from trawl.training.group import Alone
from trawl.training.loop import Training
from trawl.training.losses import JointLoss
from trawl.training.material import material
from trawl.training.pairing import Pairing
from trawl.training.placing import Place, device_of, moved
from trawl.training.stage import MODEL

ALL = ("model.similarity=true", "model.adapted_similarity=true", "training.w_item=0.1", "training.w_user=0.1")


def training(path: Path, cfg: Config) -> Training:
    store, marks = planted(path)
    inputs = Inputs(store, {name: marks[name] for name in MODEL.reads(cfg)}, work=("model", "x", "_work"))
    model, found = material(inputs, cfg)
    return Training(model, found, cfg)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    store, marks = planted(tmp_path_factory.mktemp("steps"), users=40)
    return Inputs(store, marks, work=("model", "x", "_work"))


@pytest.mark.parametrize("backbone", ["din", "deepfm", "dien"])
def test_bfloat16_steps_learn_and_parameters_stay_wide(tmp_path: Path, backbone: str) -> None:
    cfg = config(*ALL, "training.precision=bfloat16", f"model.backbone={backbone}")
    cfg = cfg.override("model.dien_auxiliary=0.1") if backbone == "dien" else cfg
    run = training(tmp_path, cfg)
    kinds = set()
    for module in run.model.backbone.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda m, given, out: kinds.add((m.training, out.dtype)))
    end = run.run()
    assert end.epochs[end.best_epoch]["validation"]["auc"] > 0.8
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}
    assert kinds == {(True, torch.bfloat16), (False, torch.float32)}  # scores are those of the published model


SIMILAR = (*ALL, "training.positives=2", "training.temperature_learned=true", "training.weights_learned=true")
OTHERS = {
    "cf": (
        "model.similarity=true",
        "model.similarity_of=['cf', 'text']",
        "model.injection=add",
        "model.adapter=hybrid",
    ),
    "low": (*ALL, "training.negatives=low_swing", "model.injection=add", "model.history_knowledge=false"),
}
STEPS = [(name, SIMILAR) for name in BACKBONES if name != "dien"] + [("din", other) for other in OTHERS.values()]


@pytest.mark.parametrize(("backbone", "settings"), STEPS, ids=[*(b for b, _ in STEPS[:-2]), *OTHERS])
def test_every_tensor_of_a_step_is_made_on_the_device(
    steps: Inputs, backbone: str, settings: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one that holds no numbers and takes none of another's; DIEN asks for the lengths, so it cannot run there."""
    monkeypatch.setattr(features, "_OFTEN", 0)  # else the ids of a step are counted
    cfg = config(f"model.backbone={backbone}", *settings)
    model, found = material(steps, cfg)
    gather = Gather(Alone())
    place, loss = Place(model, found.world, cfg, torch.device("meta")), JointLoss(cfg, model.scales, gather)
    rows = found.train.take(slice(0, 16))
    batch = Pairing(found.partners, cfg.training, gather)(found.behaviour.batch(rows), rows.user, rows.item, 0, 0)
    batch = place.take(batch)
    loss(place.forward(batch), batch, 16.0).total.backward()  # type: ignore[no-untyped-call]
    assert {p.grad.device.type for p in model.parameters() if p.grad is not None} == {"meta"}
    assert model.eval()(batch, place.world).logit.device.type == "meta"


def test_the_world_and_a_batch_move_whole(tmp_path: Path) -> None:
    """To a device that holds no numbers: every tensor that the model reads is there."""
    run = training(tmp_path, config(*ALL))
    rows, material_ = run.material.train, run.material
    batch = moved(material_.behaviour.batch(rows.take(slice(0, 8))), torch.device("meta"))
    world = moved(material_.world, torch.device("meta"))
    found: list[torch.Tensor] = []

    def collect(value: object) -> None:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, dict | tuple | list):
            for part in value.values() if isinstance(value, dict) else value:
                collect(part)
        elif hasattr(value, "__dict__"):
            collect(vars(value))

    collect((batch, world))
    assert len(found) > 15
    assert {t.device.type for t in found} == {"meta"}
    assert material_.world.items.rows.device.type == "cpu"


def test_a_gpu_that_is_not_there_is_one_line() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match=r"resources.training_gpus = 1: this worker sees no GPU; set it to 0"):
        device_of(config("resources.training_gpus=1"))


def test_dropout_depends_on_seed_step_and_worker_alone(tmp_path: Path) -> None:
    cfg = config("model.dropout=0.5")
    run = training(tmp_path, cfg)
    place = Place(run.model, run.material.world, cfg, torch.device("cpu"))

    def draws(epoch: int, step: int, rank: int) -> torch.Tensor:
        place.begin(epoch, step, rank)
        return torch.rand(4)

    one = draws(1, 2, 0)
    torch.rand(100)
    assert torch.equal(one, draws(1, 2, 0))
    assert not any(torch.equal(one, draws(*other)) for other in ((1, 3, 0), (0, 2, 0), (1, 2, 1)))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often compiled code of each class of module has run in training."""
    runs, compile_of = Counter[str](), torch.compile

    def counting(call: Any, *, dynamic: bool) -> Any:
        def backend(graph: torch.fx.GraphModule, given: list[torch.Tensor]) -> Any:
            made = lookup_backend("inductor")(graph, given)

            def run(*values: Any) -> Any:
                runs[type(call.__self__).__name__] += 1
                return made(*values)

            return run

        return compile_of(call, backend=backend, dynamic=dynamic)

    monkeypatch.setattr(torch, "compile", counting)
    return runs


@pytest.mark.parametrize("backbone", ["din", "own_backbone:Plain"])
def test_compiled_layers_learn_the_same(
    tmp_path: Path, ran: Counter[str], backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a contrastive loss; each step runs compiled code of the backbone and of both adapters. Equal to the same
    epoch as it is written, but for rounding."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "model")
    cfg = config(f"model.backbone={backbone}", "training.w_item=0.1", "training.epochs=1", "training.batch_size=300")
    run = training(tmp_path / "plain", cfg)
    plain = run.run()
    assert not ran
    compiled = training(tmp_path / "compiled", cfg.override("training.compile=true")).run()
    assert ran["Adapter"] == 2 * run.steps
    assert ran[type(run.model.backbone).__name__] >= run.steps
    for name in ("loss", "rec", "ii"):
        assert compiled.epochs[0][name] == pytest.approx(plain.epochs[0][name], abs=1e-4)
    found, expected = compiled.epochs[0]["validation"], plain.epochs[0]["validation"]
    assert found["auc"] == pytest.approx(expected["auc"], abs=2e-3)


def test_only_a_compiled_training_has_the_key() -> None:
    assert "training.compile" not in MODEL.keys(config())
    assert "training.compile" in MODEL.keys(config("training.compile=true"))
