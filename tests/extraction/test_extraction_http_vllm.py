"""The engine `http` against vLLM's own server with a tiny model: one start for the file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from extraction_world import TEXTS, base, config, rows, run, with_knowledge
from scripted_endpoint import KEY, alone_with_key
from tiny_model import ANSWER, make_tiny_qwen2
from vllm_server import Server, serving

from trawl.config import Config
from trawl.errors import ConfigError
from trawl.extraction.engines import Request, Settings, make_engine
from trawl.store import Store

ITEMS = ("item_texts", "item_prompts", "item_answers")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(make_tiny_qwen2(tmp_path_factory.mktemp("tiny")), KEY) as served:
        yield served


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    alone_with_key(monkeypatch)


def recipe(server: Server, **extraction: Any) -> Config:
    given = {"model": "tiny", "tokenizer": str(server.model), "max_prompt_tokens": 2048, "max_answer_tokens": 16}
    return config(**(given | extraction)).override(
        "extraction.engine=http", f"http.base_url={server.url}", "http.allow_user_text=true", "resources.batch_rows=100"
    )


def test_a_real_server_answers_every_prompt(tmp_path: Path, server: Server) -> None:
    store = Store(str(tmp_path))
    marks = with_knowledge(store, base(store), {**TEXTS, 9: "A comedy film of many words. " * 400})
    done = run(store, marks, recipe(server))
    assert done["item_answers"].statuses == {"ok": 11, "no_text": 1}
    assert done["user_answers"].statuses == {"ok": 8}
    prompts = {row["entity"]: row for row in rows(store, done, "item_prompts")}
    assert prompts[9]["cut"] > 0
    for row in rows(store, done, "item_answers"):
        if row["digest"]:
            assert (row["text"], row["attempts"]) == (ANSWER, 1)
            planned = prompts[row["entity"]]["tokens"]
            assert abs(row["tokens_in"] - planned) <= 12 + planned // 100  # planned in pieces, sent as a whole


def test_its_errors_are_understood(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = recipe(server)
    engine = make_engine("http", Settings((), cfg.extraction, cfg.http))
    long, short = (Request(d, text, (), (), 4) for d, text in (("a", "hello " * 3000), ("b", "hello")))
    replies = engine.answer([long, short])
    assert (replies[0].status, replies[0].attempts) == ("too_long", 1)
    assert "maximum context length" in replies[0].error
    assert (replies[1].finished, replies[1].tokens_out) == (False, 4)
    store = Store(str(tmp_path))
    marks = with_knowledge(store, base(store), TEXTS)
    with pytest.raises(ConfigError, match=r"404: .*`other` does not exist.*extraction\.model = 'other'"):
        run(store, marks, recipe(server, model="other"), *ITEMS)
    monkeypatch.setenv("OPENAI_API_KEY", "another-key-entirely")
    with pytest.raises(ConfigError, match=r"401.*the key in OPENAI_API_KEY does not open it") as caught:
        run(store, marks, recipe(server, revision="2"), *ITEMS)
    assert "another-key" not in str(caught.value)
