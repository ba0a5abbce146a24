"""What several workers exchange: gradients that not all of them have, and own backbones that leave some out."""

import multiprocessing
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted import config, planted
from torch import Tensor, nn

from trawl.config import Config
from trawl.inputs import Inputs
from trawl.training.group import Distributed
from trawl.training.loop import Training
from trawl.training.material import material
from trawl.training.stage import MODEL

MODELS = str(Path(__file__).parents[1] / "model")  # own_backbone lies there
Work = Callable[[Distributed], Any]


def _start(rank: int, meet: str, work: Work, queue: Any) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=2)
    try:
        queue.put((rank, work(Distributed())))
    except Exception as error:
        queue.put((rank, error))
        raise
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def on_two(tmp_path: Path, work: Work) -> list[Any]:
    """What each of two workers made of it."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    start = partial(_start, meet=str(tmp_path / "meet"), work=work, queue=queue)
    workers = [context.Process(target=start, kwargs={"rank": rank}, daemon=True) for rank in range(2)]
    for worker in workers:
        worker.start()
    found = dict(queue.get(timeout=180) for _ in workers)
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0, found
    return [found[rank] for rank in range(2)]


def _rows(*rows: tuple[int, float]) -> Tensor:
    """The gradient of a table of 4 rows of 2 numbers, in these rows."""
    values = torch.tensor([[value, -value] for _, value in rows], dtype=torch.float64)
    return torch.sparse_coo_tensor(torch.tensor([[row for row, _ in rows]]), values, (4, 2), check_invariants=True)


GRADIENTS: dict[str, tuple[Tensor | None, Tensor | None]] = {  # of either worker
    "nobody's": (None, None),
    "dense": (torch.full((4, 2), 1.0), torch.full((4, 2), 4.0)),
    "dense of one": (None, torch.full((4, 2), 4.0)),
    "sparse": (_rows((3, 1), (1, 2), (3, 4)), _rows((3, 7))),
    "sparse of one": (_rows((0, 6)), None),
    "of both kinds": (_rows((2, 6)), torch.full((4, 2), 2.0)),
}


def _averages(group: Distributed) -> dict[str, Any]:
    found = {name: nn.Parameter(torch.zeros(4, 2, dtype=torch.float64)) for name in GRADIENTS}
    for name, parameter in found.items():
        own = GRADIENTS[name][group.rank]
        parameter.grad = None if own is None else own.double()
    group.average(found.values())
    grads = {name: parameter.grad for name, parameter in found.items()}
    return {n: None if g is None else (g.is_sparse, g.to_dense().tolist()) for n, g in grads.items()}


def test_gradients_that_not_all_workers_have_are_averaged(exchanged: list[dict[str, Any]]) -> None:
    one, other = (found["averages"] for found in exchanged)
    assert one == other
    assert one["nobody's"] is None
    for name in GRADIENTS.keys() - {"nobody's"}:
        sparse, mean = one[name]
        pieces = [own.to_dense() for own in GRADIENTS[name] if own is not None]
        np.testing.assert_allclose(mean, (sum(pieces, start=torch.zeros(4, 2)) / 2).numpy(), err_msg=name)
        assert sparse == name.startswith("sparse"), name


def _trains(group: Distributed | None, inputs: Inputs, cfg: Config) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    sys.path.insert(0, MODELS)
    training = Training(*material(inputs, cfg), cfg, group)
    progress = training.run()
    sys.path.remove(MODELS)
    return progress.epochs, {name: value.numpy() for name, value in progress.best.items()}


def agrees(tmp_path: Path, cfg: Config) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What one worker trained, as did two."""
    store, marks = planted(tmp_path, users=40)
    inputs = Inputs(store, {name: marks[name] for name in MODEL.reads(cfg)}, work=("model", "x", "_work"))
    work = partial(_trains, inputs=inputs, cfg=cfg)
    epochs, best = work(None)
    for theirs, weights in on_two(tmp_path, work):
        for one, other in zip(epochs, theirs, strict=True):
            for key in set(one) - {"seconds", "gates", "norms", "validation"}:
                assert other[key] == pytest.approx(one[key], abs=1e-8), key
            assert other["validation"] == pytest.approx(one["validation"], abs=1e-8)
            assert other["norms"].keys() == one["norms"].keys()
            for part, norms in one["norms"].items():
                assert other["norms"][part] == pytest.approx(norms, abs=1e-8), part
        for name, value in best.items():
            np.testing.assert_allclose(weights[name], value, atol=1e-8, err_msg=name)
    return epochs, best


SMALL = ("training.precision=float64", "training.epochs=2", "training.lr=0.005", "model.history=1")


def test_a_backbone_that_does_not_read_users_leaves_their_table_and_its_unused_layers_as_they_were(
    tmp_path: Path,
) -> None:
    """With sparse tables and a decay: what has no gradient neither fails nor shrinks, by any number of workers."""
    own = ("model.backbone=own_backbone:OfItems", "training.batch_size=5", "training.weight_decay=0.1")
    cfg = config(*own, *SMALL, "extraction.source=none", "resources.gradient_norms=3")
    _, best = agrees(tmp_path, cfg)
    np.testing.assert_array_equal(best["backbone.unused"], 1.0)


def test_a_loss_of_its_own_that_not_every_batch_has_is_the_same_by_any_number_of_workers(tmp_path: Path) -> None:
    """Measured at each step, of which many have it in one worker's rows alone."""
    own = ("model.backbone=own_backbone:Sometimes", "training.batch_size=11")
    epochs, _ = agrees(tmp_path, config(*own, *SMALL, "extraction.source=none", "resources.gradient_norms=1"))
    for epoch in epochs:
        assert epoch["auxiliary"] > 0
        assert epoch["norms"]["auxiliary"]["all"] > 0


