"""The load of the experts on the page, a collapsed gate by name."""

import json
from html import unescape
from pathlib import Path

import pytest
from report_world import ARMS, whole_run

from trawl.report import build, outcome
from trawl.report.record import Record
from trawl.store import Store

EVEN = {"share": [0.3, 0.7], "entropy": 0.61, "perplexity": 1.842, "decided": 0.8, "collapsed": False}
ONE = {"share": [0.02, 0.95, 0.03], "entropy": 0.2, "perplexity": 1.27, "decided": 0.95, "collapsed": True}
SOURCES = EVEN | {"sources": ["item", "facts"]}
LINES = (
    "user: 30%, 70% (as much as 1.8 of 2 experts)",
    "item.facts: 2%, 95%, 3% (as much as 1.3 of 3 experts); collapsed: expert 2 does the work of all",
    "item.sources: item 30%, facts 70% (as much as 1.8 of 2 sources)",
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A run whose second arm has gates, evenly used in all epochs but the best."""
    found = Store(str(tmp_path))
    record = Record(found, whole_run(found))
    mark = [v for v in record.all if v.artifact == "model"][1].fingerprint
    course = json.loads(found.read_text("model", mark, "metrics.json"))
    for epoch in course["epochs"]:
        epoch["gates"] = {"user": EVEN, "item.facts": ONE if epoch["epoch"] == 3 else EVEN, "item.sources": SOURCES}
    found.write_text(json.dumps(course), "model", mark, "metrics.json")
    return found


def test_loads_of_the_best_epoch(store: Store) -> None:
    (name,) = store.names("runs")
    plain, gated = outcome.curves(Record(store, name))
    assert plain.gates == ()
    assert gated.gates == LINES


def test_a_source_that_does_the_work_of_all_is_named() -> None:
    load = ONE | {"share": [0.05, 0.95], "sources": ["item", "facts"]}
    assert outcome._gate("item.sources", load).endswith("; collapsed: facts does the work of all")


def test_a_line_for_each_gate(store: Store) -> None:
    (name,) = store.names("runs")
    page = unescape(Path(build(store, name)).read_text(encoding="utf-8"))
    for line in LINES:
        assert f"<li>{list(ARMS)[1]}, repetition 0, {line}</li>" in page
    assert page.count("does the work of all") == 1
    assert page.count("repetition 0, user:") == 1


def test_facts_that_were_left_out_are_told(store: Store) -> None:
    (name,) = store.names("runs")
    mark = [v for v in Record(store, name).all if v.artifact == "model"][1].fingerprint
    course = json.loads(store.read_text("model", mark, "metrics.json"))
    course["facts"] = {"relations": ["director"], "values": 300, "entities": 812, "left_out": 4, "cap": 200}
    store.write_text(json.dumps(course), "model", mark, "metrics.json")
    line = "director: 300 values that 812 items share; 4 values left out, which more than 200 items have"
    assert [c.facts for c in outcome.curves(Record(store, name))] == ["", line]
    assert f"repetition 0, {line}</li>" in unescape(Path(build(store, name)).read_text(encoding="utf-8"))
    course["facts"] |= {"values": 0, "entities": 0}
    store.write_text(json.dumps(course), "model", mark, "metrics.json")
    assert outcome.curves(Record(store, name))[1].facts.endswith("more than 200 items have: no pair was drawn")
