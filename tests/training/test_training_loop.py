"""The loop: joint loss, early stop, resume, several workers that agree with one."""

import multiprocessing
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted import config, planted

from trawl.config import Config
from trawl.inputs import Inputs
from trawl.training.group import Distributed
from trawl.training.loop import Progress, Training
from trawl.training.material import material
from trawl.training.stage import MODEL

CONTRASTIVE = ("training.w_item=0.1", "training.w_user=0.1", "model.adapted_similarity=true", "training.positives=2")


def inputs_of(tmp_path: Path, cfg: Config, **world: Any) -> Inputs:
    store, marks = planted(tmp_path, **world)
    return Inputs(store, {name: marks[name] for name in MODEL.reads(cfg)}, work=("model", "x", "_work"))


def trained(inputs: Inputs, cfg: Config) -> tuple[Progress, Training]:
    model, found = material(inputs, cfg)
    training = Training(model, found, cfg)
    return training.run(), training


def test_the_loss_is_the_weighted_sum_of_its_parts(tmp_path: Path) -> None:
    cfg = config(*CONTRASTIVE, "training.epochs=2", "training.precision=float64")
    progress, _ = trained(inputs_of(tmp_path, cfg), cfg)
    for epoch in progress.epochs:
        assert epoch["uu"] > 0
        assert epoch["ii"] > 0
        assert epoch["loss"] == pytest.approx(epoch["rec"] + 0.1 * epoch["uu"] + 0.1 * epoch["ii"])
    assert progress.epochs[1]["loss"] < progress.epochs[0]["loss"]


def test_training_is_reproducible_and_the_seed_decides(tmp_path: Path) -> None:
    cfg = config("training.epochs=1")
    inputs = inputs_of(tmp_path, cfg)
    one, same, other = (trained(inputs, c)[0].epochs[0]["rec"] for c in (cfg, cfg, cfg.override("training.seed=1")))
    assert one == same != other


def test_patience_stops_and_the_best_epoch_is_kept(tmp_path: Path) -> None:
    cfg = config("training.epochs=30", "training.patience=1", "training.lr=0.1")
    progress, training = trained(inputs_of(tmp_path, cfg), cfg)
    auc = [e["validation"]["auc"] for e in progress.epochs]
    assert len(auc) < 30
    assert progress.best_epoch == int(np.argmax(auc)) == len(auc) - 2
    training.model.load_state_dict(progress.best)
    valid = training.material.valid
    from trawl.training import metrics

    assert metrics.auc(valid.label, training.scores(valid)) == max(auc)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse-tables"])
def test_a_restored_training_ends_as_the_undisturbed_one(tmp_path: Path, sparse: bool) -> None:
    cfg = config(*CONTRASTIVE, "training.epochs=3", "resources.checkpoint_steps=7")
    if sparse:
        cfg = cfg.override("training.batch_size=4", "model.history=1")
    inputs = inputs_of(tmp_path, cfg)
    states: list[Any] = []
    model, found = material(inputs, cfg)
    whole = Training(model, found, cfg)
    assert whole.model.user.ids.sparse == sparse
    kept = tmp_path / "state.pt"

    def report(record: dict[str, Any] | None, state: Any) -> None:
        states.append(record)
        if record is None and whole.progress.epoch == 1 and not kept.exists():
            torch.save(state(), kept)

    end = whole.run(report)
    model, found = material(inputs, cfg)
    resumed = Training(model, found, cfg)
    resumed.restore(torch.load(kept, weights_only=True))
    assert (resumed.progress.epoch, resumed.progress.step) == (1, 7)
    again = resumed.run()
    for one, other in zip(end.epochs, again.epochs, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}
    assert all(torch.equal(end.best[name], again.best[name]) for name in end.best)


def _worker(rank: int, size: int, rendezvous: str, inputs: Inputs, cfg: Config, queue: Any) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=size)
    model, found = material(inputs, cfg)
    training = Training(model, found, cfg, Distributed())
    progress = training.run()
    if rank == 0:
        queue.put((progress.epochs, {k: v.numpy() for k, v in progress.best.items()}))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("batch", [4, 10], ids=["sparse-tables", "dense"])
def test_two_workers_agree_with_one_on_the_same_global_batches(tmp_path: Path, batch: int) -> None:
    """Over more than 100 steps, contrastive parts included, uneven shards too: 11 rows on two workers, and 1 row."""
    cfg = config(*CONTRASTIVE, "training.precision=float64", f"training.batch_size={batch + 1}", "model.history=1")
    cfg = cfg.override(f"training.epochs={2 if batch == 4 else 4}", "training.patience=99", "training.lr=0.005")
    inputs = inputs_of(tmp_path, cfg, users=40)
    alone, training = trained(inputs, cfg)
    assert training.steps * len(alone.epochs) > 100
    assert training.model.user.ids.sparse == (batch == 4)
    assert batch == 4 or len(training.material.train) % (batch + 1) == 1  # one of the workers has no row
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    start = partial(_worker, size=2, rendezvous=str(tmp_path / "meet"), inputs=inputs, cfg=cfg, queue=queue)
    workers = [context.Process(target=start, kwargs={"rank": rank}) for rank in range(2)]
    for worker in workers:
        worker.start()
    epochs, best = queue.get(timeout=120)
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    for ours, theirs in zip(epochs, alone.epochs, strict=True):
        for name in ("loss", "rec", "uu", "ii"):
            assert ours[name] == pytest.approx(theirs[name], abs=1e-8)
        assert ours["validation"] == pytest.approx(theirs["validation"], abs=1e-8)
    for name, value in alone.best.items():
        np.testing.assert_allclose(best[name], value.numpy(), atol=1e-8, err_msg=name)


def test_the_frozen_vectors_and_untrained_tables_stay_as_they_were(tmp_path: Path) -> None:
    cfg = config(*CONTRASTIVE, "model.similarity=true")
    inputs = inputs_of(tmp_path, cfg)
    model, found = material(inputs, cfg)
    side = found.world.items
    before = [side.vectors.rows(None).clone(), side.near.clone(), side.rows.clone()]  # type: ignore[union-attr]
    Training(model, found, cfg).run()
    after = [side.vectors.rows(None), side.near, side.rows]  # type: ignore[union-attr]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))  # type: ignore[arg-type]


def test_a_learning_rate_rises_then_falls_to_nothing(tmp_path: Path) -> None:
    cfg = config("training.warmup=0.25")
    model, found = material(inputs_of(tmp_path, cfg), cfg)
    optimizers = Training(model, found, cfg).optimizers
    rates = [optimizers.rate(step) for step in range(optimizers.total + 1)]
    peak = int(np.argmax(rates))
    assert rates[peak] == pytest.approx(1.0)
    assert peak == pytest.approx(0.25 * optimizers.total, abs=1)
    assert all(a < b for a, b in pairwise(rates[: peak + 1]))
    assert rates[-1] == 0.0
