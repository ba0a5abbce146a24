"""An object store when things go wrong: half-sent objects, wrong addresses and credentials, secrets in URIs."""

import http.client
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import s3_server

from trawl import cli
from trawl.errors import ConfigError, StoreError
from trawl.filesystems import place, reach
from trawl.runs import Run, find
from trawl.store import Store

LARGE = b"x" * (22 << 20)  # three parts of an upload
Fault = Callable[[str, str], tuple[int, str] | None]


class Proxy(ThreadingHTTPServer):
    """Passes requests on to a server, but for those that `fault` answers with a status and an S3 error code."""

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = port
        self.fault: Fault = lambda method, path: None


class _Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def _any(self) -> None:
        body = self._body()
        found = self.server.fault(self.command, self.path)
        if found:
            answer = f"<Error><Code>{found[1]}</Code><Message>planted</Message></Error>".encode()
            self._answer(found[0], [], answer)
            return
        behind = http.client.HTTPConnection("127.0.0.1", self.server.behind)
        sent = {k: v for k, v in self.headers.items() if k.lower() not in ("expect", "transfer-encoding")}
        behind.request(self.command, self.path, body, sent)
        answered = behind.getresponse()
        self._answer(answered.status, answered.getheaders(), answered.read())
        behind.close()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while length := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        own = {"connection", "transfer-encoding", "server", "date"} | (
            set() if self.command == "HEAD" else {"content-length"}
        )
        for key, value in headers:
            if key.lower() not in own:
                self.send_header(key, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.command != "HEAD" else b"")

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any  # noqa: N815

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def proxy(s3: s3_server.Server) -> Iterator[Proxy]:
    with Proxy(s3.port) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def through(proxy: Proxy, name: str) -> Store:
    return Store(s3_server.Server(proxy.server_port, Path()).uri(f"faults/{name}"))


def test_a_small_object_is_one_request(s3: s3_server.Server) -> None:
    store = Store(s3.uri("count"))
    before = len(s3.requests())
    store.write_text("x", "a", "b", "c.json")
    assert [method for method, _ in s3.requests()[before:]] == ["PUT"]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_upload_that_fails_in_a_part_leaves_no_object(proxy: Proxy, number: int) -> None:
    store = through(proxy, f"part-{number}")
    proxy.fault = lambda method, path: (403, "AccessDenied") if f"partNumber={number}&" in path else None
    with pytest.raises(StoreError, match="access refused while writing a/large"):
        store.write_bytes(LARGE, "a", "large")
    proxy.fault = lambda method, path: None
    assert store.find_bytes("a", "large") is None
    assert store.names("a") == []


@pytest.mark.parametrize("step", ["uploads", "uploadId="])
def test_an_upload_that_cannot_begin_or_end_leaves_what_was_there(proxy: Proxy, step: str) -> None:
    store = through(proxy, f"step-{step[-1]}")
    store.write_text("old", "a")
    proxy.fault = lambda method, path: (403, "AccessDenied") if method == "POST" and step in path else None
    with pytest.raises(StoreError, match="access refused while writing a"):
        store.write_bytes(LARGE, "a")
    proxy.fault = lambda method, path: None
    assert store.read_text("a") == "old"


def test_a_busy_server_is_asked_again(proxy: Proxy) -> None:
    store, answers = through(proxy, "busy"), [(503, "SlowDown"), (500, "InternalError"), (503, "SlowDown")]
    proxy.fault = lambda method, path: answers.pop() if method == "PUT" and answers else None
    store.write_text("x", "a")
    assert store.read_text("a") == "x"
    assert not answers


