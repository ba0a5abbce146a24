"""What comes back from the engines: judged and kept per block, and counted for who watches."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from extraction_world import config

from trawl.config import Config
from trawl.extraction import feeding
from trawl.extraction.cache import AnswerCache
from trawl.extraction.feeding import Fed
from trawl.extraction.rendering import failed_answers
from trawl.extraction.stage import STAGES
from trawl.inputs import Inputs
from trawl.stage import ASKED, Job
from trawl.store import Store


def job(folder: Path, cfg: Config) -> Job:
    stage = next(stage for stage in STAGES if stage.artifact == "item_answers")
    return Job(stage, 1, Inputs(Store(str(folder)), {}, {}, ("item_answers", "f", "_work")), cfg, "f")


def block(*texts: str, error: str = "", finished: bool = True) -> pa.Table:
    rows = [
        {"digest": f"{n:032x}", "text": text, "tokens_in": 100, "tokens_out": 7, "tokens_cached": 64}
        | {"finished": finished, "error": error, "seconds": 0.5, "attempts": 1}
        for n, text in enumerate(texts)
    ]
    return pa.table({feeding._ROW: pa.array(rows)})


def test_a_block_is_judged_kept_and_counted(tmp_path: Path) -> None:
    here = job(tmp_path, config())
    counts = feeding._keep(block("Genre: drama.", "I'm sorry, no."), here, "vllm/1").to_pylist()
    assert [Fed(**row) for row in counts] == [Fed(rows=2, tokens_in=200, tokens_out=14, cached=128)]
    known = AnswerCache(here.inputs.store).lookup([f"{n:032x}" for n in range(2)]).to_pylist()
    assert [(row["status"], row["text"]) for row in known] == [("ok", "Genre: drama."), ("refused", None)]


def test_what_failed_is_kept_beside_the_stage_only(tmp_path: Path) -> None:
    here = job(tmp_path, config())
    feeding._keep(block("", error="ValueError: too long"), here, "vllm/1")
    assert AnswerCache(here.inputs.store).lookup(["0" * 32]).num_rows == 0
    assert failed_answers(here.inputs).lookup(["0" * 32]).column("reason").to_pylist() == ["ValueError: too long"]


def test_json_answers_are_kept_as_lines(tmp_path: Path) -> None:
    here = job(tmp_path, config(engine="vllm", model="m", output="json"))
    feeding._keep(block('{"Genre": ["drama", "wa', finished=False), here, "vllm/1")
    (row,) = AnswerCache(here.inputs.store).lookup(["0" * 32]).to_pylist()
    assert (row["status"], row["text"]) == ("truncated", "Genre: drama, wa")


def test_a_block_without_rows_counts_nothing(tmp_path: Path) -> None:
    counts = feeding._keep(pa.table({}), job(tmp_path, config()), "vllm/1").to_pylist()
    assert [Fed(**row) for row in counts] == [Fed()]


def test_the_counts_of_the_blocks_are_added_and_told_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, told = job(tmp_path, config()), []
    monkeypatch.setattr(feeding, "_NEAR", 0.0)

    class Kept:
        def iter_batches(self, **rest: Any) -> Iterator[pa.Table]:
            for _ in range(3):
                yield pa.table({"rows": [4], "tokens_in": [40], "tokens_out": [8], "cached": [30]})
                told.append(here.inputs.store.find_text(*here.inputs.work, ASKED))

    assert feeding._followed(here, Kept(), 20) == Fed(12, 120, 24, 90)
    assert told == ["4/20", "8/20", "12/20"]
    assert not here.inputs.store.exists(*here.inputs.work, ASKED)
