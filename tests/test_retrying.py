"""`trawl retry`: only what was meant is asked again, published tables stay, the run keeps what it was given."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import scripted
import small

from trawl import cli, views
from trawl.extraction.cache import HELD, AnswerCache, listed_answers
from trawl.inputs import Inputs
from trawl.runs import Run
from trawl.store import Store

WORDS = [w for s in small.SETTINGS if not s.startswith("name=") for w in ("--set", s)]


class World:
    """A store, a run named r up to the answers, a scripted engine with its log."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, Store(str(folder / "store"))
        self.script, self.log = folder / "script.json", folder / "log"
        (folder / "r.toml").touch()

    def says(self, **script: Any) -> None:
        self.script.write_text(json.dumps(script | {"log": str(self.log)}))

    def run(self, *more: str, until: str = "user_answers", name: str = "r") -> int:
        words = ["run", str(self.folder / "r.toml"), "--store", self.store.root, "--name", name, *WORDS]
        settings = (
            "extraction.engine=scripted:Scripted",
            f"extraction.model={self.script}",
            "extraction.failure_limit=0.9",
            *more,
        )
        return cli.main([*words, "--until", until, *(w for s in settings for w in ("--set", s))])

    def retry(self, status: str, *more: str) -> int:
        return cli.main(["retry", "r", "--store", self.store.root, "--status", status, *more])

    def answers(self, side: str = "user") -> pa.Table:
        marks = Run(self.store, "r").read("run.json")["cells"][0]["artifacts"]
        return Inputs(self.store, marks).table(f"{side}_answers")

    def digests(self, *statuses: str) -> list[str]:
        return sorted(r["digest"] for r in self.answers().to_pylist() if r["status"] in statuses)

    def asked(self) -> list[str]:
        """Digests since the last call, in their order."""
        out = sorted({d for batch in scripted.asked(self.log) for d in batch["digests"]})
        self.log.unlink(missing_ok=True)
        return out


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_only_these_are_asked_again_and_all_else_stays(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.says(fails=["gender: F"], cuts=["gender: M"])
    assert world.run() == 0
    failed, cut = world.digests("failed"), world.digests("truncated")
    assert failed and cut
    before = {mark: world.store.manifest(name, mark) for name, mark in world.store.artifacts()}
    world.asked()
    world.says()
    capsys.readouterr()
    assert world.retry("truncated") == 0
    assert world.asked() == cut  # and not those that failed, which no cache holds
    assert world.digests("failed") == failed
    assert world.digests("truncated") == []
    out, err = capsys.readouterr()
    assert f"asked {len(cut)}, from cache {len(failed)}" in err
    (change,) = [line for line in out.splitlines() if line.startswith("user_answers:")]
    assert f"truncated {len(cut)} -> 0" in change and f"failed {len(failed)} -> {len(failed)}" in change
    assert before.items() <= {m: world.store.manifest(n, m) for n, m in world.store.artifacts()}.items()
    assert world.retry("failed,empty") == 0
    assert world.asked() == failed
    assert set(world.answers().column("status").to_pylist()) == {"ok"}


def test_the_run_keeps_its_answers_and_other_runs_have_them_too(world: World) -> None:
    world.says(cuts=["gender: M"])
    world.run()
    world.says()
    world.retry("truncated")
    world.asked()
    marks = Run(world.store, "r").read("run.json")["artifacts"]
    assert world.run(until="user_embeddings") == 0  # the same recipe, the same name
    assert Run(world.store, "r").read("run.json")["artifacts"]["user_answers"] == marks["user_answers"]
    assert world.run("extraction.failure_limit=0.8", name="other") == 0
    assert world.run("extraction.source=shuffled", name="mixed") == 0
    assert world.asked() == []
    other = Run(world.store, "mixed").read("run.json")["cells"][0]["artifacts"]
    assert set(Inputs(world.store, other).table("user_answers").column("status").to_pylist()) == {"ok"}


def test_what_is_cut_again_can_be_retried_again(world: World) -> None:
    world.says(cuts=["gender: M"])
    world.run()
    cut = world.digests("truncated")
    world.asked()
    for _ in range(2):
        world.retry("truncated")
        assert world.asked() == cut
        assert world.digests("truncated") == cut


def test_a_run_that_published_nothing_can_be_retried(world: World) -> None:
    world.says(cuts=["gender: M"])
    strict = ('extraction.failures=["truncated"]', "extraction.failure_limit=0.0")
    assert world.run(*strict) == 1
    assert world.run(*strict) == 1  # the cache has them
    world.asked()
    world.says()
    assert world.retry("truncated") == 0
    assert world.asked()
    assert set(world.answers().column("status").to_pylist()) == {"ok"}


def test_gc_merges_answers_and_keeps_what_is_held(world: World) -> None:
    world.says(fails=["gender: F"], cuts=["gender: M"])
    world.run()
    world.says()
    world.retry("truncated")
    table, cache = world.answers(), AnswerCache(world.store)
    segments = len(cache.segments())
    (held,) = world.store.names(*HELD)
    views.gc(world.store, keep_runs=1)
    assert len(cache.segments()) == 1 < segments
    assert world.store.names(*HELD) == [held]
    assert world.answers().equals(table)
    assert views.gc(world.store, keep_runs=0)
    assert world.store.names(*HELD) == []
    world.asked()
    world.run("extraction.failure_limit=0.8")
    failed = sorted(row["digest"] for row in table.to_pylist() if row["status"] == "failed")
    assert world.asked() == failed  # the others are in the cache


def test_answers_are_asked_again_by_the_status_that_the_table_gives(world: World) -> None:
    """The cache may hold them under another, as here those that are well."""
    world.says()
    world.run()
    fine = world.digests("ok")
    world.asked()
    assert world.retry("ok") == 0
    assert world.asked() == fine
    listed = listed_answers(
        world.store, Run(world.store, "r").read("run.json")["recipe"]["retry"]["user"]["generation"]
    )
    assert len(listed.segments()) == 3  # a part of the table each


def test_nothing_to_ask_changes_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.says()
    world.run()
    record = Run(world.store, "r").read("run.json")
    assert world.retry("failed") == 0
    assert "nothing to ask again" in capsys.readouterr().out
    assert Run(world.store, "r").read("run.json") == record


@pytest.mark.parametrize(("words", "line"), [(("no_text",), "give one"), (("failed", "--set", "name=x"), "only")])
def test_asked_wrongly(world: World, words: Sequence[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    world.says()
    world.run()
    assert world.retry(*words) == 2
    assert line in capsys.readouterr().err
