"""Knowledge beside its source on the page: marks, hostile and very long texts, texts that run from right to left."""

from pathlib import Path

import pytest
from report_world import HOSTILE, whole_run
from worlds import publish, table

from trawl.report import build, knowledge
from trawl.report.record import Record
from trawl.store import Store

SENTENCE = f"הסיפור עוסק בשתי אחיות {HOSTILE} מן העיר"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A whole run whose first item has a text of 10 kB, of which the answer took the one sentence in its middle."""
    store = Store(str(tmp_path))
    name = whole_run(store)
    long = f"{'far away ' * 600}\u202e{SENTENCE}. {'nothing here ' * 400}"
    texts = [{"item": n, "text": long if n == 1 else None, "digest": None, "tokens": 3} for n in range(1, 7)]
    answers = [
        {
            "entity": n,
            "status": "ok" if n == 1 else "no_text",
            "text": f"Plot: {SENTENCE}" if n == 1 else None,
            "tokens_in": 9,
            "tokens_out": 9,
            "attempts": 1,
            "seconds": 0.1,
            "engine": "extractive",
        }
        for n in range(1, 7)
    ]
    record = Record(store, name)
    old = {v.artifact: v.fingerprint for v in record.all if any(c.startswith("extracted") for c in v.cells)}
    new = {
        "item_texts": publish(store, "item_texts", [table("item_texts", texts)]),
        "item_answers": publish(store, "item_answers", [table("item_answers", answers)]),
    }
    text = store.read_text("runs", name, "run.json")
    for artifact, mark in new.items():
        text = text.replace(old[artifact], mark)
    store.write_text(text, "runs", name, "run.json")
    return store


def test_a_long_text_is_shortened_around_what_was_used(store: Store) -> None:
    found = knowledge.knowledge(Record(store, "whole"))
    assert found is not None
    example = found.examples[0]
    (source,) = example.sources
    assert source.shortened
    assert source.length > 10_000
    assert sum(len(piece.text) for piece in source.pieces) < 1500
    assert [p.text for p in source.pieces if p.used] == [SENTENCE]
    assert [p.text for p in example.answer if p.used] == [SENTENCE]
    assert found.found == example.found
    assert found.found is not None
    assert 0.5 < found.found < 1  # all but the name of the entry


def test_on_the_page_it_is_escaped_marked_and_kept_in_its_own_direction(store: Store) -> None:
    text = Path(build(store, "whole")).read_text(encoding="utf-8")
    escaped = SENTENCE.replace("<", "&lt;").replace(">", "&gt;")
    assert text.count(f"<mark>{escaped}</mark>") == 2
    assert "<script" not in text
    assert "\u202e" not in text
    assert 'class="text" dir="auto"' in text
    assert "Shortened: the text has 10," in text
