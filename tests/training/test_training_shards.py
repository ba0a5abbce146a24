"""Batches with fewer rows than workers: a worker without any changes nothing, whatever the backbone."""

import numpy as np
import pytest
import torch
from planted import config, planted

from trawl.inputs import Inputs
from trawl.sections_model import BACKBONES
from trawl.training.group import Alone, Array
from trawl.training.loop import Training
from trawl.training.material import material
from trawl.training.stage import MODEL

SIMILAR = ("model.similarity=true", "model.adapted_similarity=true")


class Second(Alone):
    """The second of two workers, the first of whom is not there."""

    rank, size = 1, 2

    def gather(self, piece: Array) -> Array:
        return np.concatenate([piece, piece])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    store, marks = planted(tmp_path_factory.mktemp("shards"), users=16)
    return Inputs(store, {name: marks[name] for name in MODEL.reads(config())}, work=("model", "x", "_work"))


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("more", [(), SIMILAR], ids=["plain", "similarity"])
def test_a_worker_without_a_row_has_gradients_of_zero(world: Inputs, backbone: str, more: tuple[str, ...]) -> None:
    own = ("model.dien_auxiliary=0.5",) if backbone == "dien" else ()
    cfg = config(f"model.backbone={backbone}", *own, *more)
    model, found = material(world, cfg)
    training = Training(model, found, cfg, Second())
    training._step(0, np.array([3]))
    assert training.progress.sums == [0.0] * len(training.progress.sums)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and not any(torch.count_nonzero(g.to_dense()) for g in gradients)
    training._step(1, np.array([3, 4]))
    assert training.progress.sums[0] > 0


def test_a_state_of_two_workers_is_gone_on_from_by_one_and_by_two(world: Inputs) -> None:
    """What is reported of an epoch is the workers' mean, so one worker goes on from that."""
    model, found = material(world, config())
    state = Training(model, found, config()).state()
    count = len(state["sums"][0])
    state["sums"] = [[1.0] * count, [3.0] * count]
    ends = []
    for group in (Alone(), Second()):
        training = Training(*material(world, config()), config(), group)
        training.restore(state)
        ends.append(training.progress.sums[0])
    assert ends == [2.0, 3.0]


def test_workers_draw_dropout_of_their_own(world: Inputs) -> None:
    place = Training(*material(world, config()), config()).place
    drawn = []
    for words in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0)):
        place.begin(*words)
        drawn.append(float(torch.rand(())))
    assert drawn[0] == drawn[-1]
    assert len(set(drawn)) == 4
