"""The whole pipeline on an object store: killed, gone on, the same tables as on a disk, and every view of it."""

import json
import re
from pathlib import Path

import driver
import pytest
import s3_server

from trawl import cli
from trawl.runs import Run
from trawl.store import Store

DONE = re.compile(r"/(_parts/\d+\.json|_manifest\.json|_work/phase-\d+/\d+\.json)$")


def finished(server: s3_server.Server, prefix: str, start: int = 0) -> list[str]:
    """Parts and artifacts that were marked as done, in order, since a request."""
    written = [path for method, path in server.requests()[start:] if method == "PUT"]
    return [path for path in written if path.startswith(f"/bucket/{prefix}/") and DONE.search(path)]


@pytest.fixture(scope="module")
def resumed(s3: s3_server.Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """A run on S3 whose driver was killed within a stage and that went on; what each of the two finished."""
    folder = tmp_path_factory.mktemp("resumed")
    words = driver.words(folder / "r.toml", s3.uri("killed-run"))
    ended, _ = driver.run(words, lambda: any("/samples/" in p for p in finished(s3, "killed-run")))
    assert not ended
    start = len(s3.requests())
    before = finished(s3, "killed-run")
    assert cli.main(words) == 0
    return {"before": before, "after": finished(s3, "killed-run", start)}


def test_what_was_finished_is_not_made_again(resumed: dict[str, list[str]]) -> None:
    assert len(resumed["before"]) > 5
    assert any("/predictions/" in path for path in resumed["after"])
    assert not set(resumed["before"]) & set(resumed["after"])


def test_the_tables_are_those_of_a_disk(resumed: dict[str, list[str]], s3: s3_server.Server, tmp_path: Path) -> None:
    assert cli.main(driver.words(tmp_path / "r.toml", str(tmp_path / "store"))) == 0
    driver.same_tables(Store(str(tmp_path / "store")), Store(s3.uri("killed-run")))


def test_a_second_run_makes_nothing_and_prints_a_uri(
    resumed: dict[str, list[str]], s3: s3_server.Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = len(s3.requests())
    assert cli.main(driver.words(tmp_path / "r.toml", s3.uri("killed-run"))) == 0
    out = capsys.readouterr().out
    assert f"report: s3://bucket/killed-run/runs/r/report.html{s3.query}" in out
    assert not finished(s3, "killed-run", start)
    assert "<html" in Store(s3.uri("killed-run")).read_text("runs", "r", "report.html")


def test_every_view_takes_the_uri_of_a_run(
    resumed: dict[str, list[str]], s3: s3_server.Server, capsys: pytest.CaptureFixture[str]
) -> None:
    run = s3.uri("killed-run/runs/r")
    answers = {}
    for view, words in {
        "status": ["status", run, "--json"],
        "result": ["result", run, "--json"],
        "show": ["show", run, "items", "--limit", "2", "--json"],
        "why": ["why", run, "r", "--store", s3.uri("killed-run"), "--json"],
        "gc": ["gc", "--keep-runs", "1", "--dry-run", "--store", s3.uri("killed-run")],
    }.items():
        assert cli.main(words) == 0
        answers[view] = capsys.readouterr().out
    assert json.loads(answers["status"])["state"] == "done"
    assert {a["state"] for a in json.loads(answers["status"])["artifacts"]} == {"published"}
    assert len(json.loads(answers["result"])) == 1
    assert len(answers["show"].splitlines()) == 2
    assert json.loads(answers["why"]) == []
    assert answers["gc"] == "nothing to remove\n"


def test_credentials_stand_in_no_file_of_the_run(resumed: dict[str, list[str]], s3: s3_server.Server) -> None:
    store = Store(s3.uri("killed-run"))
    for name in store.names("runs", "r"):
        assert s3_server.KEYS["AWS_SECRET_ACCESS_KEY"] not in store.read_text("runs", "r", name), name


def test_a_finished_stage_costs_few_requests(
    resumed: dict[str, list[str]], s3: s3_server.Server, tmp_path: Path
) -> None:
    """A repeated run asks for what it needs to know and no more: the run's files and one manifest per artifact."""
    start = len(s3.requests())
    assert cli.main([*driver.words(tmp_path / "r.toml", s3.uri("killed-run")), "--until", "log"]) == 0
    asked = [path for _, path in s3.requests()[start:] if "/killed-run/log/" in path]
    artifacts = Run(Store(s3.uri("killed-run")), "r").read("run.json")["artifacts"]
    assert "log" in artifacts
    assert len(asked) <= 12, asked
