"""kill -9 of driver, actors and engine processes at random moments, with an engine that notes what it was asked."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import scripted
import small

from trawl.inputs import Inputs
from trawl.runs import Run
from trawl.store import Store

BATCH, ACTORS = 8, 2
SETTINGS = (
    *small.SETTINGS,
    "data.synthetic.items=960",
    "data.synthetic.users=480",
    "data.partitions=4",
    "extraction.engine=scripted:Scripted",
    "extraction.failure_limit=0.5",
    f"resources.batch_rows={BATCH}",
    f"resources.actors={ACTORS}",
)
KILLS = ("actor",) * 4 + ("engine",) * 4 + ("driver",) * 4
PATIENCE = 400.0
HERE = Path(__file__).parents[1]


class World:
    """A folder with a script for the engine, its log and a store."""

    def __init__(self, folder: Path, **script: Any) -> None:
        self.folder, self.script, self.log = folder, folder / "script.json", folder / "log"
        self.until = "user_answers"
        (folder / "r.toml").touch()
        self.says(**script)

    def says(self, **script: Any) -> None:
        self.script.write_text(json.dumps(script | {"log": str(self.log)}))

    def words(self, store: str, executor: str) -> list[str]:
        settings = (*SETTINGS, f"extraction.model={self.script}", f"resources.executor={executor}")
        words = [w for s in settings if not s.startswith("name=") for w in ("--set", s)]
        recipe = ["run", str(self.folder / "r.toml"), "--store", str(self.folder / store), "--name", "r"]
        return [sys.executable, "-m", "trawl.cli", *recipe, *words, "--until", self.until]

    @contextmanager
    def started(self, store: str, executor: str = "ray") -> Iterator["subprocess.Popen[str]"]:
        """A run in a session of its own, of which nothing is left at the end."""
        path = os.pathsep.join([str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")])
        process = subprocess.Popen(
            self.words(store, executor),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "err").open("w"),
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def whole(self, store: str, executor: str = "ray") -> None:
        with self.started(store, executor) as process:
            process.wait(timeout=PATIENCE)
            assert process.returncode == 0, (self.folder / "err").read_text()

    def tables(self, store: str) -> dict[str, pa.Table]:
        opened = Store(str(self.folder / store))
        marks = Run(opened, "r").read("run.json")["cells"][0]["artifacts"]
        return {name: Inputs(opened, marks).table(name) for name in ("item_answers", "user_answers") if name in marks}


def alive(process: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def ripe(log: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The newest batch of a living actor that has answered two others: so no batch is met by three kills."""
    counts = Counter(batch["process"] for batch in log)
    found = [batch for batch in log if counts[batch["process"]] > 2 and alive(batch["process"])]
    return found[-1] if found else None


def strike(what: str, world: World, process: "subprocess.Popen[str]", rng: random.Random) -> bool:
    """Wait for a moment to kill, and kill. False when the run ended before."""
    limit = time.monotonic() + PATIENCE
    while (batch := ripe(scripted.asked(world.log))) is None:
        if process.poll() is not None:
            return False
        assert time.monotonic() < limit, "nothing was asked"
        time.sleep(0.02)
    time.sleep(rng.uniform(0, 0.4))
    with suppress(ProcessLookupError):
        if what == "driver":
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        else:
            os.kill(batch["process" if what == "actor" else "child"], signal.SIGKILL)
    while alive(batch["process"]):  # with its engine or its driver an actor ends too
        assert time.monotonic() < limit, f"the {what} was killed and the actor lives on"
        time.sleep(0.02)
    return True


def test_killed_at_random_moments_nothing_is_lost_or_asked_more_than_it_must(tmp_path: Path) -> None:
    seed = int(os.environ.get("DRILL_SEED") or random.randrange(10**6))
    print(f"DRILL_SEED={seed}")
    rng = random.Random(seed)
    world = World(tmp_path)
    world.whole("calm", "inline")
    calm = scripted.asked(world.log)
    world.log.unlink()
    world.says(seconds=0.03, child=True)
    left = list(KILLS)
    rng.shuffle(left)
    done: list[str] = []
    for _ in range(3 * len(KILLS)):
        with world.started("wild") as process:
            while left and strike(left[0], world, process, rng):
                done.append(left.pop(0))
                if done[-1] == "driver":
                    break
            else:
                process.wait(timeout=PATIENCE)
                if process.returncode == 0:
                    break
    print(f"killed: {' '.join(done)}")
    assert len(done) >= 10, f"the run ended after {done}"
    world.says()
    world.whole("wild")
    log = scripted.asked(world.log)
    check_twice(log)
    assert {d for b in log for d in b["digests"]} == {d for b in calm for d in b["digests"]}
    for name, table in world.tables("wild").items():
        drop = ["attempts", "seconds"]
        assert table.drop_columns(drop).equals(world.tables("calm")[name].drop_columns(drop)), name


def check_twice(log: Sequence[dict[str, Any]]) -> None:
    """Of what an actor was asked, nothing but its last batch was asked again."""
    last = {batch["process"]: number for number, batch in enumerate(log)}
    for number, batch in enumerate(log):
        if last[batch["process"]] != number:
            later = {d for other in log[number + 1 :] for d in other["digests"]}
            assert not later & set(batch["digests"]), "a batch that was answered and kept was asked again"


def test_rows_that_kill_their_engine_are_failed_rows(tmp_path: Path) -> None:
    """Two prompts end their process each time: they fail as engine_death, all others are answered."""
    world = World(tmp_path)
    world.until = "item_answers"
    world.whole("calm", "inline")
    ok = {name: table.to_pylist() for name, table in world.tables("calm").items()}
    texts = Store(str(tmp_path / "calm"))
    marks = Run(texts, "r").read("run.json")["cells"][0]["artifacts"]
    titles = Inputs(texts, marks).table("items", ["item", "title"]).to_pylist()
    asked = {row["entity"] for row in ok["item_answers"] if row["status"] == "ok"}
    culprits = [row["title"] for row in titles if row["item"] in asked][:2]
    world.says(kills=[f"<<<TEXT 1>>> {title}\n" for title in culprits])
    world.whole("wild")
    tables = world.tables("wild")
    bad = [row for row in tables["item_answers"].to_pylist() if row["status"] == "failed"]
    assert len(bad) >= 2
    assert all(row["reason"].startswith("engine_death: ") for row in bad)
    rest = {row["entity"]: row["text"] for row in tables["item_answers"].to_pylist() if row["status"] != "failed"}
    want = {row["entity"]: row["text"] for row in ok["item_answers"]}
    assert rest == {entity: want[entity] for entity in rest}
    assert len(rest) + len(bad) == len(want)