def test_a_writer_killed_in_the_middle_leaves_no_object(s3: s3_server.Server) -> None:
    code = (
        "import os, sys; from trawl.store import Store; store = Store(sys.argv[1]);"
        "out = store.fs.open_output_stream(store.path('a')); out.write(b'x' * (12 << 20)); out.flush(); os._exit(9)"
    )
    ended = subprocess.run([sys.executable, "-c", code, s3.uri("killed")], check=False)
    assert ended.returncode == 9
    assert Store(s3.uri("killed")).find_bytes("a") is None


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code and the one line on stderr."""
    code = cli.main(words)
    line = capsys.readouterr().err
    assert len(line.splitlines()) == 1, line
    return code, line


@pytest.mark.parametrize(
    ("uri", "what"),
    [
        ("s4://bucket/x", "not a URI that pyarrow can open"),
        ("s3:/bucket/x", "write s3://bucket/x"),
        ("s3://", "names no bucket"),
        ("s3://bucket/x?regoin=eu", "regoin"),
        ("file://relative/x", "not a URI that pyarrow can open"),
    ],
)
def test_an_address_written_wrongly_is_exit_2(uri: str, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = said(capsys, "run", "demo", "--store", uri)
    assert code == 2
    assert what in line


@pytest.mark.parametrize(
    "uri",
    [
        "s3://KEYID:hush%2Fhush@bucket/x",
        "s3://KEYID:hush/hush@bucket/x",
        "s3://hush@bucket/x",
        "s3://bucket/x?secret_key=hush",
        "s3://bucket/x?region=eu&session_token=hush",
        "abfs://container:hush@account.dfs.core.windows.net/x",
    ],
)
def test_credentials_in_a_uri_are_refused_and_not_repeated(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = said(capsys, "run", "demo", "--store", uri)
    assert code == 2
    assert "AWS_SECRET_ACCESS_KEY" in line
    assert "hush" not in line
    assert "KEYID" not in line


def test_a_missing_bucket_is_exit_2_and_is_not_made(s3: s3_server.Server, capsys: pytest.CaptureFixture[str]) -> None:
    uri = s3.uri("x").replace("//bucket/", "//elsewhere/")
    code, line = said(capsys, "run", "demo", "--store", uri)
    assert code == 2
    assert "no such bucket" in line
    assert not any(method == "PUT" and path.startswith("/elsewhere") for method, path in s3.requests())


def test_wrong_credentials_are_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str], s3: s3_server.Server) -> None:
    with s3_server.server(tmp_path, {"INITIAL_NO_AUTH_ACTION_COUNT": "2"}) as strict:
        code, line = said(capsys, "status", "r", "--store", strict.uri("x"))
    assert code == 2
    assert "access refused" in line
    assert "AWS" in line


def test_a_server_that_is_not_there_is_exit_1(capsys: pytest.CaptureFixture[str], s3: s3_server.Server) -> None:
    nobody = s3_server.Server(s3_server.free_port(), Path())
    code, line = said(capsys, "gc", "--keep-runs", "1", "--store", nobody.uri("x"))
    assert code == 1
    assert "cannot be reached" in line


def test_a_server_that_goes_away_is_a_store_error(
    tmp_path: Path, s3: s3_server.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trawl.filesystems._ATTEMPTS", 2)
    with s3_server.server(tmp_path) as short:
        store = Store(short.uri("x"))
        store.write_text("x", "a")
    with pytest.raises(StoreError, match="cannot be reached"):
        store.read_text("a")
    with pytest.raises(StoreError, match="cannot be reached"):
        store.write_text("y", "a")


def test_a_filesystem_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch, s3: s3_server.Server) -> None:
    class Silent:
        type_name = "s3"

        def get_file_info(self, *arguments: object) -> None:
            threading.Event().wait(5)

    uri = s3.uri("silent")
    there = place(uri)
    monkeypatch.setattr("trawl.filesystems._PATIENCE", 0.1)
    object.__setattr__(there, "first", Silent())
    with pytest.raises(StoreError, match="no answer within"):
        reach(uri)


def test_a_run_is_found_by_the_uri_that_is_printed(s3: s3_server.Server) -> None:
    store = Store(s3.uri("found"))
    run = Run(store, "r")
    run.write("run.json", {"name": "r"})
    page = run.path("report.html")
    assert page == f"s3://bucket/found/runs/r/report.html{s3.query}"
    for uri in (page, page.replace("/report.html", ""), page.replace("report.html", "run.json")):
        assert find(uri, "nowhere").read("run.json") == {"name": "r"}


def test_a_path_with_a_colon_in_a_name_is_still_a_path(tmp_path: Path) -> None:
    assert place(f"{tmp_path}/a:b").local
    with pytest.raises(ConfigError):
        place("gs:/bucket")


def test_the_environment_may_name_the_endpoint(s3: s3_server.Server) -> None:
    Store(s3.uri("env")).write_text("x", "a")
    env = os.environ | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3.port}", "AWS_REGION": "us-east-1"}
    code = "from trawl.store import Store; print(Store('s3://bucket/env').read_text('a'))"
    found = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert found.stdout == "x\n"