BUFFERS: dict[str, tuple[Tensor, Tensor, Tensor]] = {  # of either worker, and what both have afterwards
    "differs": (torch.tensor([1.0, 2.0]), torch.tensor([3.0, 8.0]), torch.tensor([2.0, 5.0])),
    "one number": (torch.tensor(0.5), torch.tensor(1.0), torch.tensor(0.75)),
    "half": (torch.ones(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.bfloat16), torch.full((2,), 0.5)),
    "count": (torch.tensor(2**60 + 1), torch.tensor(5), torch.tensor(2**60 + 1)),
    "small": (
        torch.tensor([[7], [8]], dtype=torch.int16),
        torch.zeros(2, 1, dtype=torch.int16),
        torch.tensor([[7], [8]]),
    ),
    "flags": (torch.tensor([True, False]), torch.tensor([False, False]), torch.tensor([True, False])),
    "transposed": (torch.eye(2).t(), torch.ones(2, 2).t(), torch.tensor([[1.0, 0.5], [0.5, 1.0]])),
    "constant": (torch.full((1000,), 0.1), torch.full((1000,), 0.1), torch.full((1000,), 0.1)),
    "empty": (torch.zeros(0), torch.zeros(0), torch.zeros(0)),
}


def _agreed(group: Distributed) -> tuple[dict[str, Any], list[int]]:
    counting = _Counting()
    buffers = {name: values[group.rank].clone() for name, values in BUFFERS.items()}
    counting.agree(buffers.values())
    counting.agree([])
    return {name: buffer.tolist() for name, buffer in buffers.items()}, counting.sent


def test_buffers_that_differ_are_made_the_same_and_no_others_are_sent(exchanged: list[dict[str, Any]]) -> None:
    for found, sent in (worker["agreed"] for worker in exchanged):
        assert found == {name: after.tolist() for name, (_, _, after) in BUFFERS.items()}
        assert sent == [len(BUFFERS), 2, 1, 2, 8, 4, 2, 4]  # of whole numbers and flags the bytes


def _watches(group: Distributed | None, inputs: Inputs, cfg: Config) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The buffers in each state that is saved, and in the end."""
    sys.path.insert(0, MODELS)
    saved: list[dict[str, Any]] = []
    training = Training(*material(inputs, cfg), cfg, group)

    def report(record: Any, state: Any) -> None:
        found = state()["model"] if record is None else state()["progress"]["best"]
        saved.append({k: v.tolist() for k, v in found.items() if k.startswith("backbone.") and "head" not in k})

    training.run(report)
    sys.path.remove(MODELS)
    return saved, {name: buffer.tolist() for name, buffer in training.model.backbone.named_buffers()}


def test_statistics_of_an_own_backbone_are_of_all_workers_when_they_are_saved(tmp_path: Path) -> None:
    """At checkpoints and at the end of an epoch. Shares are of one size here, so the mean is one worker's."""
    own = ("model.backbone=own_backbone:Watching", "training.batch_size=64", "resources.checkpoint_steps=2")
    cfg = config(*own, *SMALL, "extraction.source=none")
    store, marks = planted(tmp_path, users=40)
    inputs = Inputs(store, {name: marks[name] for name in MODEL.reads(cfg)}, work=("model", "x", "_work"))
    work = partial(_watches, inputs=inputs, cfg=cfg)
    (saved, alone), (one, first), (other, second) = work(None), *on_two(tmp_path, work)
    assert one == other
    assert len(one) == len(saved) > 4
    assert one[0].keys() == {f"backbone.{name}" for name in alone} - {"backbone.met"}
    assert first["norm.running_mean"] == pytest.approx(alone["norm.running_mean"], abs=1e-8)
    assert first["constant"] == second["constant"] == alone["constant"]
    assert first["met"] != second["met"]


class _Counting(Distributed):
    """Notes how many numbers it sends each time."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[int] = []
        self.dist = _Noting(self.dist, self.sent)  # type: ignore[assignment]


class _Noting:
    def __init__(self, dist: Any, sent: list[int]) -> None:
        self.dist, self.sent = dist, sent

    def all_reduce(self, tensor: Tensor) -> None:
        self.sent.append(tensor.numel())
        self.dist.all_reduce(tensor)

    def broadcast(self, tensor: Tensor, source: int) -> None:
        self.sent.append(tensor.numel())
        self.dist.broadcast(tensor, source)

    def all_gather(self, everyone: list[Tensor], tensor: Tensor) -> None:
        self.sent.append(tensor.numel())
        self.dist.all_gather(everyone, tensor)


def _sends(group: Distributed) -> list[int]:
    counting = _Counting()
    tables = [nn.Parameter(torch.zeros(100_000, 8)) for _ in range(2)]
    layer = nn.Parameter(torch.zeros(3, 5))
    layer.grad = torch.ones_like(layer)
    counting.average([*tables, layer])
    return counting.sent


def test_what_no_worker_has_touched_is_not_sent(exchanged: list[dict[str, Any]]) -> None:
    """As when the norm of a contrastive part is measured, whose gradient no ID table has."""
    assert [found["sends"] for found in exchanged] == [[3, 15], [3, 15]]


def _exchanges(group: Distributed) -> dict[str, Any]:
    return {"averages": _averages(group), "agreed": _agreed(group), "sends": _sends(group)}


@pytest.fixture(scope="module")
def exchanged(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two workers made of all that needs no training."""
    return on_two(tmp_path_factory.mktemp("exchanged"), _exchanges)
