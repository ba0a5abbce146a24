"""Imported by vLLM where it builds a worker: ends the engine's processes when the actor that started them is gone.

Engine processes outlive an actor that is killed: gigabytes of weights stay in memory for minutes. vLLM imports the
class named as `worker_extension_cls` in the process that holds the model: the engine process itself, or on CPU a child
of it. `watched` names the actor in the environment that both inherit. Workers that are Ray actors of their own (models
split over GPUs) do not inherit it; Ray ends those. Linux only: elsewhere nothing is watched.
"""

import os
import select
import signal
import threading
from contextlib import suppress

OWNER = "TRAWL_ENGINE_OWNER"  # process id of the actor


class Leash:
    """Adds nothing to vLLM's worker; importing this module is what counts."""


def follow(owner: int) -> threading.Thread:
    """Watch a process from a thread; when it ends, end this process and the one between them."""
    parent = os.getppid()

    def watch() -> None:
        with suppress(ProcessLookupError):  # it ended before
            ending = select.poll()
            ending.register(os.pidfd_open(owner), select.POLLIN)
            ending.poll()  # until the process has ended, however it ended
        if parent != owner and os.getppid() == parent:
            os.kill(parent, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    thread = threading.Thread(target=watch, name="trawl-leash", daemon=True)
    thread.start()
    return thread


if OWNER in os.environ and hasattr(os, "pidfd_open"):
    follow(int(os.environ[OWNER]))
