"""The joint loss in training: its options, what is learned of it, its norms, and workers that share the anchors."""

import json
import multiprocessing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted import ITEMS, config, planted
from worlds import publish, table

from trawl.config import Config
from trawl.errors import ConfigError, InputError
from trawl.executors import Inline
from trawl.inputs import Inputs
from trawl.model.contrastive import info_nce
from trawl.model.keys import keys
from trawl.model.scales import Scales
from trawl.stage import run_stage
from trawl.training.gather import Gather
from trawl.training.group import Distributed
from trawl.training.loop import Training
from trawl.training.material import material
from trawl.training.norms import Norms, means
from trawl.training.stage import MODEL

BOTH = ("training.w_item=0.1", "training.w_user=0.1", "training.epochs=2")
OPTIONS = {
    "plain": (),
    "score": ("training.positives=2", "training.positive_sampling=score"),
    "facts": ("training.fact_positives=['shelf']",),
    "low": ("training.negatives=low_swing", "training.low_negatives=4"),
    "temperature": ("training.temperature_learned=true",),
    "weights": ("training.weights_learned=true",),
    "sum": ("training.reduction=sum",),
}


def inputs_of(tmp_path: Path, cfg: Config) -> Inputs:
    store, marks = planted(tmp_path, users=60)
    values = [(i, v) for i in range(1, ITEMS) for v in (f"s{i % 3}", f"t{i % 5}")]
    rows = [{"entity": i, "relation": "shelf", "value": v} for i, v in values]
    marks["facts"] = publish(store, "facts", [table("facts", rows)])
    return Inputs(store, marks, work=("model", "x", "_work"))


def trained(inputs: Inputs, cfg: Config) -> Training:
    training = Training(*material(inputs, cfg), cfg)
    training.run()
    return training


def test_every_option_trains_another_model(tmp_path: Path) -> None:
    cfg = config(*BOTH, "training.positives=2")
    inputs = inputs_of(tmp_path, cfg)
    ends = {name: trained(inputs, cfg.override(*changes)).progress.epochs for name, changes in OPTIONS.items()}
    for epochs in ends.values():
        assert all(e["uu"] > 0 and e["ii"] > 0 and np.isfinite(e["loss"]) for e in epochs)
    assert len({epochs[-1]["ii"] for epochs in ends.values()}) == len(OPTIONS)
    changed = {name: set(keys(cfg.override(*changes))) - set(keys(cfg)) for name, changes in OPTIONS.items()}
    assert [name for name, new in changed.items() if not new] == ["plain", "sum"]


def test_options_count_only_where_they_matter() -> None:
    plain, none = config(), config("extraction.source=none", *BOTH)
    for changes in OPTIONS.values():
        assert keys(plain.override(*changes)) == keys(plain)
        assert keys(none.override(*changes)) == keys(none)
    users = config("training.w_user=0.1")
    assert keys(users.override(*OPTIONS["facts"])) == keys(users)
    assert keys(users.override("training.positive_sampling=score")) == keys(users)


def test_a_fact_that_no_item_has_is_refused(tmp_path: Path) -> None:
    cfg = config(*BOTH, "training.fact_positives=['director']")
    with pytest.raises(InputError, match="'director'; there are shelf"):
        material(inputs_of(tmp_path, cfg), cfg)


def test_a_learned_temperature_finds_what_fits_and_keeps_its_bounds() -> None:
    """Positives at a cosine of 1, the others at 0: the colder the better; positives at random: the warmer."""
    generator = torch.Generator().manual_seed(0)
    ids = (torch.arange(1, 9), torch.arange(11, 19))
    for positives, low, high in ((torch.eye(8), 0.02, 0.05), (torch.randn(8, 8, generator=generator), 0.35, 0.5)):
        scales = Scales(config(*BOTH, "training.temperature_learned=true"))
        assert scales.values()["temperature"] == pytest.approx(0.15)
        optimizer = torch.optim.Adam(scales.parameters(), lr=0.3)
        for _ in range(60):
            optimizer.zero_grad()
            info_nce((torch.eye(8), positives), *ids, scales.temperature).backward()
            optimizer.step()
        assert low < scales.values()["temperature"] < high


