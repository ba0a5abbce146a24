"""How far a run is, on one line of a terminal: parts or cells done, their share, the rate, the time left.

    item_embeddings  3/8 parts  38 %  1.2 parts/s  310 rows/s  0:04 left

`Watched` stands before an executor and sees the jobs that pass. What is finished is counted by the markers that workers
leave in the store, since Ray Data hands its outcomes over all at once. One thread redraws the line; it begins and ends
with the `with` block of a `Progress`. Where stderr is no terminal nothing is drawn and no thread begins.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

import pyarrow.fs as pafs

from trawl.errors import TrawlError
from trawl.pace import Pace
from trawl.stage import ASKED, EPOCH, Executor, Job, Task
from trawl.store import Store

_NEAR, _FAR = 1.0, 10.0  # seconds between looks into a store on this machine, elsewhere
_READ = 200  # markers read in one look, for their rows
_WIDTH = 80  # of a terminal that does not say


class _Activity(Protocol):
    """Something that is under way."""

    def look(self, now: float) -> None:
        """See how far it is; may read the store."""
        ...

    def line(self, now: float) -> str: ...


class _Parts:
    """The tasks of one job. Its markers: one file per finished task."""

    def __init__(self, job: Job, tasks: int, now: float) -> None:
        self.store = job.inputs.store
        work = "_parts" if job.phase is None else f"_work/phase-{job.phase}"
        self.folder = (job.stage.artifact, job.fingerprint, work)
        self.near = isinstance(self.store.fs, pafs.LocalFileSystem)
        self.known = self._markers()
        self.pace = Pace(tasks + len(self.known), len(self.known), now)
        self.name = job.stage.artifact
        if job.phase is not None:
            self.name += f", exchange {job.phase + 1} of {len(job.stage.phases_of(job.cfg))}"
        self.heard = self.rows = 0
        self.next = now
        self.work = job.inputs.work
        self.asked: Pace | None = None  # prompts that are answered before the first part

    def _markers(self) -> set[str]:
        return {name for name in self.store.names(*self.folder) if name.endswith(".json")}

    def look(self, now: float) -> None:
        done = self.pace.before + self.heard
        if now >= self.next:
            self.next = now + (_NEAR if self.near else _FAR)
            found = self._markers()
            self._look_asked(now)
            done = max(done, len(found))
            if self.near:  # elsewhere each read would be a request
                new = sorted(found - self.known)[:_READ]
                self.rows += sum(self._rows(name) for name in new)
                self.known |= set(new)
        self.pace.seen(min(done, self.pace.total), now)

    def _look_asked(self, now: float) -> None:
        """What the phase has done before its first part ends: answers of an engine, of all that it is asked for."""
        text = self.store.find_text(*self.work, ASKED)
        if text is None:
            self.asked = None
            return
        done, total = (int(n) for n in text.split("/"))
        if self.asked is None or self.asked.total != total:
            self.asked = Pace(total, done, now)
        self.asked.seen(done, now)

    def _rows(self, marker: str) -> int:
        found = json.loads(self.store.read_text(*self.folder, marker))
        return int(sum(found) if isinstance(found, list) else found["rows"])

    def line(self, now: float) -> str:
        if self.asked:
            return "  ".join([self.name, *self.asked.words("prompts", now)])
        return "  ".join([self.name, *self.pace.words("parts", now, self.rows)])


class _Cells:
    """The trainings of an experiment, several of which may run side by side."""

    def __init__(self, total: int, now: float) -> None:
        self.pace = Pace(total, 0, now)
        self.finished = 0  # cells, of which some may have been ready
        self.trained = 0
        self.running: dict[tuple[str, ...], str] = {}  # work folder -> "2/5"
        self.stores: dict[tuple[str, ...], Store] = {}
        self.next = now

    def look(self, now: float) -> None:
        if now < self.next:
            return
        near = all(isinstance(store.fs, pafs.LocalFileSystem) for store in self.stores.values())
        self.next = now + (_NEAR if near else _FAR)
        for folder, store in list(self.stores.items()):
            if store.exists(*folder, EPOCH):
                self.running[folder] = store.read_text(*folder, EPOCH)

    def count(self, now: float) -> None:
        """A cell has ended: one that was trained counts for the rate."""
        self.finished += 1
        if self.finished - self.pace.before > self.trained:
            self.pace.before = self.finished - self.trained
        self.pace.seen(self.finished, now)

    def line(self, now: float) -> str:
        words = ["training", *self.pace.words("cells", now)]
        epochs = ", ".join(epoch for folder, epoch in list(self.running.items()) if folder in self.stores)
        return "  ".join([*words, f"epochs {epochs}"] if epochs else words)


class Progress:
    """The line. Use it in a `with` block; outside of one, and where it is not shown, every call does nothing."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.clock = stream, clock
        self.shown = wanted(stream)
        self._lock = threading.RLock()
        self._active: list[_Activity] = []
        self._cells: _Cells | None = None
        self._drawn = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Progress":
        if self.shown:
            self._thread = threading.Thread(target=self._redraw, name="trawl-progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()
        with self._lock:
            self._clear()

    def above(self, tell: Callable[..., None]) -> Callable[..., None]:
        """The same function, its lines standing above this one."""

        def told(*arguments: Any) -> None:
            with self._lock:
                self._clear()
                tell(*arguments)

        return told

    def cells(self, total: int) -> None:
        """From now on so many cells are trained."""
        if not self.shown:
            return
        with self._lock:
            self._cells = _Cells(total, self.clock())
            self._active.append(self._cells)

    def cell(self) -> None:
        """One of them has ended."""
        with self._lock:
            if self._cells:
                self._cells.count(self.clock())
                if self._cells.finished >= self._cells.pace.total:
                    self._done(self._cells)
                    self._cells = None

    @contextmanager
    def parts(self, job: Job, tasks: int) -> Iterator[Callable[[], None]]:
        """While the tasks of a job run. Yields what is to be called for each outcome that arrives."""
        if not self.shown or self._cells or not tasks:  # of the predictions the line of the cells says enough
            yield lambda: None
            return
        activity = _Parts(job, tasks, self.clock())

        def heard() -> None:
            activity.heard += 1

        with self._lock:
            self._active.append(activity)
        try:
            yield heard
        finally:
            self._done(activity)

    @contextmanager
    def training(self, job: Job) -> Iterator[None]:
        """While one model is trained."""
        cells, folder = self._cells, job.inputs.work
        if cells is None:
            yield
            return
        with self._lock:
            cells.stores[folder] = job.inputs.store
        try:
            yield
        finally:
            with self._lock:
                cells.trained += 1
                cells.stores.pop(folder)
                cells.running.pop(folder, None)

    def _done(self, activity: _Activity) -> None:
        with self._lock:
            if activity in self._active:
                self._active.remove(activity)
            self._clear()

    def _redraw(self) -> None:
        while not self._stop.wait(_NEAR):
            with self._lock:
                activity = self._active[-1] if self._active else None
            if activity is None:
                continue
            try:
                activity.look(self.clock())  # without the lock: a store may be slow to answer
            except (OSError, ValueError, TrawlError):
                continue  # what the line says is no reason to end a run; the run itself reports a broken store
            with self._lock:
                if self._active and self._active[-1] is activity:
                    self._draw(activity.line(self.clock()))

    def _draw(self, line: str) -> None:
        self.stream.write(f"\r{line[: _width(self.stream) - 1]}\x1b[K")
        self.stream.flush()
        self._drawn = True

    def _clear(self) -> None:
        if self._drawn:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
            self._drawn = False


class Watched:
    """An executor whose jobs are seen by a Progress."""

    def __init__(self, executor: Executor, progress: Progress) -> None:
        self.executor, self.progress = executor, progress

    def run(self, job: Job, tasks: list[Task]) -> Iterable[dict[str, Any]]:
        with self.progress.parts(job, len(tasks)) as heard:
            for outcome in self.executor.run(job, tasks):
                heard()
                yield outcome

    def fill(self, job: Job) -> dict[str, Any]:
        with self.progress.training(job):
            return self.executor.fill(job)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self.executor.call(function, *arguments)


def wanted(stream: TextIO) -> bool:
    """A terminal that can overwrite a line, and nobody who asked for plain output (https://no-color.org)."""
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


def _width(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or _WIDTH
    except OSError:
        return _WIDTH
