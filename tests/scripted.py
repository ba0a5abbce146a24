"""A scripted engine for drills and benchmarks: `extraction.engine = "scripted:Scripted"`, with tests/ on Python's path.

`extraction.model` names a JSON file, or nothing:

    {"log": file, "seconds": per row, "kills": [words], "fails": [words], "cuts": [words], "child": true}

Each batch that it is asked is a line of the log before it is answered: process, digests. A prompt with a word of
`kills` ends the process as kill -9 does, `fails` is a failed row, `cuts` an answer that stopped too early. With `child`
a process of its own answers, and ends its owner when it dies, as vLLM's engines do.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from trawl.extraction.engines import Reply, Request, Settings
from trawl.extraction.engines.seam import CountsWords

_ECHO = "import sys\nfor line in sys.stdin:\n    print(line, end='', flush=True)\n"


class Scripted(CountsWords):
    """Answers with the digest of the prompt."""

    name = "scripted"
    revision = "1"

    def __init__(self, settings: Settings) -> None:
        path = settings.extraction.model
        self.script: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}

    @cached_property
    def child(self) -> "subprocess.Popen[str]":
        return subprocess.Popen([sys.executable, "-c", _ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        self._note(requests)
        for request in requests:
            if self._meant("kills", request):
                os.kill(os.getpid(), signal.SIGKILL)
            if self._meant("fails", request):
                raise ValueError("the script says so")
        time.sleep(self.script.get("seconds", 0) * len(requests))
        return [Reply(f"about {self._said(r.digest)}", len(r.prompt), 3, not self._meant("cuts", r)) for r in requests]

    def _meant(self, what: str, request: Request) -> bool:
        return any(word in request.prompt for word in self.script.get(what, ()))

    def _said(self, word: str) -> str:
        """The word, by way of the child where there is one."""
        if not self.script.get("child"):
            return word
        with suppress(BrokenPipeError):  # the same as no answer
            assert self.child.stdin is not None
            assert self.child.stdout is not None
            self.child.stdin.write(f"{word}\n")
            self.child.stdin.flush()
            if back := self.child.stdout.readline():
                return back.strip()
        os._exit(1)

    def _note(self, requests: Sequence[Request]) -> None:
        if "log" not in self.script:
            return
        line = json.dumps({"process": os.getpid(), "digests": [r.digest for r in requests], "child": self._child()})
        file = os.open(self.script["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{line}\n".encode())  # one write, so that lines of several processes do not mix
        os.close(file)

    def _child(self) -> int:
        return self.child.pid if self.script.get("child") else 0


def asked(log: Path) -> list[dict[str, Any]]:
    """The batches that engines with this log were asked, in their order."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
