"""A whole run against vLLM's own server, which is killed in the middle and comes back; the key is searched for."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import driver
import pyarrow.parquet as pq
import pytest
import small
from vllm_server import Server, serving

sys.path.insert(0, str(Path(__file__).parents[1] / "extraction"))
from tiny_model import ANSWER, make_tiny_qwen2

from trawl.extraction.cache import AnswerCache
from trawl.runs import Run
from trawl.store import Store

KEY = "planted-Key-0123456789abcdefXYZ"
SETTINGS = (
    "data.synthetic.items=160",
    "data.synthetic.users=110",
    "resources.executor=ray",
    "resources.actors=2",
    "extraction.engine=http",
    "extraction.model=tiny",
    "extraction.max_prompt_tokens=2048",
    "extraction.max_answer_tokens=16",
    "http.allow_user_text=true",
    "http.retries=14",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(make_tiny_qwen2(tmp_path_factory.mktemp("tiny")), KEY) as served:
        yield served


def segments(store: Store) -> int:
    cache = AnswerCache(store)
    return sum(segment.rows for segment in cache.segments())


def answers(store: Store, side: str) -> list[dict[str, Any]]:
    marks = Run(store, "r").read("run.json")["cells"][0]["artifacts"]
    found: list[dict[str, Any]] = small.table(store, marks, f"{side}_answers").to_pylist()
    return [row for row in found if row["digest"]]


def test_the_endpoint_is_killed_and_comes_back(tmp_path: Path, server: Server) -> None:
    """The server is killed in the middle and started again: the run waits, ends by itself, and every row is there."""
    store = Store(str(tmp_path / "store"))
    words = driver.words(tmp_path / "r.toml", str(tmp_path / "store"), *SETTINGS, *_place(server))
    killed: list[int] = []
    outage = threading.Thread(target=_outage, args=(server, store, killed), daemon=True)
    outage.start()
    ended, err = driver.run(words, env={"OPENAI_API_KEY": KEY})
    assert ended
    assert killed, "the run ended before the server could be killed"
    for side in ("item", "user"):
        rows = answers(store, side)
        assert len(rows) > 80
        assert {(row["status"], row["text"]) for row in rows} == {("ok", ANSWER)}
        assert all(row["engine"].startswith("http/") for row in rows)
    items = answers(store, "item")
    assert max(row["attempts"] for row in items) > 1
    assert min(row["attempts"] for row in items) == 1
    _nowhere(tmp_path / "store", err)


def _outage(server: Server, store: Store, killed: list[int]) -> None:
    while not segments(store) >= 5:
        time.sleep(0.01)
    server.kill()
    killed.append(segments(store))
    server.launch()


def test_a_budget_that_is_spent_is_raised_and_the_run_goes_on(tmp_path: Path, server: Server) -> None:
    """A run stops at its budget of requests over two actors; with a larger one the same run asks only the rest."""
    store = Store(str(tmp_path / "store"))
    server.wait()
    arguments = (tmp_path / "r.toml", str(tmp_path / "store"), *SETTINGS, *_place(server))
    env, until = {"OPENAI_API_KEY": KEY}, ["--until", "item_answers"]
    with pytest.raises(AssertionError, match=r"http\.max_requests = 60 are sent"):
        driver.run([*driver.words(*arguments, "http.max_requests=60"), *until], env=env)
    assert 40 <= _sent(store) <= 60
    driver.run([*driver.words(*arguments, "http.max_requests=10000"), *until], env=env)
    rows = answers(store, "item")
    assert {row["text"] for row in rows} == {ANSWER}
    assert _sent(store) == len({row["digest"] for row in rows}), "none was asked twice"


def _place(server: Server) -> tuple[str, ...]:
    return f"http.base_url={server.url}", f"extraction.tokenizer={server.model}"


def _sent(store: Store) -> int:
    """Requests that the run has counted, over all actors and both commands."""
    return sum(int(path.read_text()) for path in (Path(store.root) / "runs" / "r" / "requests").iterdir())


def _nowhere(root: Path, output: str) -> None:
    """The key stands in no file of the store, in no column of a table, and not in what the run printed."""
    assert KEY not in output
    found = 0
    for folder, _, files in os.walk(root):
        for path in (Path(folder) / file for file in files):
            assert KEY.encode() not in path.read_bytes(), path
            if path.suffix == ".parquet":
                assert KEY not in str(pq.read_table(path).to_pylist()), path
                found += 1
    assert found > 10
