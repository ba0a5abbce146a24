"""Memory of the driver and rows per second of the ledger, from ten thousand to a million items and users.

    python tests/bench/ledger.py [--sizes 10000,100000,1000000] [--folder DIR] [--limit SECONDS] [--out result.json]

A world of n items and n users, with texts of a few words and three interactions a user, goes through all stages of the
extraction room on Ray with an engine that answers at once, so that what is measured is everything around an engine.
Rows are prompts of items and of users; seconds are those of the stages, without the start of Ray. Tables have parts of
10,000 rows at every size. With --limit a run is stopped after so many seconds, and the same command goes on with it:
its seconds add up. Bounds: the driver under 1 GB, rows per second at the largest size at least 0.8 of the best of the
others.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])

from trawl.checks import conform, describe  # noqa: E402
from trawl.config import Config  # noqa: E402
from trawl.environment import peak_mib  # noqa: E402
from trawl.executors import OnRay  # noqa: E402
from trawl.extraction.stage import STAGES  # noqa: E402
from trawl.schemas import CONTRACTS, FIELDS, TEXT  # noqa: E402
from trawl.stage import run_stage  # noqa: E402
from trawl.store import MANIFEST, Manifest, Store  # noqa: E402

PART = 10_000
SEEN, DRIVER_MIB, FLAT = 3, 1024, 0.8
TABLES = ("users", "items", "log", "cutoffs", "knowledge")


def config(more: list[str]) -> Config:
    return Config().override(
        "extraction.engine=scripted:Scripted",
        f"extraction.user_items={SEEN}",
        "resources.actors=2",
        "resources.batch_rows=512",
        *more,
    )


def part(name: str, first: int, count: int, all_items: int) -> pa.Table:
    """Rows `first`.. of a table of the world."""
    index = np.arange(first, first + count)
    if name == "users":
        fields = pa.array([[("gender", ["F" if n % 2 else "M"])] for n in index], FIELDS)
        return pa.table({"user": index, "user_id": [f"u{n}" for n in index], "fields": fields})
    if name == "items":
        columns = {"item": index, "item_id": [f"i{n}" for n in index], "title": [f"Film {n}" for n in index]}
        return pa.table(
            columns | {"year": pa.array(index % 100 + 1900, pa.int32()), "fields": pa.array([[]] * count, FIELDS)}
        )
    if name == "knowledge":
        text = pa.array([f"Film {n} is a quiet comedy of {1900 + n % 100} by writer {n}." for n in index], TEXT)
        columns = {"item": index, "rank": np.zeros(count, np.int32), "entity_id": [f"e{n}" for n in index]}
        rest = {"similarity": np.ones(count), "method": ["exact"] * count, "ties": np.zeros(count, np.int32)}
        return pa.table(columns | {"text": text} | rest)
    if name == "cutoffs":
        return pa.table({"user": index, "cutoff": np.full(count, SEEN), "events": np.full(count, SEEN + 1)})
    user, position = np.repeat(index, SEEN + 1), np.tile(np.arange(SEEN + 1), count)
    item = (user * 7919 + position * 104_729) % all_items + 1
    columns = {"user": user, "position": position, "item": item, "rating": np.full(len(user), 4, np.float32)}
    return pa.table(columns | {"time": position + 1000, "label": np.ones(len(user), bool)})


def publish(store: Store, name: str, rows: int) -> str:
    """A table of the world in parts of PART rows."""
    parts = []
    for number, first in enumerate(range(1, rows + 1, PART)):
        table = conform(CONTRACTS[name], part(name, first, min(PART, rows + 1 - first), rows), name)
        path = f"part-{number:05d}.parquet"
        size, digest = store.write_parquet(table, name, "world", path)
        parts.append(replace(describe(CONTRACTS[name], table), path=path, bytes=size, digest=digest))
    manifest = Manifest(
        artifact=name,
        contract=CONTRACTS[name].version,
        version=1,
        fingerprint="world",
        config={},
        inputs={},
        sources={},
        parts=tuple(parts),
        rows=sum(p.rows for p in parts),
        statuses={},
        seconds=0.0,
    )
    store.write_text(manifest.to_json(), name, "world", MANIFEST)
    return "world"


def measure(folder: Path, rows: int, more: list[str]) -> None:
    """In a process of its own, the driver: make what is left, add up the seconds, note the peak after each stage."""
    store, cfg, note = Store(str(folder / "store")), config(more), folder / "measured.json"
    if not (folder / "world").exists():
        for name in TABLES:
            publish(store, name, rows)
        (folder / "world").touch()
        return
    seen: dict[str, Any] = json.loads(note.read_text()) if note.exists() else {"stages": {}, "driver_mib": 0}
    executor, marks = OnRay(cfg), dict.fromkeys(TABLES, "world")
    for stage in STAGES:
        started, entry = time.monotonic(), seen["stages"].setdefault(stage.artifact, {"seconds": 0.0, "done": False})
        before = entry["seconds"]

        def keep(entry: dict[str, Any] = entry, before: float = before, started: float = started) -> None:
            entry["seconds"] = before + time.monotonic() - started
            seen["driver_mib"] = max(seen["driver_mib"], peak_mib())
            note.write_text(json.dumps(seen))

        class Timed(OnRay):
            def run(self, job: Any, tasks: Any, keep: Any = keep) -> Iterator[dict[str, Any]]:
                for outcome in executor.run(job, tasks):
                    keep()
                    yield outcome

        outcome = run_stage(stage, cfg, store, marks, Timed(cfg))
        marks[stage.artifact] = outcome.fingerprint
        if not entry["done"]:
            entry |= {"done": True, "rows": outcome.rows, "worker_mib": outcome.peak_mib, "notes": dict(outcome.notes)}
            keep()


def one(folder: Path, rows: int, limit: float, more: list[str]) -> dict[str, Any] | None:
    """The measurement at one size; None when the limit came first."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, __file__, "--measure", str(rows), "--folder", str(folder)]
    words += [w for setting in more for w in ("--set", setting)]
    env = os.environ | {"TRAWL_NODE_CACHE": str(folder / "node")}
    end = time.monotonic() + limit
    for _ in range(1 + (not (folder / "world").exists())):
        try:
            subprocess.run(words, check=True, env=env, timeout=max(1.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None
    seen: dict[str, Any] = json.loads((folder / "measured.json").read_text())
    prompts = sum(seen["stages"][f"{side}_prompts"]["rows"] for side in ("item", "user"))
    seconds = sum(entry["seconds"] for entry in seen["stages"].values())
    return {"rows": prompts, "seconds": round(seconds, 1), "rate": round(prompts / seconds), **seen}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--limit", type=float, default=1e9, help="seconds of this call")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--strict", action="store_true", help="exit 1 when a bound is missed")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.folder, args.measure, args.set)
        return 0
    end, out = time.monotonic() + args.limit, []
    with tempfile.TemporaryDirectory(prefix="trawl-bench-") as own:
        for rows in (int(size) for size in args.sizes.split(",")):
            home = (args.folder or Path(own)) / str(rows)
            found = one(home, rows, end - time.monotonic(), args.set)
            if found is None:
                print(f"{rows:,}: not finished; the same command goes on with it")
                return 3
            out.append(found)
            stages = ", ".join(f"{n} {e['seconds']:.0f} s" for n, e in found["stages"].items())
            print(
                f"{rows:>9,} items and users: {found['rate']:,} rows/s, driver {found['driver_mib']:.0f} MiB ({stages})"
            )
    if args.out:
        args.out.write_text(json.dumps(out, indent=1), encoding="utf-8")
    ratio, driver = (
        out[-1]["rate"] / max(entry["rate"] for entry in out[:-1] or out),
        max(entry["driver_mib"] for entry in out),
    )
    verdicts = [driver <= DRIVER_MIB, ratio >= FLAT]
    words = ["meets" if met else "MISSES" for met in verdicts]
    print(f"driver {driver:.0f} MiB: {words[0]} {DRIVER_MIB}")
    print(f"rows per second, largest size to the best of the others {ratio:.2f}: {words[1]} {FLAT}")
    return int(args.strict and not all(verdicts))


if __name__ == "__main__":
    sys.exit(main())
