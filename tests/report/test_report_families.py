"""The page of runs whose prompts are of other families: the sources shown are the texts that the prompts held."""

from pathlib import Path

import pytest
import small

from trawl import pipeline
from trawl.executors import Inline
from trawl.report import build, knowledge
from trawl.report.record import Record
from trawl.runs import Cell, claim
from trawl.store import Store


def ran(folder: Path, family: str) -> Store:
    """A run up to the answers."""
    store, cfg = Store(str(folder / "store")), small.config(f"extraction.family={family}", "extraction.user_items=2")
    plan = pipeline.plan(cfg, "extraction")
    pipeline.run(plan, store, Inline(), lambda outcome: None)
    claim(store, "asked", cfg, [Cell("default", 0, cfg, plan.fingerprints)])
    return store


@pytest.mark.parametrize("family", ["kellmrec", "kar"])
def test_examples_show_what_the_prompts_were_made_of(tmp_path: Path, family: str) -> None:
    store = ran(tmp_path, family)
    build(store, "asked")
    found = knowledge.knowledge(Record(store, "asked"))
    assert found is not None
    users = [example for example in found.examples if example.kind == "user"]
    assert users
    if family == "kar":
        assert not any(example.sources for example in found.examples)
        assert found.found is None
        return
    assert found.found is not None
    texts = ["".join(piece.text for piece in source.pieces) for example in users for source in example.sources]
    answers = small.table(store, pipeline.plan(small.config("extraction.family=kellmrec")).fingerprints, "item_answers")
    assert texts
    known = [text for text in answers["text"].to_pylist() if text]
    assert all(any(answer.startswith(text[:80]) for answer in known) for text in texts)  # long ones are shortened
