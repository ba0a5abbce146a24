"""The start of an engine: bounded in time, and a failure told in one line that names the keys to turn.

What went wrong stands in the log of the engine's own processes; the process that started them hears only that they are
gone. So they are given a log file besides their usual output, and the first error in it is the reason. The reason is
left in the store, where the driver finds it whatever became of the actor.
"""

import json
import multiprocessing
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from trawl.errors import ConfigError, EngineDied, TrawlError
from trawl.store import Store

_LOGGING = "VLLM_LOGGING_CONFIG_PATH"  # read by vLLM where it is imported: in the processes that the engine starts
_ERROR = re.compile(r"^(?:\([^)]*\)\s*)?((?:\w+\.)*\w*(?:Error|Exception)\b.*)$", re.MULTILINE)
_MEMORY = re.compile(r"memory|\bOOM\b|allocat|kv.?cache|: -9\b", re.IGNORECASE)
_REFUSED = (ValueError, TypeError, NotImplementedError, KeyError)  # before a process is started: by vLLM's own checks
_MOST = 300  # characters of a reason
_FAILURE = "failure.json"


@dataclass(frozen=True)
class Start:
    """How long an engine may take to start, and which keys to turn when memory is short."""

    seconds: float
    memory: str


class Failures:
    """Why an engine did not start: one line in the stage's folder, from any process to the driver."""

    def __init__(self, store: Store, home: tuple[str, ...]) -> None:
        self.store, self.home = store, home

    def leave(self, error: TrawlError) -> None:
        self.store.write_text(json.dumps([type(error).__name__, str(error)]), *self.home, _FAILURE)

    def found(self) -> TrawlError | None:
        text = self.store.find_text(*self.home, _FAILURE)
        if text is None:
            return None
        name, message = json.loads(text)
        return ConfigError(message) if name == ConfigError.__name__ else EngineDied(message)


@contextmanager
def starting(failures: Failures, start: Start) -> Iterator[None]:
    """While an engine starts. After `start.seconds` this process ends, and with it what it has started.

    Raises ConfigError (vLLM refuses its arguments), EngineDied (its processes ended); both are left in the store.
    """
    with TemporaryDirectory(prefix="trawl-engine-") as folder:
        log = Path(folder) / "log"
        os.environ[_LOGGING] = str(_logging(Path(folder) / "logging.json", log))
        timer = threading.Timer(start.seconds, _give_up, (failures, start))
        timer.daemon = True
        timer.start()
        try:
            yield
        except Exception as error:
            told = explained(error, log.read_text(encoding="utf-8", errors="replace") if log.exists() else "", start)
            failures.leave(told)
            raise told from error
        finally:
            timer.cancel()
            del os.environ[_LOGGING]


def explained(error: Exception, log: str, start: Start) -> TrawlError:
    """The reason in one line: from the log of the engine's processes, else from the error itself."""
    first = _ERROR.search(log)
    reason = _line(first[1] if first else f"{type(error).__name__}: {error}")
    if _MEMORY.search(f"{reason} {error}"):
        return EngineDied(f"vllm: the engine did not start: {reason}; memory: {start.memory}")
    if not first and isinstance(error, _REFUSED):
        return ConfigError(f"vllm refuses its arguments: {reason}; see extraction.engine_arguments and the model")
    return EngineDied(f"vllm: the engine did not start: {reason}; see Ray's worker logs, run again")


def _line(text: str) -> str:
    """One line; of pydantic's report without the address of its manual."""
    words = " ".join(text.partition("For further information")[0].split())
    return words if len(words) <= _MOST else f"{words[:_MOST]}..."


def _logging(path: Path, log: Path) -> Path:
    """vLLM's logging as it is, and its errors in a file too."""
    handlers = {
        "stream": {"class": "logging.StreamHandler", "level": os.environ.get("VLLM_LOGGING_LEVEL", "INFO")},
        "file": {"class": "logging.FileHandler", "filename": str(log), "delay": True, "level": "ERROR"},
    }
    loggers = {"vllm": {"handlers": list(handlers), "level": "INFO", "propagate": False}}
    tree = {"version": 1, "disable_existing_loggers": False, "handlers": handlers, "loggers": loggers}
    path.write_text(json.dumps(tree), encoding="utf-8")
    return path


def _give_up(failures: Failures, start: Start) -> None:
    """End this process: what it waits for may never come. Ray starts another, which finds the reason and ends."""
    failures.leave(
        EngineDied(
            f"vllm: an engine had not started after {start.seconds:g} s (resources.engine_start_seconds); it may "
            f"wait for memory or for devices that others hold: {start.memory}; for a model that takes long to load set "
            "the key higher"
        )
    )
    for child in multiprocessing.active_children():  # what these have started follows them (`leash`)
        child.kill()
    os._exit(1)
