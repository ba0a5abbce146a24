"""One check in a process of its own: `python -m trawl.doctor.child NAME < patient`, findings as JSON on stdout."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import import_module
from types import FrameType
from typing import Any

from trawl.config import Config
from trawl.connection import leave
from trawl.doctor.findings import Finding, Patient


def run(name: str, patient: Patient) -> list[Finding]:
    """The findings of a check, by `module:function`."""
    module, _, function = name.partition(":")
    check: Callable[[Patient], Iterator[Finding]] = getattr(import_module(module), function)
    return list(check(patient))


def main() -> None:
    """What libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    signal.signal(signal.SIGTERM, _stopped)
    asked: dict[str, Any] = json.load(sys.stdin)
    patient = Patient(tuple(Config.build(tree) for tree in asked["cfgs"]), asked["store"])
    try:
        found = run(sys.argv[1], patient)
    finally:
        leave()
    json.dump([asdict(finding) for finding in found], answers)
    answers.close()


def _stopped(number: int, frame: FrameType | None) -> None:
    """Past its time: leave in order, so that a cluster of this machine ends too."""
    raise SystemExit(1)


if __name__ == "__main__":
    main()