def test_learned_weights_go_to_the_recipes_over_the_loss() -> None:
    scales = Scales(config("training.w_item=0.02", "training.w_user=0.01", "training.weights_learned=true"))
    assert scales.values() == pytest.approx({"w_user": 0.01, "w_item": 0.02})
    optimizer = torch.optim.Adam(scales.parameters(), lr=0.02)
    for _ in range(800):
        optimizer.zero_grad()
        (scales.weighted("user", torch.tensor(4.0)) + scales.weighted("item", torch.tensor(0.01))).backward()
        optimizer.step()
    found = scales.values()
    assert found["w_user"] == pytest.approx(0.01 / 4, rel=0.01)
    assert 0.1 < found["w_item"] < 0.2  # 0.02 / 0.01 is beyond the factor of 10


def test_without_the_options_nothing_is_learned_of_the_scales() -> None:
    scales = Scales(config(*BOTH))
    assert not list(scales.parameters())
    assert scales.temperature == 0.15
    assert float(scales.weighted("item", torch.tensor(2.0))) == pytest.approx(0.2)
    assert not list(Scales(config("training.temperature_learned=true")).parameters())


def test_a_temperature_outside_its_bounds_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"begins between its bounds, and 0\.6 is not between 0\.02 and 0\.5"):
        config("training.temperature_learned=true", "training.temperature=0.6")


def test_what_is_learned_is_logged_and_moves(tmp_path: Path) -> None:
    cfg = config(*BOTH, *OPTIONS["temperature"], *OPTIONS["weights"])
    epochs = trained(inputs_of(tmp_path, cfg), cfg).progress.epochs
    for name, start in (("temperature", 0.15), ("w_user", 0.1), ("w_item", 0.1)):
        assert epochs[0][name] != epochs[1][name] != start


@pytest.mark.parametrize("backbone", ["din", "dien"])
def test_norms_are_those_of_the_parts_and_change_nothing(tmp_path: Path, backbone: str) -> None:
    own = () if backbone == "din" else ("model.backbone=dien", "model.dien_auxiliary=0.5", "model.recurrent=4")
    cfg = config(*BOTH, *own, "resources.gradient_norms=3", "training.precision=float64")
    inputs = inputs_of(tmp_path, cfg)
    one, other = (trained(inputs, c) for c in (cfg, cfg.override("resources.gradient_norms=0")))
    assert all(torch.equal(one.progress.best[name], other.progress.best[name]) for name in one.progress.best)
    for epoch in one.progress.epochs:
        assert set(epoch["norms"]) == {"rec", "uu", "ii"} | ({"auxiliary"} if own else set())
        assert epoch["norms"]["uu"]["adapter"] == pytest.approx(epoch["norms"]["uu"]["all"])  # it reaches no other
        assert epoch["norms"]["rec"]["all"] > epoch["norms"]["rec"]["adapter"] > 0
    assert "norms" not in other.progress.epochs[0]


def test_a_norm_is_the_length_of_the_gradient(tmp_path: Path) -> None:
    cfg = config("training.w_item=0.1", "training.precision=float64")
    training = Training(*material(inputs_of(tmp_path, cfg), cfg), cfg)
    model, sums = training.model, {}
    weight = model.item.adapter.body.gate.weight  # type: ignore[union-attr]
    parts = {"rec": 3 * weight.sum() + 4 * model.backbone.head[0].bias.sum(), "ii": 2 * weight[0, 0]}  # type: ignore[index]
    Norms(model, training.group, 2).measure(4, parts, sums)
    Norms(model, training.group, 2).measure(5, parts, sums)
    adapter = 3 * weight.numel() ** 0.5
    whole = (adapter**2 + 16 * model.backbone.head[0].bias.numel()) ** 0.5  # type: ignore[index]
    expected = {"rec": {"adapter": adapter, "all": whole}, "ii": {"adapter": 2, "all": 2}}
    assert {k: pytest.approx(v) for k, v in means(sums).items()} == expected
    assert all(p.grad is None for p in model.parameters())


