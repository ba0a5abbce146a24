"""`make drills`: every test marked `slow`, one after another, each once per state of the code.

    python tests/drills/run.py [--force] [--list] [words to select drills by name]

What has passed is kept in .drills/ beside a digest of the code, so an interrupted round goes on where it stood and a
second one has nothing to do until the code changes. The outcome is written to docs/drills.md after every drill.
"""

import argparse
import datetime
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
STATE = ROOT / ".drills"
PAGE = ROOT / "docs" / "drills.md"
CODE = ("trawl", "jobs", "tune", "tests", "cluster")  # folders whose files a drill may depend on
SUFFIXES = (".py", ".toml", ".html", ".css", ".yaml", ".yml", ".sh")
LIMIT = 3600.0  # seconds that a drill may take
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclass(frozen=True)
class Outcome:
    """One drill and how it went."""

    drill: str  # pytest's node id
    what: str
    outcome: str
    seconds: float
    date: str
    code: str
    reason: str = ""


def code_digest(root: Path = ROOT) -> str:
    """Digest of all code that drills run, and of the pins."""
    found = [root / "pyproject.toml", *(root / "requirements").glob("*.txt")]
    found += [p for folder in CODE for p in (root / folder).rglob("*") if p.suffix in SUFFIXES]
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(p for p in found if p.is_file() and "__pycache__" not in p.parts):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def pytest_command(*words: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]


def drills(folder: str = "tests") -> list[tuple[str, str]]:
    """(node id, first line of the docstring of the test or else of its file) of every slow test."""
    found = subprocess.run(
        pytest_command("--collect-only", "-m", "slow", "-p", "drills.listing", folder),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests")},
    )
    lines = [line for line in found.stdout.splitlines() if line.startswith("drill\t")]
    if found.returncode not in (0, 5) or not lines:  # 5: nothing collected
        sys.exit(f"drills: nothing could be collected:\n{found.stdout}{found.stderr}")
    return [(node, what) for _, node, what in (line.split("\t") for line in lines)]


def run(node: str, what: str, code: str) -> Outcome:
    """Run a drill in a process of its own."""
    started = time.monotonic()
    STATE.mkdir(exist_ok=True)
    log = STATE / "last.log"
    with log.open("w") as out:
        try:
            ended = subprocess.run(
                pytest_command("-rs", node), cwd=ROOT, stdout=out, stderr=out, timeout=LIMIT, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            ended = 124
    text = log.read_text(encoding="utf-8", errors="replace")
    skipped = re.search(r"^SKIPPED \[\d+\] [^:]*:\d+: (.*)$", text, re.MULTILINE)
    passed = re.search(r"^\d+ passed", text, re.MULTILINE)
    outcome = PASSED if ended == 0 and passed else SKIPPED if ended == 0 and skipped else FAILED
    if outcome == FAILED:
        print(text[-6000:], file=sys.stderr)
    reason = skipped.group(1) if skipped and outcome == SKIPPED else ""
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    return Outcome(node, what, outcome, round(time.monotonic() - started, 1), date, code, reason)


def load(state: Path = STATE) -> dict[str, Outcome]:
    """The last outcome of each drill."""
    file = state / "outcomes.json"
    if not file.exists():
        return {}
    return {entry["drill"]: Outcome(**entry) for entry in json.loads(file.read_text(encoding="utf-8"))}


def save(outcomes: dict[str, Outcome], state: Path = STATE) -> None:
    """Replace the file of outcomes whole, so that a kill in the middle loses nothing."""
    state.mkdir(exist_ok=True)
    temporary = state / "outcomes.tmp"
    temporary.write_text(json.dumps([asdict(o) for o in outcomes.values()], indent=1), encoding="utf-8")
    temporary.replace(state / "outcomes.json")


def machine() -> str:
    """Cores, memory and GPU of this machine, in words."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        gpus = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=True
        ).stdout.split("\n")
        gpu = ", ".join(line.strip() for line in gpus if line.strip()) or "no GPU"
    except (OSError, subprocess.CalledProcessError):
        gpu = "no GPU"
    cores, memory = os.cpu_count() or 1, pages / 2**30
    return f"{cores} logical cores, {memory:.0f} GiB, {gpu}, Python {platform.python_version()}"


def page(found: Sequence[tuple[str, str]], outcomes: dict[str, Outcome], code: str) -> str:
    """docs/drills.md."""
    rows, passed = [], 0
    for node, what in found:
        o = outcomes.get(node)
        now = o is not None and o.code == code
        passed += now and o is not None and o.outcome == PASSED
        told = "not run" if o is None else o.outcome + (f" ({o.reason})" if o.reason else "")
        told += "" if o is None or now else ", with earlier code"
        name = node.removeprefix("tests/").replace("|", r"\|")
        rows.append(
            f"| {name} | {what.replace('|', ' ')} | {told} | {o.seconds if o else ''} | {o.date if o else ''} |"
        )
    head = [
        "# Drills",
        "",
        "Slow or violent tests: kills, lost nodes, studies. Written by `make drills`; not by hand.",
        "",
        f"{passed} of {len(found)} passed with the code as it is. {machine()}.",
        "",
        "| drill | what it does | outcome | seconds | date |",
        "|-|-|-|-|-|",
    ]
    return "\n".join([*head, *rows, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--force", action="store_true", help="run again what has passed (or FORCE=1)")
    parser.add_argument("--list", action="store_true", help="only say what would run")
    parser.add_argument("select", nargs="*", help="only drills whose name holds one of these words")
    args = parser.parse_args()
    force = args.force or os.environ.get("FORCE", "0") not in ("", "0")
    found, outcomes, code = drills(), load(), code_digest()
    names = {node for node, _ in found}
    outcomes = {node: o for node, o in outcomes.items() if node in names}
    wanted = [(n, w) for n, w in found if not args.select or any(word in n for word in args.select)]
    todo = [
        (n, w)
        for n, w in wanted
        if force or n not in outcomes or outcomes[n].code != code or outcomes[n].outcome == FAILED
    ]
    print(f"drills: {len(todo)} to run, {len(wanted) - len(todo)} done with this code", file=sys.stderr)
    if args.list:
        print("\n".join(node for node, _ in todo))
        return 0
    for number, (node, what) in enumerate(todo, 1):
        print(f"[{number}/{len(todo)}] {node}", file=sys.stderr, flush=True)
        outcomes[node] = run(node, what, code)
        print(f"    {outcomes[node].outcome}, {outcomes[node].seconds} s", file=sys.stderr, flush=True)
        save(outcomes)
        PAGE.write_text(page(found, outcomes, code), encoding="utf-8")
    return int(any(outcomes[n].outcome == FAILED for n, _ in wanted))


if __name__ == "__main__":
    sys.exit(main())
