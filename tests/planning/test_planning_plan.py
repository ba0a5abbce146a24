"""A plan against the run that follows: counts, tokens, what is cached; and that planning leaves no answer behind."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import small

sys.path.insert(0, str(Path(__file__).parents[1] / "extraction"))
from tiny_model import make_tiny_qwen2

from trawl import cli, experiment, pipeline
from trawl.config import Config
from trawl.errors import ConfigError
from trawl.executors import Inline
from trawl.extraction.cache import AnswerCache
from trawl.inputs import Inputs
from trawl.planning import front, sample, table, work
from trawl.store import Store

WORLD = ("data.synthetic.users=600", "data.synthetic.items=300", "data.partitions=5", "extraction.max_answer_tokens=64")
SAMPLE = ("plan.sample_users=150", "plan.sample_items=100", "plan.probe_prompts=40")


class OnlySmall(Inline):
    """Functions may be called; what comes back to the driver is small, however many users there are."""

    largest = 0

    def call(self, function: Any, *arguments: Any) -> Any:
        out = super().call(function, *arguments)
        for found in out if isinstance(out, tuple) else (out,):
            self.largest = max(self.largest, getattr(found, "num_rows", 0))
        return out


def planned(cfg: Config, store: Store, probe: bool = False, executor: Inline | None = None) -> dict[str, Any]:
    tree = front.plan(cfg, store, executor or Inline(), lambda outcome, cell: None, probe)
    json.dumps(tree)
    assert table.lines(tree)
    return tree


def side(tree: Mapping[str, Any], name: str) -> dict[str, Any]:
    (found,) = [row for row in tree["prompts"] if row["side"] == name]
    return dict(found)


def answer(store: Store, cfg: Config) -> None:
    """The run up to the answers."""
    pipeline.run(pipeline.plan(cfg, "extraction"), store, Inline(), lambda outcome: None)


def used(store: Store, cfg: Config, name: str) -> dict[str, float]:
    """What a run came to: prompts, tokens, cuts."""
    (cell,) = experiment.expand(cfg)
    inputs = Inputs(store, cell.fingerprints)
    prompts = inputs.table(f"{name}_prompts").to_pylist()
    answers = [row for row in inputs.table(f"{name}_answers").to_pylist() if row["digest"]]
    once = {row["digest"]: row for row in answers}.values()
    return {
        "prompts": len(prompts),
        "asked": len(once),
        "cut": sum(row["cut"] > 0 for row in prompts),
        "cut_tokens": sum(row["cut"] for row in prompts),
        "tokens_in": sum(row["tokens_in"] for row in once),
        "tokens_out": sum(row["tokens_out"] for row in once),
    }


@pytest.fixture(scope="module")
def cfg() -> Config:
    return small.config(*WORLD, *SAMPLE, "extraction.max_prompt_tokens=512")


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory, cfg: Config) -> dict[str, Any]:
    """Plans of an empty store, before and after the run up to the answers, and what the run used."""
    store = Store(str(tmp_path_factory.mktemp("plan") / "store"))
    executor = OnlySmall()
    out = {"bare": planned(cfg, store), "probed": planned(cfg, store, probe=True, executor=executor)}
    out["folders"], out["largest"] = store.names(), executor.largest
    answer(store, cfg)
    out["used"] = {name: used(store, cfg, name) for name in work.SIDES}
    out["again"] = planned(cfg, store)
    out["store"] = store
    return out


@pytest.mark.parametrize("name", work.SIDES)
def test_a_sample_tells_what_the_run_uses(plans: dict[str, Any], name: str) -> None:
    found, real = side(plans["probed"], name), plans["used"][name]
    assert found["sampled"] < found["entities"]
    assert 0 < found["error"] < 0.2
    for key in ("prompts", "asked", "tokens_in", "tokens_out", "cut_tokens"):
        assert found[key] == pytest.approx(real[key], rel=0.2), key
    assert found["cut"] == pytest.approx(real["cut"], rel=0.3)
    assert real["cut"] > 0


def test_items_with_a_text_are_counted_and_not_sampled(plans: dict[str, Any]) -> None:
    assert side(plans["bare"], "item")["prompts"] == plans["used"]["item"]["prompts"]


@pytest.mark.parametrize("name", work.SIDES)
def test_without_a_probe_answers_are_as_long_as_they_may_be_and_it_says_so(plans: dict[str, Any], name: str) -> None:
    found = side(plans["bare"], name)
    assert found["tokens_out"] == 64 * found["asked"]
    assert found["tokens_out_from"] == "at most: extraction.max_answer_tokens"
    assert found["hours"] == []
    assert plans["bare"]["engine"] is None
    assert any("--probe" in line for line in plans["bare"]["assumptions"])


def test_a_plan_publishes_the_cheap_tables_alone(plans: dict[str, Any]) -> None:
    made = {row["artifact"] for row in plans["bare"]["made"]}
    assert made == {"users", "items", "log", "cutoffs", "entities", "knowledge", "item_texts"}
    assert set(plans["folders"]) == made
    assert plans["probed"]["made"] == []
    assert plans["bare"]["assumptions"][0].startswith("made now and kept")


def test_the_driver_gets_no_more_than_the_sample(plans: dict[str, Any]) -> None:
    assert 0 < plans["largest"] < 100


def test_what_was_run_is_planned_as_published(plans: dict[str, Any]) -> None:
    for name in work.SIDES:
        found = side(plans["again"], name)
        assert (found["published"], found["asked"], found["tokens_in"]) == (True, 0, 0)
    assert plans["again"]["engine"] is None
    assert plans["again"]["storage"]["answers"] == 0
    assert any("nobody is asked" in line for line in plans["again"]["assumptions"])
    assert plans["again"]["refresh"]["prompts"] > 0
    assert plans["again"]["refresh"]["tokens_in"] > 0


def test_answers_in_the_cache_are_not_asked_again(tmp_path: Path, cfg: Config, plans: dict[str, Any]) -> None:
    store = small.copy_store(plans["store"], tmp_path / "s", "item_answers", "user_answers")
    tree = planned(cfg, store)
    for name in work.SIDES:
        found = side(tree, name)
        assert found["published"] is False
        assert found["asked"] == found["tokens_in"] == 0
        assert found["cached"] == pytest.approx(plans["used"][name]["asked"], rel=0.2)
    cache = AnswerCache(store)
    for segment in cache.segments()[::2]:
        store.remove_file(*cache.home, segment.name)
    half = side(planned(cfg, store), "user")
    assert half["cached"] == pytest.approx(half["asked"], rel=0.5)
    assert half["tokens_out_from"].endswith("cached answers to the sample")
    assert half["each_out"] == pytest.approx(
        plans["used"]["user"]["tokens_out"] / plans["used"]["user"]["asked"], rel=0.1
    )


def test_published_prompts_are_sampled_where_they_stand(tmp_path: Path, cfg: Config, plans: dict[str, Any]) -> None:
    """The same entities are drawn, and their prompts are the same as those made for the sample."""
    (cell,) = experiment.expand(cfg)
    asked = work.asked([cell])
    bare = small.copy_store(plans["store"], tmp_path / "s", "*_prompts", "*_answers")
    for one in asked:
        there, made = (sample.draw(one, store, Inline()) for store in (plans["store"], bare))
        assert sample.opened(plans["store"], one, 0.1).has(one.prompts)
        assert not sample.opened(bare, one, 0.1).has(one.prompts)
        assert there.rows.equals(made.rows)
        assert there.sampled == made.sampled


def test_a_small_world_is_counted_whole(tmp_path: Path) -> None:
    cfg, store = small.config(), Store(str(tmp_path))
    tree = planned(cfg, store, probe=True)
    answer(store, cfg)
    for name in work.SIDES:
        found, real = side(tree, name), used(store, cfg, name)
        assert found["sampled"] == found["entities"]
        assert found["error"] == 0
        sent = real.pop("tokens_in")  # a prompt is planned in pieces and counted as a whole when it is sent
        assert found["tokens_in"] == pytest.approx(sent, rel=0.02)
        assert {key: found[key] for key in real} == real
        assert found["probe"]["statuses"] == {"ok": real["asked"]}
        assert found["hours"][0]["device"] == "CPU"
    assert tree["encoding"] == tree["encoding"] | {"tables": 2, "count": sum(s["prompts"] for s in tree["prompts"])}
    assert tree["encoding"]["seconds"] > 0
    assert tree["encoding"]["source"].startswith("probe of ")


def test_arms_that_share_prompts_are_counted_once(tmp_path: Path) -> None:
    arms = {
        "none": {"extraction.source": "none"},
        "raw": {"extraction.source": "raw"},
        "extracted": {"extraction.source": "extracted"},
        "shuffled": {"extraction.source": "shuffled"},
    }
    cfg = small.config().override(("experiment.arms", arms), ("experiment.repetitions", 2))
    tree = planned(cfg, Store(str(tmp_path)))
    assert [(s["side"], s["arms"]) for s in tree["prompts"]] == [
        ("item", ("extracted", "shuffled")),
        ("user", ("extracted", "shuffled")),
    ]
    assert tree["encoding"]["tables"] == 2 * 3
    assert tree["training"]["tables"] == 2 * 4


def test_a_recipe_that_asks_nobody_has_no_prompts(tmp_path: Path) -> None:
    tree = planned(small.config("extraction.source=none"), Store(str(tmp_path)), probe=True)
    assert (tree["prompts"], tree["engine"], tree["encoding"]["tables"]) == ([], None, 0)
    assert tree["training"]["count"] > 0
    assert "no prompts" in table.lines(tree)


def test_a_gpu_of_which_nothing_is_known_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "s"))
    with pytest.raises(ConfigError, match=r"plan\.gpu = 'H2000'.*H200"):
        planned(small.config("plan.gpu=H2000"), store)
    assert store.names() == []


def test_answers_that_are_not_there_yet_are_stood_in_for(plans: dict[str, Any], cfg: Config, tmp_path: Path) -> None:
    """Prompts that read answers of the other side see the beginnings of the texts instead, never a real table."""
    (cell,) = experiment.expand(cfg)
    bare = small.copy_store(plans["store"], tmp_path / "s", "*_answers")
    one = next(a for a in work.asked([cell]) if a.side == "user")
    inputs = sample.Sampled(
        bare,
        {"item_texts": cell.fingerprints["item_texts"], "item_answers": "stand-in-10"},
        side="user",
        share=0.5,
        answer_tokens=10,
        stand_ins=("item_answers",),
    )
    mapped = inputs.mapped("item_answers", ["entity", "status", "text", "tokens_out"])
    assert mapped.num_rows == inputs.count("item_texts") == 300
    rows = mapped.to_pylist()
    assert {row["status"] for row in rows} == {"ok", "no_text"}
    assert max(row["tokens_out"] for row in rows) == 10
    assert all(0 < len(row["text"]) < 200 for row in rows if row["status"] == "ok")
    assert one.fingerprints["item_answers"] not in inputs.fingerprints.values()


def test_a_named_gpu_gives_hours_and_costs_without_a_probe(tmp_path: Path) -> None:
    """The model's own tokens and size; nothing is started."""
    model = make_tiny_qwen2(tmp_path / "model")
    engine = ("extraction.engine=vllm", f"extraction.model={model}", "resources.executor=ray", "resources.actors=1")
    prices = ("plan.gpu=H200", "plan.price_gpu_hour=4", "plan.start_seconds=60", "plan.users_per_day=0.5")
    tree = planned(small.config(*engine, *prices), Store(str(tmp_path / "s")))
    for found in tree["prompts"]:
        (hours,) = found["hours"]
        assert (hours["device"], hours["gpus"], hours["start"]) == ("H200", 1, 60)
        assert hours["busy"] > 0
        assert hours["gpu_hours"] == pytest.approx((60 + hours["busy"]) / 3600)
    assert tree["cost"] == pytest.approx(4 * tree["engine"]["gpu_hours"])
    assert 0 < tree["refresh"]["cost"] <= tree["cost"]
    assert any("data sheet of H200, not measured" in line for line in tree["assumptions"])
    assert "GPU hours" in table.lines(tree)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text('[data.synthetic]\nusers = 60\nitems = 40\n[resources]\nexecutor = "inline"\n')
    words = ["plan", str(recipe), "--store", str(tmp_path / "s"), "--set", "plan.price_gpu_hour=3"]
    assert cli.main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["prompts"]
    assert "item_texts" in err
    assert cli.main([*words, "--probe"]) == 0
    shown = capsys.readouterr().out
    assert "tokens out" in shown
    assert "- made now: nothing" in shown
    assert cli.main([*words, "--gpu", "H2000"]) == 2
    assert "H200" in capsys.readouterr().err
