"""What a study tries: the grid of one at a time, random draws, the arm, and what is refused before anything runs."""

import tomllib
from pathlib import Path

import pytest
import small

from trawl import experiment
from trawl.config import Config
from trawl.errors import AskedWrongly, ConfigError
from trawl.recipes import load, shipped
from trawl.runs import claim
from trawl.store import Store
from tune import contrastive, points, recipe

ARMS = (
    "experiment.arms.none.extraction.source=none",
    "experiment.arms.both.training.w_user=0.004",
    "experiment.arms.both.training.w_item=0.008",
    "experiment.arms.item.model.side=item",
    "experiment.arms.raw.model.adapter=raw",
    "experiment.arms.raw.training.w_user=0",
    "experiment.arms.raw.training.w_item=0",
    "experiment.arms.own.needs=extraction.given",
)
GRID = ("search.w_user=[0.001, 0.004]", "search.w_item=[0.016]", "search.temperature=[0.1, 0.15, 0.3]")


def base(*settings: str) -> Config:
    return points.base(small.config(*ARMS, *settings))


def test_one_at_a_time_varies_one_value_around_the_arm() -> None:
    found = {p.name: tuple(p.values[a] for a in points.AXES) for p in points.planned(base("search.arm=both", *GRID))}
    assert found == {
        "baseline": (0, 0, 0.15),
        "base": (0.004, 0.008, 0.15),
        "w_user=0.001": (0.001, 0.008, 0.15),
        "w_item=0.016": (0.004, 0.016, 0.15),
        "temperature=0.1": (0.004, 0.008, 0.1),
        "temperature=0.3": (0.004, 0.008, 0.3),
    }
    assert next(iter(found)) == "baseline", "the first arm is the reference"


def test_a_side_without_an_adapter_is_not_searched() -> None:
    cfg = base("search.arm=item", *GRID)
    assert points.searched(cfg) == ["w_item", "temperature"]
    assert all(p.values["w_user"] == 0 for p in points.planned(cfg))
    assert points.searched(base("search.arm=both", *GRID, "search.w_item=[]")) == ["w_user", "temperature"]


def test_random_draws_lie_in_the_ranges_and_begin_alike_with_more_trials() -> None:
    settings = ("search.arm=both", "search.method=random", "search.w_item=[]", "search.temperature=[0.05, 0.3]")
    few, many = (points.planned(base(*settings, f"search.trials={n}")) for n in (4, 30))
    assert [p.values for p in few] == [p.values for p in many[:5]]
    assert few[0].name == "baseline" and len(many) == 31
    for point in many[1:]:
        assert 0.001 <= point.values["w_user"] <= 0.016 and 0.05 <= point.values["temperature"] <= 0.3
        assert point.values["w_item"] == 0.008, "what is not searched keeps the arm's value"
    assert sum(p.values["w_user"] < 0.004 for p in many[1:]) == pytest.approx(15, abs=9), "log-uniform: half below"
    assert points.planned(base(*settings, "search.seed=1"))[1].values != few[1].values


def test_optuna_knows_the_baseline_alone_beforehand_and_its_far_end_needs_every_table() -> None:
    cfg = base("search.arm=both", "search.method=optuna")
    assert [p.name for p in points.planned(cfg)] == ["baseline"]
    (far,) = points.cells(cfg, [points.far_end(cfg)], 1)
    assert {"user_positives", "item_positives"} <= set(far.fingerprints)
    assert far.cfg.training.w_user == 0.016


