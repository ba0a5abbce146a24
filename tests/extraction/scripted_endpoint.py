"""An OpenAI-compatible endpoint in this process that behaves as a script says, and remembers what it was asked."""

import json
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from trawl.extraction.engines import HttpEngine, Request, http_client
from trawl.sections import Extraction
from trawl.sections_http import Http

KEY = "planted-Key-0123456789abcdefXYZ"
ANSWER = "Genre: comedy, warm and light."


@dataclass(frozen=True)
class Act:
    """What is done with one request."""

    status: int = 200
    body: bytes | Mapping[str, Any] = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: bool = False  # close the connection without a word
    short: int = 0  # bytes that are promised and not sent


def said(text: str | None = ANSWER, finish: str = "stop", usage: Mapping[str, Any] | None = None, **more: Any) -> Act:
    """An answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **more}, "finish_reason": finish}
    used = {"prompt_tokens": 40, "completion_tokens": 9} if usage is None else usage
    return Act(body={"choices": [choice], "usage": used})


def refused(status: int, message: str = "", code: Any = None, **headers: str) -> Act:
    """An error as these endpoints word it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Act(status, {"error": {"message": message, "code": code}}, named)


Script = Callable[[dict[str, Any], int], Act]


class Endpoint:
    """A server on a free port. `script` gets the request's body and how often this prompt came before."""

    def __init__(self, script: Script = lambda body, before: said()) -> None:
        self.script = script
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.seen: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def begin(self, path: str, headers: Mapping[str, str], body: dict[str, Any]) -> Act:
        prompt = body["prompt"] if path.endswith("/v1/completions") else body["messages"][0]["content"]
        with self.lock:
            before = self.seen[prompt]
            self.seen[prompt] += 1
            self.bodies.append(body)
            self.headers.append(dict(headers))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        return self.script(body, before)

    def end(self) -> None:
        with self.lock:
            self.at_once -= 1

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def _handler(endpoint: Endpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            act = endpoint.begin(self.path, self.headers, body)
            if act.delay:
                threading.Event().wait(act.delay)
            endpoint.end()
            self.close_connection = self.close_connection or act.drop or act.short > 0
            if act.drop:
                return
            data = act.body if isinstance(act.body, bytes) else json.dumps(act.body).encode()
            self.send_response(act.status)
            for name, value in act.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data) + act.short))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing."""

    return Handler


@contextmanager
def serving(script: Script = lambda body, before: said(), certificate: str = "") -> Iterator[Endpoint]:
    """The endpoint while it serves; with a PEM file of key and certificate, over TLS."""
    endpoint = Endpoint(script)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        endpoint.server.socket = context.wrap_socket(endpoint.server.socket, server_side=True)
    thread = threading.Thread(target=endpoint.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.close()


def alone_with_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits, the planted key, and no proxy of the machine's."""
    monkeypatch.setattr(http_client, "_FIRST", 0.01)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def engine(url: str, **http: Any) -> HttpEngine:
    return HttpEngine(Extraction(engine="http", model="m"), Http(base_url=url, **http))


def requests(count: int = 1, prompt: str = "prompt {}") -> list[Request]:
    return [Request(f"d{n}", prompt.format(n), (), (), 64) for n in range(count)]
