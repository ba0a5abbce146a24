"""The index over runs: rows, order, bounds, broken runs; the page and the command line show the same."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from report_world import ARMS, HOSTILE, data_run, whole_run

from trawl import cli, views
from trawl.report import build, index
from trawl.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def change(store: Store, name: str, **values: Any) -> None:
    record = json.loads(store.read_text("runs", name, "run.json"))
    store.write_text(json.dumps(record | values), "runs", name, "run.json")


def test_a_row_has_the_best_arm_and_its_difference(store: Store) -> None:
    (row,), more = index.runs(Store(store.uri)) if whole_run(store) else ([], 0)
    assert more == 0
    assert (row.name, row.state, row.finished, row.cells, row.page) == ("whole", "done", 2, 2, "")
    assert (row.best, row.valid, row.test) == (list(ARMS)[1], 0.76, 0.75)
    assert row.difference == {"difference": 0.05, "low": 0.0123, "high": 0.09}
    assert row.reference == "none"


def test_without_results_or_comparisons(store: Store) -> None:
    data_run(store)
    ((row,), _) = index.runs(store)
    assert (row.best, row.valid, row.difference, row.finished) == ("", None, None, 0)
    whole_run(store)
    store.write_text("[]", "runs", "whole", "comparisons.json")
    assert {r.name: (r.best != "", r.difference) for r in index.runs(store)[0]} == {
        "whole": (True, None),
        "early": (False, None),
    }


def test_the_newest_runs_come_first_and_the_rest_is_counted(store: Store) -> None:
    for number in range(4):
        name = data_run(store, f"r{number}")
        change(store, name, created=f"2026-01-0{number + 1}T00:00:00Z")
        os.utime(store.path("runs", name, "run.json"), (number, number))
    rows, more = index.runs(store, newest=3)
    assert ([row.name for row in rows], more) == (["r3", "r2", "r1"], 1)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"state": "done", "recipe": 5}'])
def test_a_broken_run_hides_no_other(store: Store, text: str) -> None:
    data_run(store)
    store.write_text(text, "runs", "broken", "run.json")
    store.write_text("x", "runs", "folder-without-record", "other")
    rows, _ = index.runs(store)
    assert {row.name: row.state for row in rows} == {"early": "done", "broken": "unreadable"}
    index.build(store)


def test_building_a_page_builds_the_index(store: Store) -> None:
    build(store, whole_run(store))
    build(store, data_run(store))
    text = store.read_text("runs", "index.html")
    assert 'href="./whole/report.html"' in text
    assert 'href="./early/report.html"' in text
    assert "+0.0500" in text
    assert "<b>aligned</b>" not in text
    assert "&lt;b&gt;aligned&lt;/b&gt;" in text


def test_names_from_outside_stay_text(store: Store) -> None:
    name = data_run(store, "javascript:x\"'<b>")
    change(store, name, recipe={"name": HOSTILE}, state="<i>")
    build_only = index.build(store)
    text = Path(build_only).read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "<i>" not in text
    assert 'href="javascript' not in text


def test_an_empty_store(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert index.runs(store) == ([], 0)
    assert "No run yet." in Path(index.build(store)).read_text(encoding="utf-8")
    assert cli.main(["runs", "--store", store.uri, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_the_terminal_lists_the_same(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    build(store, whole_run(store))
    assert cli.main(["runs", "--store", store.uri]) == 0
    out = capsys.readouterr().out
    assert "whole" in out
    assert "+0.0500 [+0.0123, +0.0900]" in out
    assert cli.main(["runs", "--store", store.uri, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["page"], row["difference"]["low"]) == ("whole", "report.html", 0.0123)


def test_gc_leaves_an_index_without_what_it_removed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("first", "second"):
        build(store, data_run(store, name))
        change(store, name, created=f"2026-01-01T00:00:0{len(name)}Z")
    assert "runs/index.html" not in views.gc(store, 0, dry=True)
    assert cli.main(["gc", "--keep-runs", "1", "--store", store.uri]) == 0
    assert "runs/first" in capsys.readouterr().out
    text = store.read_text("runs", "index.html")
    assert "second" in text
    assert "first/report.html" not in text
