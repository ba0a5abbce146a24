"""Options that nothing else would notice: whose learning rate, which field values, how many axes, what is hashed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from planted import config, planted

from trawl.inputs import Inputs
from trawl.model.keys import keys
from trawl.training.material import material
from trawl.training.optimizers import Optimizers
from trawl.training.stage import MODEL

LEARNED = ("training.w_item=0.1", "training.temperature_learned=true", "training.weights_learned=true")


def made(tmp_path: Path, *settings: str) -> Any:
    """An untrained model, and what its training reads."""
    cfg = config(*settings)
    store, marks = planted(tmp_path, users=40)
    return material(Inputs(store, {name: marks[name] for name in MODEL.reads(cfg)}), cfg)


def test_adapters_have_their_own_rate_and_what_is_learned_of_the_loss_no_decay(tmp_path: Path) -> None:
    cfg = config(*LEARNED, "training.adapter_lr=0.25", "training.weight_decay=0.5", "training.warmup=0.0")
    model, _ = made(tmp_path, *LEARNED)
    optimizers = Optimizers(model, cfg.training, 10)
    optimizers.begin(0)
    found = {id(p): (g["lr"], g["weight_decay"]) for o in optimizers._all for g in o.param_groups for p in g["params"]}
    assert set(found) == {id(p) for p in model.parameters()}, "each parameter once"
    sides = (model.user, model.item)
    adapters = {id(p) for side in sides for p in side.adapter.parameters()}
    scales = {id(p) for p in model.scales.parameters()}
    assert adapters and len(scales) == 2
    for number, values in found.items():
        rate = 0.25 * cfg.training.lr if number in adapters else cfg.training.lr
        assert values == pytest.approx((rate, 0.0 if number in scales else 0.5))


def test_field_values_that_few_users_share_are_unknown(tmp_path: Path) -> None:
    """A value of a handful of users would act as a user id. Of items every value counts."""
    sizes = []
    for least in (1, 8, 99):
        model, _ = made(tmp_path / str(least), "extraction.source=none", f"model.value_users={least}")
        sizes.append((model.sizes.user_fields["town"], model.sizes.item_fields["shelf"]))
    assert [users - 2 for users, _ in sizes] == [5, 3, 0], "of three towns 8 users train, of two 4"
    assert len({items for _, items in sizes}) == 1


def test_similarity_axes_are_as_many_as_asked_for_and_all_there_are_at_most(tmp_path: Path) -> None:
    for asked, there in ((3, 3), (99, 8)):
        _, found = made(tmp_path / str(asked), "model.similarity=true", f"model.similarity_dim={asked}")
        near = found.world.items.near
        assert near.shape[1] == there
        lengths = near.norm(dim=1)
        assert torch.allclose(lengths[1:-1], torch.ones(29)) and not lengths[[0, -1]].any(), "none without text"


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ("training.fact_cap=7", ("training.w_item=0.1", "training.fact_positives=['shelf']")),
        ("training.low_negatives=7", ("training.w_item=0.1", "training.negatives=low_swing")),
        ("training.temperature_bounds=[0.1, 0.4]", ("training.w_item=0.1", "training.temperature_learned=true")),
        ("training.positive_sampling=score", ("training.w_item=0.1", "training.positives=2")),
        ("training.weights_learned=true", ("training.w_item=0.1",)),
        ("training.adapter_lr=0.5", ()),
        ("model.numeric_bins=4", ("model.numeric_fields=['year']",)),
        ("model.combine=gate", ("model.knowledge=['text', 'kg']",)),
        ("model.cross_experts=9", ("model.backbone=dcnv2", "model.cross_rank=2")),
        ("model.expert_last=relu", ()),
        ("model.similarity_dim=3", ("model.similarity=true",)),
        ("training.compile=true", ()),
    ],
)
def test_an_option_is_hashed_where_it_is_read_and_nowhere_else(change: str, where: tuple[str, ...]) -> None:
    off = {
        "training.compile=true": (),
        "training.adapter_lr=0.5": ("extraction.source=none",),
        "model.expert_last=relu": ("model.adapter=mlp",),
    }

    def hashed(*settings: str) -> dict[str, object]:
        cfg = config(*settings)
        return {key: cfg.get(key) for key in keys(cfg)}

    assert hashed(*where, change) != hashed(*where)
    if base := off.get(change, ("extraction.source=none", "model.knowledge=['text']")):
        assert hashed(*base, change) == hashed(*base)
