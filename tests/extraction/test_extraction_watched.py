"""Ray's vLLM worker with its memory of deaths, before a stand-in for the engine: rows that fail, rows that kill."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from trawl.errors import EngineDied
from trawl.extraction.leash import OWNER
from trawl.extraction.starting import Failures, Start
from trawl.extraction.watched import Asking, Marks, Turns, watched
from trawl.store import Store

IDS = "__idx_in_batch"


class Died(BaseException):
    """What ending the actor's process looks like from inside."""


class Engine:
    """Stands for vLLM: the prompt's own tokens come back; of a prompt of two tokens one was cached."""

    def __init__(self) -> None:
        self.engine = SimpleNamespace(errored=False)

    async def _generate_async(self, request: Any) -> Any:
        if request.request_id == "silent":
            self.engine.errored = True  # and whoever waits is not told
            await asyncio.sleep(0.5)
        reason = "length" if request.request_id == "long" else "stop"
        return SimpleNamespace(outputs=[SimpleNamespace(finish_reason=reason)], num_cached_tokens=1)


class Worker:
    """Stands for Ray's worker: answers out of order, fails a row called fails, dies of a row called kills."""

    calls: ClassVar[list[list[str]]] = []

    def __init__(self) -> None:
        self.llm = Engine()

    async def udf(self, batch: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
        self.calls.append([row["digest"] for row in batch])
        await asyncio.sleep(0)
        for row in reversed(batch):
            assert row.pop("tokenized_prompt") == [1, 2]
            assert row["sampling_params"]["max_tokens"] == 9
            if row["digest"] == "kills":
                raise Died
            error = "ValueError: out of\nvocabulary" if row["digest"] == "fails" else ""
            if not error:
                await self.llm._generate_async(SimpleNamespace(request_id=row["digest"]))
            yield {
                IDS: row[IDS],
                "generated_text": "" if error else f"about {row['digest']}",
                "generated_tokens": [] if error else [5, 6],
                "num_input_tokens": 0 if error else 7,
                "time_taken_llm": 0.5,
                "request_id": row["digest"],
                "__inference_error__": error,
            }


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Marks:
    monkeypatch.setenv(OWNER, "")  # put back at the end: nothing that other tests start is on a leash
    monkeypatch.setattr("trawl.extraction.watched._sampling", lambda asking: {"temperature": 0.0})  # imports vLLM
    Worker.calls = []
    return Marks(Store(str(tmp_path)), ("item_answers", "f", "_attempts"))


def rows(*digests: str) -> list[dict[str, Any]]:
    prompt = np.array([1, 2], np.int32).tobytes()
    return [{IDS: n, "digest": d, "prompt": prompt, "max_tokens": 9} for n, d in enumerate(digests)]


def made(marks: Marks, engines: int = 1, base: type = Worker, seconds: float = 60) -> Any:
    failures, start = Failures(marks.store, marks.home), Start(seconds, "look at resources.cpu_cache_gib (1)")
    return watched(base)(marks=marks, failures=failures, start=start, asking=Asking(), engines=engines)


def answers(actor: Any, batch: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    async def collect() -> list[dict[str, Any]]:
        return [out async for out in actor.udf(batch)]

    return {batch[out[IDS]]["digest"]: out for out in asyncio.run(collect())}


def test_each_row_comes_back_once_in_the_same_columns(marks: Marks) -> None:
    actor, batch = made(marks), rows("a", "fails", "b")
    out = answers(actor, batch)
    assert out.keys() == {"a", "fails", "b"}
    assert len({tuple(sorted(row)) for row in out.values()}) == 1
    assert (out["a"]["text"], out["a"]["tokens_in"], out["a"]["tokens_out"]) == ("about a", 7, 2)
    assert (out["a"]["finished"], out["a"]["tokens_cached"]) == (True, 1)
    assert (out["fails"]["error"], out["fails"]["text"]) == ("ValueError: out of vocabulary", "")
    assert all(row["__inference_error__"] == "" for row in out.values())  # Ray would let such rows pass unshaped
    assert not any("sampling_params" in row or "tokenized_prompt" in row for row in batch)
    assert not marks.store.names(*marks.home)  # nothing begun is left, the start of the engine neither


def test_a_reply_that_stopped_at_the_limit_says_so(marks: Marks) -> None:
    out = answers(made(marks), rows("a", "long"))
    assert {digest: row["finished"] for digest, row in out.items()} == {"a": True, "long": False}


def test_a_row_that_kills_is_found_and_the_others_are_answered(marks: Marks) -> None:
    batch = ("a", "kills", "b")
    for _ in range(2):  # twice with the whole batch
        with pytest.raises(Died):
            answers(made(marks), rows(*batch))
    with pytest.raises(Died):  # then row by row: alone
        answers(made(marks), rows(*batch))
    out = answers(made(marks), rows(*batch))
    assert Worker.calls == [[*batch], [*batch], ["a"], ["kills"], ["a"], ["b"]]
    assert out["kills"]["error"].startswith("engine_death: ")
    assert (out["a"]["text"], out["b"]["text"], out["a"]["attempts"]) == ("about a", "about b", 4)
    assert [name for name in marks.store.names(*marks.home) if name.startswith("batch-")] == []


def test_an_engine_that_dies_without_a_word_ends_its_actor(marks: Marks, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr("trawl.extraction.watched._LOOK", 0.01)
    monkeypatch.setattr("trawl.extraction.watched.os._exit", ended.append)
    answers(made(marks), rows("a"))
    assert not ended
    answers(made(marks), rows("silent"))
    assert ended


def test_engines_that_answer_nothing_end_the_run(marks: Marks) -> None:
    for _ in range(7):
        made(marks)
    made(marks, engines=2)  # two side by side may both be starting
    with pytest.raises(EngineDied, match=r"8 engines .* run again"):
        made(marks)
    assert "8 engines" in str(Failures(marks.store, marks.home).found())  # where the driver looks for it


def test_an_engine_that_answered_does_not_count(marks: Marks) -> None:
    for n in range(20):
        answers(made(marks), rows(f"r{n}"))
    assert marks.starts() == 0


def test_alone_is_alone() -> None:
    async def play() -> list[str]:
        turns, seen = Turns(), []

        async def many(name: str) -> None:
            async with turns.together():
                seen.append(f"{name} in")
                await asyncio.sleep(0.01)
                seen.append(f"{name} out")

        async def one() -> None:
            async with turns.alone():
                seen.append("alone in")
                await asyncio.sleep(0.01)
                seen.append("alone out")

        await asyncio.gather(many("a"), many("b"), one(), one(), many("c"))
        return seen

    seen = asyncio.run(play())
    assert seen[:2] == ["a in", "b in"]
    places = [n for n, what in enumerate(seen) if what == "alone in"]
    assert len(places) == 2
    assert all(seen[n + 1] == "alone out" for n in places), json.dumps(seen)
    assert sorted(seen).count("c out") == 1
