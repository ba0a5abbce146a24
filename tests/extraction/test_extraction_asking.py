"""Workers that die while they ask: what was begun is remembered, the culprit becomes a failed row."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from trawl.extraction.answers import ANSWER
from trawl.extraction.asking import ask
from trawl.extraction.cache import AnswerCache
from trawl.extraction.deaths import Deaths
from trawl.extraction.engines import Reply, Request
from trawl.extraction.engines.seam import CountsWords
from trawl.extraction.watched import Marks
from trawl.store import Store


class Died(BaseException):
    """What the end of a process looks like from inside."""


class Mortal(CountsWords):
    """Dies of requests called kills."""

    name, revision = "mortal", "1"

    def __init__(self, kills: str = "kills") -> None:
        self.calls: list[list[str]] = []
        self.kills = kills

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        self.calls.append([r.digest for r in requests])
        if any(r.digest.startswith(self.kills) for r in requests):
            raise Died
        return [Reply(f"about {r.digest}") for r in requests]


class Worker:
    """What Asker does with a task, tried until it ends or is given up."""

    def __init__(self, folder: Path) -> None:
        store = Store(str(folder))
        self.cache = AnswerCache(store)
        self.marks = Marks(store, ("item_answers", "f", "_attempts"))
        self.attempts = 0

    def forgive(self) -> None:
        self.attempts = 0

    def run(self, engine: Mortal, *digests: str) -> dict[str, dict[str, object]]:
        while True:
            self.attempts += 1
            assert self.attempts <= 3, "the task would be given up"
            known = self.cache.lookup(digests)
            left = [d for d in digests if d not in known.column("digest").to_pylist()]
            requests = [Request(d, d, (), (), 9) for d in left]
            deaths = Deaths(self.marks, self.forgive)
            try:
                fresh = pa.concat_tables([ANSWER.empty_table(), *ask(engine, requests, self.cache, 3, deaths)])
            except Died:
                continue
            return {row["digest"]: row for row in (*known.to_pylist(), *fresh.to_pylist())}


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return Worker(tmp_path)


def test_a_row_that_kills_becomes_failed_and_costs_three_deaths(worker: Worker) -> None:
    engine = Mortal()
    out = worker.run(engine, "a", "b", "c", "d", "kills", "e", "f")
    assert out["kills"]["status"] == "failed"
    assert str(out["kills"]["reason"]).startswith("engine_death: ")
    assert {out[d]["status"] for d in "abcdef"} == {"ok"}
    whole = ["d", "kills", "e"]
    assert engine.calls == [["a", "b", "c"], whole, whole, ["d"], ["kills"], ["e", "f"]]
    assert out["e"]["attempts"] == 1


def test_several_culprits_in_one_batch(worker: Worker) -> None:
    out = worker.run(Mortal(), "kills1", "kills2", "a", "kills3")
    assert sorted(d for d, row in out.items() if row["status"] == "failed") == ["kills1", "kills2", "kills3"]
    assert out["a"]["status"] == "ok"


class Unlucky(Mortal):
    """Dies once."""

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        self.kills = "" if not self.calls else "none"
        return super().answer(requests)


def test_a_death_by_chance_blames_nobody_and_leaves_no_mark(worker: Worker) -> None:
    engine = Unlucky()
    out = worker.run(engine, "a", "b")
    assert engine.calls == [["a", "b"], ["a", "b"]]
    assert {(row["status"], row["attempts"]) for row in out.values()} == {("ok", 2)}
    assert worker.marks.store.names(*worker.marks.home) == []
