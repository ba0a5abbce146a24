"""What a prompt costs in a table, what its digest holds, and where its text comes from."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from extraction_world import CountingEngine, base, config, rows, run, whole, with_knowledge
from pyarrow import types
from worlds import behaviour

from trawl.extraction import engines
from trawl.extraction.rendering import Renderer
from trawl.inputs import Inputs
from trawl.store import Store

USERS, ITEMS, SEEN = 400, 3000, 15


def ratings() -> list[tuple[int, int, float]]:
    return [(u, (u * 37 + n * 101) % ITEMS + 1, 4.0) for u in range(1, USERS + 1) for n in range(2 * SEEN)]


def prompts(store: Store, words: int) -> tuple[int, pa.Table]:
    """(bytes, table) of user prompts that cite 15 texts of so many words each."""
    texts = {n: f"Film {n}. " + "word " * words for n in range(1, ITEMS + 1)}
    marks = with_knowledge(store, behaviour(store, ratings(), users=USERS, items=ITEMS), texts)
    cfg = config(user_items=SEEN, max_prompt_tokens=1_000_000)
    done = run(store, marks, cfg, "item_texts", "user_prompts")
    parts = Inputs(store, {"user_prompts": done["user_prompts"].fingerprint}).parts("user_prompts")
    return sum(p.bytes for p in parts), whole(store, done, "user_prompts")


def test_a_prompt_row_has_digests_and_no_text(tmp_path: Path) -> None:
    """Texts eight times as long make the rows no longer: ten million users store no prompt's text."""
    small, table = prompts(Store(str(tmp_path / "a")), 20)
    large, again = prompts(Store(str(tmp_path / "b")), 160)
    assert table.num_rows == again.num_rows == USERS
    assert min(again.column("tokens").to_pylist()) > 3 * max(table.column("tokens").to_pylist())
    assert large < 1.1 * small
    print(f"{small / USERS:.0f} bytes a prompt")
    assert small / USERS < 400  # fifteen indexes and digests, and counts: 4 GB at most for ten million users
    assert not [f.name for f in table.schema if types.is_large_string(f.type)]  # the type of text in every table


@pytest.mark.parametrize(
    "changed",
    [
        {"max_answer_tokens": 128},  # sampling
        {"user_items": 2},  # texts
        {"max_prompt_tokens": 400},  # cuts
        {"revision": "2"},  # model
        {"name": "other"},  # engine
        {"text": "Another text."},
        {},
    ],
    ids=str,
)
def test_what_changes_an_answer_changes_the_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    engine = CountingEngine()
    monkeypatch.setitem(engines.ENGINES, "extractive", lambda settings: engine)
    store = Store(str(tmp_path))
    texts: dict[int, str | None] = {n: f"Film {n}. " + "word " * 200 for n in range(1, 13)}
    names = ("item_texts", "user_prompts")
    before = rows(store, run(store, with_knowledge(store, base(store), texts), config(), *names), "user_prompts")
    if "text" in changed:
        texts = dict.fromkeys(texts, changed.pop("text"))
        expected = False
    else:
        expected = not changed
    for part in ("revision", "name"):
        if part in changed:
            monkeypatch.setattr(engine, part, changed.pop(part))
    store = Store(str(tmp_path / "other"))
    after = rows(
        store, run(store, with_knowledge(store, base(store), texts), config(**changed), *names), "user_prompts"
    )
    same = [one["digest"] == two["digest"] for one, two in zip(before, after, strict=True)]
    assert all(same) if expected else not any(same)


def test_texts_are_mapped_and_not_loaded(tmp_path: Path) -> None:
    """A renderer of a catalogue of 40 MB takes a fraction of it from memory."""
    store = Store(str(tmp_path))
    texts: dict[int, str | None] = {n: f"Film {n}. " + f"word{n} " * 600_000 for n in range(1, 13)}
    marks = with_knowledge(store, base(store), texts)
    done = run(store, marks, config(), "item_texts")
    marks["item_texts"] = done["item_texts"].fingerprint
    Renderer("item", Inputs(store, marks), config())  # the node's file is there
    before = pa.total_allocated_bytes()
    renderer = Renderer("item", Inputs(store, marks), config())
    assert renderer.catalogue.tokens.sum() > 7_000_000
    assert pa.total_allocated_bytes() - before < 1_000_000
