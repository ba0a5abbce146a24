"""Recipes and keys: what is accepted, and how what is not is named."""

import os
from pathlib import Path

import pytest

from trawl import config, recipes
from trawl.config import Config
from trawl.errors import ConfigError


@pytest.mark.parametrize("name", recipes.shipped())
def test_shipped_recipes_load(name: str) -> None:
    given = [] if name == "demo" else ["data.path=/data", "extraction.given=/given.parquet"]
    assert recipes.load(name, given).name == name


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("trainig.lr=1", "did you mean training.lr?"),
        ("training.lrr=1", "did you mean training.lr?"),
        ("lr=1", "did you mean training.lr?"),
        ("training.lr=-1", "training.lr"),
        ("training.epochs=many", "training.epochs"),
        ("model.backbone=dim", "model.backbone"),
        ("training.lr", "section.key=value"),
        ("data.split=[0.5, 0.1, 0.1]", "sum to 1"),
        ("training.lr=inf", "recipe: training.lr: Input should be a finite number"),
        ("training.temperature_bounds=[0.02, inf]", "training.temperature_bounds.1: Input should be a finite number"),
        ("training.w_item=nan", "training.w_item"),
        ("training.seed=-1", "training.seed: Input should be greater than or equal to 0"),
        ("data.split_seed=99999999999999999999", "data.split_seed: Input should be less than"),
        ("model.hidden=[200, 0]", "model.hidden.1: Input should be greater than or equal to 1"),
        ("model.attention=[-3]", "model.attention.0"),
        ("extraction.source=given", "extraction.given is needed"),
        ("resources.training_workers=2", "recipe: resources.launcher = task trains on one worker"),
        ('experiment.arms={"a/b"={}}', "recipe: experiment.arms: arm 'a/b': a name is not empty and holds no slash"),
        ('experiment.arms={" "={}}', "arm ' '"),
    ],
)
def test_a_wrong_setting_is_named(setting: str, says: str) -> None:
    with pytest.raises(ConfigError, match=r".") as caught:
        Config().override("resources.launcher=task", setting)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_are_typed_and_leave_the_original_alone() -> None:
    base = Config()
    changed = base.override("training.lr=0.25", "model.hidden=[8, 4]", ("data.split_seed", 7), "extraction.source=raw")
    assert (changed.training.lr, changed.model.hidden, changed.data.split_seed) == (0.25, (8, 4), 7)
    assert changed.extraction.source == "raw"
    assert base == Config()


def test_an_unknown_key_in_a_file_is_named(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("[swing]\nnormalise = 'cosine'\n")
    with pytest.raises(ConfigError, match=r"swing\.normalise.*did you mean swing\.normalize"):
        recipes.load(str(recipe))


@pytest.mark.parametrize(
    ("content", "says"), [(b"[data", "not valid TOML"), (b"name = '\xff'", "cannot be read"), (None, "cannot be read")]
)
def test_a_broken_recipe_is_named(tmp_path: Path, content: bytes | None, says: str) -> None:
    recipe = tmp_path / "mine.toml"
    if content is not None:
        recipe.write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        recipes.load(str(recipe))


def test_an_unknown_recipe_names_the_shipped_ones() -> None:
    with pytest.raises(ConfigError, match="demo"):
        recipes.load("no-such-recipe")


def test_extending(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("[training]\nlr = 0.5\nepochs = 7\n[experiment.arms.a]\n[experiment.arms.b]\n")
    (tmp_path / "child.toml").write_text("extends = 'base.toml'\n[training]\nlr = 0.1\n[experiment.arms.c]\n")
    cfg = recipes.load(str(tmp_path / "child.toml"))
    assert (cfg.name, cfg.training.lr, cfg.training.epochs) == ("child", 0.1, 7)
    assert list(cfg.experiment.arms) == ["c"]
    (tmp_path / "base.toml").write_text("extends = 'child.toml'\n")
    with pytest.raises(ConfigError, match="extends itself"):
        recipes.load(str(tmp_path / "child.toml"))


def test_resources_are_not_part_of_a_recipes_identity() -> None:
    base = Config()
    assert base.override("resources.actors=7").digest() == base.digest()
    assert base.override("training.lr=0.7").digest() != base.digest()


def test_flat_and_get_agree() -> None:
    cfg = Config()
    tree = config.flat(cfg.model_dump(mode="json"))
    for key in config.valid_keys():
        value = cfg.get(key)
        assert (list(value) if isinstance(value, tuple) else value) == tree.get(key, {})
    assert os.path.sep not in "".join(config.valid_keys())
