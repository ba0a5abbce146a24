"""The product of axes as arms: names, overrides, what is left out and why, and faults that are told."""

import pytest
import small

from trawl import arms, experiment
from trawl.config import Config
from trawl.errors import ConfigError

KNOWLEDGE = {
    "raw": {"extraction": {"source": "raw"}},
    "given": {"needs": "extraction.given", "extraction": {"source": "given"}},
}
ADAPTER = {"raw": {"model": {"adapter": "raw"}}, "moe": {"model": {"adapter": "moe", "experts": 2}}}
LOSS = {"plain": {}, "cl": {"training": {"w_item": 0.004}}}


def crossed(**axes: object) -> Config:
    recipe = small.config("experiment.arms.none.extraction.source=none", "training.w_user=0", "training.w_item=0")
    return recipe.override(("experiment.cross", axes))


def test_every_product_of_levels_is_an_arm_behind_the_named_ones() -> None:
    found = arms.chosen(crossed(knowledge={"raw": KNOWLEDGE["raw"]}, adapter=ADAPTER, loss={"plain": {}}))
    assert found.arms == {
        "none": {"extraction.source": "none"},
        "raw+raw+plain": {"extraction.source": "raw", "model.adapter": "raw"},
        "raw+moe+plain": {"extraction.source": "raw", "model.adapter": "moe", "model.experts": 2},
    }
    assert not found.left_out


def test_what_the_recipe_refuses_and_what_needs_an_empty_key_is_left_out_with_its_reason() -> None:
    found = arms.chosen(crossed(knowledge=KNOWLEDGE, adapter=ADAPTER, loss=LOSS))
    assert list(found.arms) == ["none", "raw+raw+plain", "raw+moe+plain", "raw+moe+cl"]
    assert "no parameters" in found.left_out["raw+raw+cl"]
    assert {a for a in found.left_out if a.startswith("given")} == {
        f"given+{x}" for x in ("raw+plain", "raw+cl", "moe+plain", "moe+cl")
    }
    assert found.left_out["given+moe+cl"] == "extraction.given is not set"


def test_the_arms_become_cells() -> None:
    cells = experiment.expand(
        crossed(knowledge={"raw": KNOWLEDGE["raw"]}, loss=LOSS).override("experiment.reference=none")
    )
    assert [(c.arm, c.cfg.extraction.source, c.cfg.training.w_item) for c in cells] == [
        ("none", "none", 0.0),
        ("raw+plain", "raw", 0.0),
        ("raw+cl", "raw", 0.004),
    ]


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({"a": {"b": {"training": {"lrr": 1}}}}, r"experiment\.cross\.a\.b.*training\.lrr.*did you mean"),
        ({"a": {"b": {"training": {"lr": -1}}}}, r"experiment\.cross\.a\.b.*training\.lr"),
        ({"a": {"none": {}}}, r"'none' is also a name under experiment\.arms"),
        ({"a": {}}, "axis 'a' has no level"),
        ({"a": {"x/y": {}}}, "holds no slash"),
    ],
)
def test_a_level_that_is_wrong_is_named(axes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        arms.chosen(crossed(**axes))


def test_a_level_may_be_written_as_settings() -> None:
    cfg = small.config("experiment.cross.a.b.training.lr=0.1", "experiment.cross.a.c.training.lr=0.2")
    assert arms.chosen(cfg).arms == {"b": {"training.lr": 0.1}, "c": {"training.lr": 0.2}}
    with pytest.raises(ConfigError, match="no such key"):
        small.config("experiment.cross.a=1x", "experiment.crosses.a.b.training.lr=0.1")
