"""Chunks and their merging with vLLM: an engine for the chunks and one for what merges them, each prompt asked once."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "extraction"))
from extraction_world import TEXTS, base, config, with_knowledge
from tiny_model import ANSWER, make_tiny_qwen2

from trawl.executors import OnRay
from trawl.extraction import feeding
from trawl.extraction.cache import AnswerCache
from trawl.extraction.stage import STAGES
from trawl.inputs import Inputs
from trawl.stage import Outcome, run_stage
from trawl.store import Store

LONG = " ".join(f"Sentence {n} of a long text that no prompt has room for." for n in range(90))
FILM = 4


def test_a_long_text_is_read_in_chunks_and_their_answers_are_merged(
    tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long text is read in chunks by one engine, their answers are merged by another; a rerun starts none."""
    store, model = Store(str(tmp_path / "store")), make_tiny_qwen2(tmp_path / "tiny")
    settings = {"engine": "vllm", "model": str(model), "max_prompt_tokens": 2048, "max_answer_tokens": 16}
    cfg = config(**settings, over_budget="chunks").override("resources.engine_rows=4")
    marks = with_knowledge(store, base(store), {**TEXTS, FILM: LONG})

    def made(source: str) -> Outcome:
        known, changed = dict(marks), cfg.override(f"extraction.source={source}")
        for stage in STAGES[:3]:
            outcome = run_stage(stage, changed, store, known, OnRay(changed))
            known[stage.artifact] = outcome.fingerprint
        prompts.extend(Inputs(store, known).table("item_prompts").to_pylist())
        return outcome

    prompts: list[dict[str, Any]] = []
    outcome = made("extracted")
    chunks = [row for row in prompts if row["entity"] == FILM]
    assert len(chunks) > 2
    rows = _rows(store, outcome)
    assert sorted(rows) == list(range(1, 13))
    assert (rows[FILM]["status"], rows[FILM]["text"], rows[FILM]["reason"]) == ("ok", ANSWER, None)
    assert rows[FILM]["attempts"] == len(chunks) + 1
    assert rows[FILM]["digest"] not in {row["digest"] for row in prompts}
    known = AnswerCache(store).lookup([str(row["digest"]) for row in prompts] + [rows[FILM]["digest"]])
    assert known.num_rows == len(prompts) + 1
    assert max(known.column("tokens_in").to_pylist()) <= 2048 - 16
    monkeypatch.setattr(feeding, "_processor", lambda *arguments: pytest.fail("an engine was started"))
    assert made("shuffled").statuses == outcome.statuses


def _rows(store: Store, outcome: Outcome) -> dict[int, dict[str, Any]]:
    table = Inputs(store, {"item_answers": outcome.fingerprint}).table("item_answers")
    return {row["entity"]: row for row in table.to_pylist()}
