"""vLLM's engine process killed, once and by the same prompt each time; the driver killed and its engine with it."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
import small

sys.path.insert(0, str(Path(__file__).parents[1] / "extraction"))
from tiny_model import make_tiny_qwen2

from trawl.extraction.cache import HOME, AnswerCache
from trawl.extraction.segments import Segment, read
from trawl.inputs import Inputs
from trawl.runs import Run
from trawl.store import Store

SETTINGS = (
    *small.SETTINGS,
    "data.synthetic.items=300",
    "data.synthetic.users=200",
    "resources.executor=ray",
    "resources.engine_rows=4",
    "extraction.engine=vllm",
    "extraction.max_prompt_tokens=2048",
    "extraction.max_answer_tokens=16",
    "extraction.failure_limit=0.2",
)
PATIENCE = 300.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_qwen2(tmp_path_factory.mktemp("tiny"))


def command(folder: Path, model: Path, until: str = "item_answers") -> list[str]:
    recipe = folder / "empty.toml"
    recipe.touch()
    words = [w for s in SETTINGS if not s.startswith("name=") for w in ("--set", s)]
    words += ["--set", f"extraction.model={model}", "--until", until]
    return [
        sys.executable,
        "-m",
        "trawl.cli",
        "run",
        str(recipe),
        "--store",
        str(folder / "store"),
        "--name",
        "r",
        *words,
    ]


@contextmanager
def started(words: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A run in a session of its own, of which nothing is left at the end."""
    process = subprocess.Popen(
        words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ended(process: subprocess.Popen[str]) -> None:
    _, err = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 0, err


def engines(driver: int) -> list[psutil.Process]:
    """vLLM's engine processes below a driver."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(driver).children(recursive=True):
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if "EngineCore" in " ".join(child.cmdline()):
                    found.append(child)
    return found


def until(what: Callable[[], Any], process: subprocess.Popen[str] | None = None, pause: float = 0.05) -> Any:
    """What it gives once it gives something. Fails when the run ends before."""
    limit = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < limit, "nothing happened"
        assert process is None or process.poll() is None, "the run ended before"
        time.sleep(pause)
    return found


def segments(store: Store) -> list[Segment]:
    return AnswerCache(store).segments()


def answers(store: Store) -> list[dict[str, Any]]:
    marks = Run(store, "r").read("run.json")["cells"][0]["artifacts"]
    rows: list[dict[str, Any]] = Inputs(store, marks).table("item_answers").to_pylist()
    return [row for row in rows if row["digest"]]


def test_an_engine_that_is_killed_is_replaced(tmp_path: Path, model: Path) -> None:
    store = Store(str(tmp_path / "store"))
    with started(command(tmp_path, model)) as process:
        until(lambda: segments(store), process)
        first = {engine.pid for engine in engines(process.pid)}
        assert len(first) == 1
        os.kill(next(iter(first)), signal.SIGKILL)
        second = until(lambda: {e.pid for e in engines(process.pid)} - first, process)
        assert second
        ended(process)
    rows = answers(store)
    assert {row["status"] for row in rows} == {"ok"}
    assert max(row["attempts"] for row in rows) == 2  # those that were in it
    assert min(row["attempts"] for row in rows) == 1


def test_a_prompt_that_kills_its_engine_each_time_is_a_failed_row(tmp_path: Path, model: Path) -> None:
    store = Store(str(tmp_path / "store"))
    killed: set[int] = set()

    def begun(kind: str) -> dict[str, int]:
        """How often each batch or row was begun that has not ended."""
        found = {}
        for path in (tmp_path / "store" / "item_answers").glob(f"*/_attempts/{kind}-*"):
            with suppress(FileNotFoundError):  # it has ended
                found[path.name.removeprefix(f"{kind}-")] = int(path.read_text())
        return found

    def kill_when(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
        fresh = until(lambda: [e for e in engines(process.pid) if e.pid not in killed], process)
        until(what, process, pause=0.001)
        fresh[0].kill()
        killed.add(fresh[0].pid)
        time.sleep(1)  # an answer that was on its way may still arrive

    victims: list[str] = []
    with started(command(tmp_path, model)) as process:
        for deaths in range(2):
            kill_when(lambda deaths=deaths: max(begun("batch").values(), default=0) > deaths, process)
        while not victims:  # the engine may die between two rows: then nobody is to blame, and once more
            kill_when(lambda: bool(begun("row")), process)
            victims = list(begun("row"))
        ended(process)
    (victim,) = victims
    rows = {row["digest"]: row for row in answers(store)}
    assert len(killed) >= 3
    assert {digest for digest, row in rows.items() if row["status"] != "ok"} == {victim}
    assert rows[victim]["reason"].startswith("engine_death: ")


def test_a_killed_driver_takes_its_engine_along_and_asks_only_the_rest(tmp_path: Path, model: Path) -> None:
    store = Store(str(tmp_path / "store"))
    with started(command(tmp_path, model)) as process:
        until(lambda: len(segments(store)) > 20, process)
        left = engines(process.pid)
        assert left
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: not any(engine.is_running() and engine.status() != "zombie" for engine in left))
        before = set(segments(store))
    with started(command(tmp_path, model)) as process:
        ended(process)
    rows = answers(store)
    assert {row["status"] for row in rows} == {"ok"}
    after = set(segments(store))
    assert before <= after
    kept = pa.concat_tables([read(store, HOME, segment, "", "g") for segment in after])
    assert sorted(kept.column("digest").to_pylist()) == sorted({row["digest"] for row in rows})  # none asked twice


def test_killed_three_times_at_random_moments_the_table_is_the_undisturbed_one(tmp_path: Path, model: Path) -> None:
    """Engine, actor and driver in any order: the same rows as without, nothing that was kept is asked again."""
    seed = int(os.environ.get("DRILL_SEED") or random.randrange(10**6))
    print(f"DRILL_SEED={seed}")
    rng = random.Random(seed)
    for name in ("calm", "wild"):
        (tmp_path / name).mkdir()
    with started(command(tmp_path / "calm", model)) as process:
        ended(process)
    left, store = ["engine", "actor", "driver"], Store(str(tmp_path / "wild" / "store"))
    rng.shuffle(left)
    while left:
        with started(command(tmp_path / "wild", model)) as process:
            while left:
                before = len(segments(store))
                (engine, *_) = until(lambda: engines(process.pid), process)
                until(lambda: len(segments(store)) > before + rng.randrange(8), process)  # noqa: B023
                what = left.pop(0)
                victim = {"engine": engine.pid, "actor": engine.ppid(), "driver": process.pid}[what]
                os.kill(victim, signal.SIGKILL)
                until(lambda: not engine.is_running() or engine.status() == "zombie")  # noqa: B023
                if what == "driver":
                    break
            else:
                ended(process)
    with started(command(tmp_path / "wild", model)) as process:
        ended(process)
    calm, wild = (
        [{k: v for k, v in row.items() if k not in ("attempts", "seconds")} for row in answers(Store(str(where)))]
        for where in (tmp_path / "calm" / "store", tmp_path / "wild" / "store")
    )
    assert wild == calm
    kept = pa.concat_tables([read(store, HOME, segment, "", "g") for segment in segments(store)])
    assert sorted(kept.column("digest").to_pylist()) == sorted(row["digest"] for row in wild)
