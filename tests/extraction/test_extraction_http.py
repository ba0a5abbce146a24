"""The engine `http` against an endpoint that behaves and one that does not."""

import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from scripted_endpoint import ANSWER, KEY, Act, Endpoint, alone_with_key, engine, refused, requests, said, serving

from trawl.errors import ConfigError, EngineDied, TrawlError
from trawl.extraction.answers import judge
from trawl.extraction.engines import Reply, Unfinished, http_client, http_replies


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    alone_with_key(monkeypatch)


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
    with serving(lambda body, before: _slow(0.02)) as endpoint:
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


def test_a_word_that_serves_as_key_is_left_in_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    reply, endpoint = one(lambda body, before: said("An EMPTY theatre."))
    assert reply.text == "An EMPTY theatre."
    assert endpoint.headers[0]["Authorization"] == "Bearer EMPTY"


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
        engine(url, retries=4).answer(requests(5))
    assert isinstance(caught.value.error, EngineDied)
    assert re.search(r"cannot be reached .*tried 5 times.*run again when it is up", str(caught.value))


def test_a_host_without_an_address_is_given_up_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*arguments: object, **rest: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    with pytest.raises(Unfinished, match=r"cannot be reached .*tried 4 times"):
        engine("https://endpont.example/v1").answer(requests(1))


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


def test_the_machines_proxy_is_used_but_for_hosts_that_it_excepts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert http_client._proxy("https://endpoint.example/v1/chat/completions") == "http://proxy:3128"
    assert http_client._proxy("https://inside.example:8000/v1/chat/completions") is None


def test_in_a_notebook_a_loop_runs_already() -> None:
    import asyncio

    async def cell(url: str) -> list[Reply]:
        return engine(url).answer(requests(2))

    with serving() as endpoint:
        assert [reply.text for reply in asyncio.run(cell(endpoint.url))] == [ANSWER, ANSWER]