SHARED = {
    "batch": (*OPTIONS["score"], *OPTIONS["facts"], *OPTIONS["temperature"], *OPTIONS["weights"]),
    "low": (*OPTIONS["low"], *OPTIONS["sum"]),
}


def _worker(rank: int, rendezvous: str, inputs: Inputs, recipes: dict[str, Config], queue: Any) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    group, out = Distributed(), {}
    own = torch.arange(3.0 if rank == 0 else 2.0).unsqueeze(1) + 10 * rank
    own.requires_grad_()
    whole = Gather(group)(own, 5)
    (whole.squeeze(1) @ torch.arange(1.0, 6.0)).backward()
    out["gather"] = (whole.detach().flatten().tolist(), (own.grad / 2).flatten().tolist())  # type: ignore[operator]
    out["empty"] = Gather(group)(torch.zeros(0, 3), 0).shape
    for name, cfg in recipes.items():
        training = Training(*material(inputs, cfg), cfg, group)
        progress = training.run()
        out[name] = (progress.epochs, {k: v.numpy() for k, v in progress.best.items()})
    queue.put((rank, out))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_workers_that_share_the_anchors_agree_with_one(tmp_path: Path) -> None:
    shared = ("training.precision=float64", "training.lr=0.005", "training.batch_size=65", "training.anchors=17")
    cfg = config(*BOTH, *shared, "resources.gradient_norms=2")
    recipes = {name: cfg.override(*changes) for name, changes in SHARED.items()}
    inputs = inputs_of(tmp_path, cfg)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    start = partial(_worker, rendezvous=str(tmp_path / "meet"), inputs=inputs, recipes=recipes, queue=queue)
    workers = [context.Process(target=start, kwargs={"rank": rank}) for rank in range(2)]
    for worker in workers:
        worker.start()
    found = dict(queue.get(timeout=180) for _ in workers)
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    whole = [0, 1, 2, 10, 11]
    assert [found[rank]["gather"] for rank in range(2)] == [(whole, [1, 2, 3]), (whole, [4, 5])]
    assert found[0]["empty"] == (0, 3)
    for name, recipe in recipes.items():
        alone = trained(inputs, recipe).progress
        epochs, best = found[0][name]
        for one, other in zip(alone.epochs, epochs, strict=True):
            for key in set(one) - {"seconds", "validation", "norms", "gates"}:
                assert other[key] == pytest.approx(one[key], abs=1e-8), (name, key)
            for part, norms in one["norms"].items():
                assert other["norms"][part] == pytest.approx(norms, abs=1e-8), (name, part)
        for parameter, value in alone.best.items():
            np.testing.assert_allclose(best[parameter], value.numpy(), atol=1e-8, err_msg=parameter)


def test_what_the_cap_on_facts_took_away_is_told(tmp_path: Path) -> None:
    cfg = config(*BOTH, "training.epochs=1", "training.fact_positives=['shelf']", "training.fact_cap=7")
    inputs = inputs_of(tmp_path, cfg)
    mark = run_stage(MODEL, cfg, inputs.store, inputs.fingerprints, Inline()).fingerprint
    told = {"relations": ["shelf"], "values": 5, "entities": 29, "left_out": 3, "cap": 7}
    assert json.loads(inputs.store.read_text("model", mark, "metrics.json"))["facts"] == told
    assert inputs.store.manifest("model", mark).notes["facts"] == told  # type: ignore[union-attr]
