"""The line on the terminal: what it says, when it is shown, that it is cleared and leaves no thread."""

import io
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pytest

from trawl import progress
from trawl.config import Config
from trawl.errors import EngineDied
from trawl.executors import Inline
from trawl.inputs import Inputs
from trawl.pace import Pace, clock, rate
from trawl.progress import Progress, Watched, wanted
from trawl.stage import ASKED, Job, Stage, Task, numbered, run_stage
from trawl.store import Store

CLEAR = "\r\x1b[K"


class Terminal:
    """A pseudo terminal: `stream` is written to, `seen` is what came out on its other side."""

    def __init__(self, columns: int = 100) -> None:
        fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
        self.outer, inner = os.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.stream: TextIO = os.fdopen(inner, "w")
        self.seen = ""
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        while True:
            try:
                self.seen += os.read(self.outer, 65536).decode()
            except OSError:  # the other side is closed
                return

    def close(self) -> str:
        if not self.stream.closed:
            self.stream.close()
            self.reader.join()
            os.close(self.outer)
        return self.seen


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(progress, "_NEAR", 0.01)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    found = Terminal()
    yield found
    found.close()


def until(true: Callable[[], bool]) -> None:
    """Wait for something that a thread does soon; give up after a while."""
    for _ in range(2000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def rows(number: int) -> pa.Table:
    users = [number * 5 + n for n in range(1, 6)]
    return pa.table({"user": users, "cutoff": users, "events": users})


GO: dict[int, threading.Event] = {}


class Waits:
    def __init__(self, inputs: Inputs, cfg: Config) -> None: ...

    def __call__(self, task: Task) -> pa.Table:
        if task.number in GO and not GO[task.number].wait(20):
            raise AssertionError("nobody let it go on")
        return rows(task.number)


class Fails(Waits):
    def __call__(self, task: Task) -> pa.Table:
        raise EngineDied("over")


def four(inputs: Inputs, cfg: Config) -> list[Task]:
    return numbered(4)


def stage(worker: Any) -> Stage:
    return Stage(artifact="cutoffs", version=1, plan=four, worker=worker)


def test_the_line_counts_parts_and_is_cleared(terminal: Terminal, tmp_path: Path) -> None:
    GO.update({2: threading.Event()})
    (tmp_path / "s").mkdir()
    outcomes = []
    with Progress(terminal.stream) as line:
        told = line.above(lambda text: print(text, file=terminal.stream, flush=True))
        work = threading.Thread(
            target=lambda: outcomes.append(
                run_stage(stage(Waits), Config(), Store(str(tmp_path / "s")), {}, Watched(Inline(), line))
            )
        )
        work.start()
        until(lambda: "cutoffs  2/4 parts  50 %" in terminal.seen)
        told("a line of its own")
        GO[2].set()
        work.join()
    assert outcomes[0].rows == 20
    seen = terminal.close()
    assert f"{CLEAR}a line of its own\r\n" in seen
    assert CLEAR in seen.rpartition("\rcutoffs")[2], "the last line that was drawn is cleared"
    assert "trawl-progress" not in [t.name for t in threading.enumerate()]


def test_parts_of_an_earlier_run_count_for_the_share(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    job = Job(stage(Waits), None, Inputs(store, {}, {}, ("cutoffs", "m", "_work")), Config(), "m")
    store.write_text('{"rows": 7}', "cutoffs", "m", "_parts", "00000.json")
    activity = progress._Parts(job, 3, 0.0)
    store.write_text('{"rows": 5}', "cutoffs", "m", "_parts", "00001.json")
    activity.look(10.0)
    assert activity.line(10.0) == "cutoffs  2/4 parts  50 %  6.0 parts/min  30.0 rows/min  0:20 left"
    assert activity.rows == 5  # those of the earlier run are not of this rate


def test_prompts_that_an_engine_answers_are_counted_before_the_first_part(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    job = Job(stage(Waits), None, Inputs(store, {}, {}, ("cutoffs", "m", "_work")), Config(), "m")
    activity = progress._Parts(job, 4, 0.0)
    for second, text in ((10.0, "100/4000"), (20.0, "200/4000")):
        store.write_text(text, *job.inputs.work, ASKED)
        activity.look(second)
    assert activity.line(20.0) == "cutoffs  200/4,000 prompts  5 %  10.0 prompts/s  6:20 left"
    store.remove(*job.inputs.work, ASKED)
    activity.look(30.0)
    assert activity.line(30.0).startswith("cutoffs  0/4 parts  0 %")


def test_an_error_leaves_no_line_and_no_thread(terminal: Terminal, tmp_path: Path) -> None:
    with pytest.raises(EngineDied), Progress(terminal.stream) as line:
        run_stage(stage(Fails), Config(), Store(str(tmp_path)), {}, Watched(Inline(), line))
    assert line._active == []
    assert "trawl-progress" not in [t.name for t in threading.enumerate()]
    assert terminal.close() in ("", f"\rcutoffs  0/4 parts  0 %\x1b[K{CLEAR}")


def test_a_store_that_cannot_be_read_for_a_moment_ends_nothing(terminal: Terminal) -> None:
    class Broken:
        calls = 0

        def look(self, now: float) -> None:
            self.calls += 1
            if self.calls < 3:
                raise OSError("the network")

        def line(self, now: float) -> str:
            return "still here"

    broken = Broken()
    with Progress(terminal.stream) as line:
        line._active.append(broken)
        until(lambda: "still here" in terminal.seen)
    assert broken.calls >= 3


def test_the_width_of_the_terminal_is_kept() -> None:
    narrow = Terminal(columns=20)
    line = Progress(narrow.stream)
    line._draw("x" * 50)
    assert narrow.close() == "\r" + "x" * 19 + "\x1b[K"


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [("TERM", "dumb", False), ("NO_COLOR", "1", False), ("NO_COLOR", "", True), ("TERM", "xterm", True)],
)
def test_who_wants_no_line_gets_none(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, name: str, value: str, shown: bool
) -> None:
    monkeypatch.setenv(name, value)
    assert wanted(terminal.stream) is shown


def test_nothing_is_written_where_no_terminal_is(tmp_path: Path) -> None:
    out = io.StringIO()
    with Progress(out) as line:
        assert line._thread is None
        line.cells(3)
        outcome = run_stage(stage(Waits), Config(), Store(str(tmp_path)), {}, Watched(Inline(), line))
        line.cell()
    assert outcome.rows == 20
    assert out.getvalue() == ""


def test_cells_and_epochs(terminal: Terminal, tmp_path: Path) -> None:
    times = iter(float(n) for n in range(100))
    line = Progress(terminal.stream, clock=lambda: next(times))
    line.cells(3)
    cells = line._cells
    assert cells is not None
    store = Store(str(tmp_path))
    job = Job(stage(Waits), None, Inputs(store, {}, {}, ("model", "m", "_work")), Config(), "m")
    with line.training(job), line.parts(job, 5) as heard:
        heard()  # what is not drawn of the predictions can be called all the same
        store.write_text("2/5", "model", "m", "_work", "epoch")
        cells.look(50.0)
        assert cells.line(50.0) == "training  0/3 cells  0 %  epochs 2/5"
    assert cells.running == {}
    line.cell()
    assert cells.pace.done == 1
    line.cell()
    line.cell()
    assert line._active == []
    assert line._cells is None


def test_cells_that_were_ready_do_not_count_for_the_rate() -> None:
    cells = progress._Cells(4, 0.0)
    cells.count(0.1)
    cells.count(0.2)  # two that an earlier run had finished
    assert cells.pace.left(5.0) is None
    cells.trained = 1
    cells.count(10.0)
    assert cells.pace.rate == pytest.approx(0.1)
    assert cells.pace.left(10.0) == pytest.approx(10.0)


def test_pace() -> None:
    pace = Pace(total=10, before=2, begun=100.0)
    assert pace.words("parts", 101.0) == ["2/10 parts", "20 %"]
    pace.seen(3, 101.0)
    assert pace.left(101.5) is None  # too early to tell
    assert pace.left(103.0) == pytest.approx(5.0)  # 7 more at 1 a second, 2 of which have gone by
    pace.seen(7, 103.0)  # 5 in 3 s: 3 more take 1.8 s; half by the old guess of 108
    assert pace.left(103.0) == pytest.approx((108 + 104.8) / 2 - 103)
    assert pace.words("parts", 103.0, 300) == ["7/10 parts", "70 %", "1.7 parts/s", "100 rows/s", "0:03 left"]
    assert pace.left(200.0) == 0.0
    pace.seen(6, 201.0)  # never back
    assert pace.done == 7


def test_times_and_rates() -> None:
    assert clock(4) == "0:04"
    assert clock(3725) == "1:02:05"
    assert rate(0.5, "cells") == "30.0 cells/min"
    assert rate(1234.5, "rows") == "1,234 rows/s"
