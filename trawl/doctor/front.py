"""`trawl doctor`: every check in a process of its own and with a limit, so that none hides or holds up the others."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trawl import arms
from trawl.config import Config
from trawl.doctor.findings import FAIL, OK, Finding, Patient

_GRACE = 15.0  # seconds to end in order
_ROOT = str(Path(__file__).parents[2])


@dataclass(frozen=True)
class Check:
    """`function`: module:name of what gives the findings of a patient. `seconds`: its limit."""

    name: str
    function: str
    seconds: float


# Two lanes side by side: what is light, and what starts Ray.
LANES: tuple[tuple[Check, ...], ...] = (
    (
        Check("python", "trawl.doctor.machine:python", 60),
        Check("versions", "trawl.doctor.machine:versions", 60),
        Check("gpu", "trawl.doctor.machine:gpu", 120),
        Check("disk", "trawl.doctor.machine:disk", 60),
        Check("inputs", "trawl.doctor.files:inputs", 120),
        Check("store", "trawl.doctor.files:store", 180),
        Check("models", "trawl.doctor.files:models", 600),
        Check("tokenizer", "trawl.doctor.files:tokenizer", 600),
        Check("encoder", "trawl.doctor.files:encoder", 600),
    ),
    (
        Check("cluster", "trawl.doctor.cluster:reach", 180),
        Check("engine", "trawl.doctor.cluster:engine", 900),
    ),
)


def patient_of(cfg: Config, store: str) -> Patient:
    """The recipe once for each arm that is run; of equal ones one. Raises ConfigError naming the arm."""
    found = arms.chosen(cfg).arms or {"default": {}}
    cfgs = {(c := cfg.override(*arms.changes_of(changes))).model_dump_json(): c for changes in found.values()}
    return Patient(tuple(cfgs.values()), store)


def examine(patient: Patient, tell: Callable[[Finding], None], lanes: Sequence[Sequence[Check]]) -> list[Finding]:
    """All findings, in the order of the checks; `tell` hears of each as its check ends."""
    found: dict[str, list[Finding]] = {}

    def lane(checks: Sequence[Check]) -> None:
        for check in checks:
            found[check.name] = apart(check, patient)
            for finding in found[check.name]:
                tell(finding)

    with ThreadPoolExecutor(len(lanes)) as pool:
        for done in as_completed([pool.submit(lane, checks) for checks in lanes]):
            done.result()
    return [finding for checks in lanes for check in checks for finding in found[check.name]]


def apart(check: Check, patient: Patient) -> list[Finding]:
    """A check's findings from a process of its own; what goes wrong with that process is a finding too."""
    words = [sys.executable, "-m", "trawl.doctor.child", check.function]
    path = os.pathsep.join([_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])
    asked = {"cfgs": [cfg.model_dump(mode="json") for cfg in patient.cfgs], "store": patient.store}
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        out, err = process.communicate(json.dumps(asked), timeout=check.seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        what = f"no answer within {check.seconds:g} s"
        todo = "look at what it waits for (a mount, a cluster, a download), then run `trawl doctor` again"
        return [Finding(check.name, FAIL, what, todo)]
    except BaseException:
        _end(process)
        raise
    if process.returncode == 0:
        with suppress(ValueError, TypeError):
            return [Finding(**row) for row in json.loads(out)]
    lines = [line.strip() for line in err.splitlines() if line.strip()] or ["it said nothing"]
    how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
    return [Finding(check.name, FAIL, f"the check ended by {how}: {lines[-1][:300]}", "mend that, then run it again")]


def _end(process: "subprocess.Popen[str]") -> None:
    """In order, and by force after a while, with all that it started in its session."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):  # a process that waits for a dead disk cannot be ended by anybody
        process.communicate(timeout=_GRACE)


def line(finding: Finding) -> str:
    """For the terminal."""
    todo = "" if finding.state == OK or not finding.todo else f"\n{'':<16} -> {finding.todo}"
    return f"{finding.state:<5} {finding.check:<10} {finding.what}{todo}"


def tree(findings: Sequence[Finding]) -> dict[str, Any]:
    """As JSON: whether nothing fails, and every finding."""
    return {"ok": not any(f.state == FAIL for f in findings), "checks": [vars(f) for f in findings]}
