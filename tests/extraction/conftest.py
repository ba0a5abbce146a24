"""What several files here share: a store, and an engine that counts what it is asked."""

from pathlib import Path

import pytest
from extraction_world import CountingEngine

from trawl.extraction import engines
from trawl.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> CountingEngine:
    made = CountingEngine()
    monkeypatch.setitem(engines.ENGINES, "extractive", lambda settings: made)
    return made