def test_cells_are_cells_of_an_experiment_up_to_the_model() -> None:
    cfg = base("search.arm=both", *GRID)
    cells = points.cells(cfg, points.planned(cfg), 2)
    assert [c.name for c in cells[:2]] == ["baseline/0", "base/0"] and len(cells) == 12
    assert all("model" in c.fingerprints and "predictions" not in c.fingerprints for c in cells)
    assert len({c.fingerprints["model"] for c in cells}) == 12
    assert len({c.fingerprints["item_embeddings"] for c in cells}) == 1
    assert cells[6].cfg.data.split_seed == 1 and cells[6].cfg.training.seed == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("search.arm=nonsense",), r"search\.arm = 'nonsense' is no arm of the recipe \(none, both, item, raw, own\)"),
        (("search.arm=own",), r"search\.arm = 'own' is left out: extraction\.given is not set"),
        (("search.arm=none",), r"search\.arm = 'none' has no adapter"),
        (("search.arm=raw",), r"search\.arm = 'raw' has no adapter"),
        (("resources.launcher=ray_train", "resources.training_workers=2"), r"training_workers = 2: .*set it to 1"),
        (("search.arm=item", "search.w_item=[]", "search.temperature=[]"), "search names no values for it"),
    ],
)
def test_what_cannot_be_searched_is_refused(settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        base(*settings)


def test_an_arm_without_the_loss_has_nothing_to_vary_one_value_of() -> None:
    cfg = base("training.w_user=0", "training.w_item=0")
    with pytest.raises(ConfigError, match=r"training\.w_user = training\.w_item = 0.*search\.method = random"):
        points.planned(cfg)
    assert len(points.planned(cfg.override("search.method=random", "search.trials=3"))) == 4


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("search.method=grid", "one-at-a-time"),
        ("search.w_user=[-0.1]", r"search\.w_user"),
        ("search.temperature=[0.0]", r"search\.temperature"),
        ("search.trails=3", r"did you mean search\.trials"),
    ],
)
def test_a_wrong_key_or_value_is_named(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small.config(setting)


@pytest.mark.parametrize("method", ["random", "optuna"])
def test_a_range_has_two_ends_above_0(method: str) -> None:
    with pytest.raises(ConfigError, match=r"search\.w_user: .* two ends of a range above 0"):
        small.config(f"search.method={method}", "search.w_user=[0.0, 0.1]")
    with pytest.raises(ConfigError, match=r"search\.repetitions > 1 needs search\.method = one-at-a-time"):
        small.config(f"search.method={method}", "search.repetitions=2")
    with pytest.raises(ConfigError, match="all empty"):
        small.config("search.w_user=[]", "search.w_item=[]", "search.temperature=[]")


def test_the_search_belongs_to_a_study_and_not_to_a_run(tmp_path: Path) -> None:
    one, two = small.config(), small.config("search.trials=7")
    assert one.digest() == two.digest() and one.digest(study=True) != two.digest(study=True)
    store = Store(str(tmp_path))
    claim(store, "s", one, [], study=True)
    with pytest.raises(AskedWrongly, match=r"search\.trials: 20 there, 7 here"):
        claim(store, "s", two, [], study=True)
    with pytest.raises(AskedWrongly, match=r"'s' in .* is a study; give another --name"):
        claim(store, "s", one, [])
    claim(store, "r", one, [])
    with pytest.raises(AskedWrongly, match=r"'r' in .* is a run; give another --name"):
        claim(store, "r", one, [], study=True)


def test_the_best_point_is_a_recipe(tmp_path: Path) -> None:
    cfg = base("search.arm=both", 'linking.truth="odd \\u007f \\" name\\n"', "extraction.source=extracted")
    best = points.Point("x", {"w_user": 0.002, "w_item": 0.5, "temperature": 0.07})
    path = tmp_path / "best.toml"
    path.write_text(recipe.text(cfg, best, "s"), encoding="utf-8")
    found = load(str(path))
    assert found.name == "s-best" and found.linking.truth == 'odd \x7f " name\n'
    assert (found.training.w_user, found.training.w_item, found.training.temperature) == (0.002, 0.5, 0.07)
    cells = {cell.arm: cell.cfg for cell in experiment.expand(found.override("linking.truth=''"), "users")}
    assert set(cells) == {"baseline", "best"} and found.experiment.reference == "baseline"
    assert cells["baseline"].training.w_user == cells["baseline"].training.w_item == 0
    assert cells["best"].training == found.training
    for section in ("data", "linking", "extraction", "encoding", "swing", "model", "resources"):
        assert found.get(section) == cfg.get(section), section
    assert "search" not in tomllib.loads(path.read_text(encoding="utf-8"))


def test_shipped_recipes_name_an_arm_that_can_be_searched() -> None:
    found = [name for name in shipped() if (load(name, ["data.path=x"])).search.arm]
    assert {"demo", "ml1m"} <= set(found)
    for name in found:
        assert len(points.planned(points.base(load(name, ["data.path=x"])))) >= 10  # of an arm on one side


def test_the_command_line_says_in_one_line_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert contrastive.main(["demo", "--store", str(tmp_path), "--set", "search.arm=nothing"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1
    assert "search.arm = 'nothing' is no arm" in said.err
    assert not list(tmp_path.iterdir())
