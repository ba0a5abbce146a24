"""The folder of a run: `<store>/runs/<name>/` with run.json, result.json, comparisons.json and log.jsonl.

run.json is written before anything is computed, so that a name belongs to one recipe from the start.
"""

import json
import re
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from trawl.config import Config, flat
from trawl.environment import commit
from trawl.errors import AskedWrongly, ConfigError, RunNameTaken, StoreError
from trawl.sections_http import Http
from trawl.stage import Outcome
from trawl.store import INDEX, Store

_WHERE = frozenset(f"http.{key}" for key in Http.WHERE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Cell:
    """One arm in one repetition: its config and the fingerprint of each artifact it needs."""

    arm: str
    repetition: int
    cfg: Config
    fingerprints: Mapping[str, str]

    @property
    def name(self) -> str:
        return f"{self.arm}/{self.repetition}"


@dataclass
class Run:
    """An opened run folder."""

    store: Store
    name: str
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def path(self, file: str) -> str:
        return self.store.where("runs", self.name, file)

    def read(self, file: str) -> Any:
        """A JSON file of the run, or None when it is not there yet."""
        text = self.store.find_text("runs", self.name, file)
        return None if text is None else json.loads(text)

    def write(self, file: str, value: Any) -> None:
        self.store.write_text(json.dumps(value, indent=1, ensure_ascii=False), "runs", self.name, file)

    def state(self, state: str) -> None:
        """Note in run.json how the run stands: running, done or failed."""
        self.write("run.json", self.read("run.json") | {"state": state})

    def failed(self) -> None:
        """Note that the run failed, unless the store is what failed it: that error is the one to tell."""
        with suppress(StoreError):
            self.state("failed")

    def log(self, outcome: Outcome, cell: Cell) -> None:
        """Add a stage's line to log.jsonl."""
        line = {"time": round(time.time(), 3), "event": "stage", "arm": cell.arm, "repetition": cell.repetition}
        with self._lock:
            self.store.append_line(json.dumps(line | dict(vars(outcome))), "runs", self.name, "log.jsonl")

    def add_result(self, row: dict[str, Any]) -> None:
        """Put a finished cell into result.json, in place of an older row of the same cell."""
        with self._lock:
            rows = [r for r in self.results() if (r["arm"], r["repetition"]) != (row["arm"], row["repetition"])]
            self.write("result.json", [*rows, row])

    def results(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.read("result.json") or []
        return rows


def check_name(name: str) -> None:
    """A run's name is a folder's name. Raises ConfigError."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"--name {name!r}: use letters, digits, '.', '_' and '-', at most 100, beginning with a letter or digit"
        )


def claim(store: Store, name: str, cfg: Config, cells: list[Cell], study: bool = False) -> Run:
    """Open the run of this name for this recipe, or the study for this recipe and its search.

    Raises RunNameTaken naming a key in which the recipes differ.
    """
    check_name(name)
    run = Run(store, name)
    old = run.read("run.json")
    if old and bool(old.get("study")) != study:
        raise RunNameTaken(f"{name!r} in {store.uri} is a {'run' if study else 'study'}; give another --name")
    if old and old["recipe_digest"] != cfg.digest(study) and not _without_trace(run, old):
        mine, theirs = flat(cfg.model_dump(mode="json")), flat(old["recipe"])
        aside = ("resources.", "retry.", "plan.")
        without = aside if study else (*aside, "search.")
        differ = sorted(
            k
            for k in mine.keys() | theirs.keys()
            if not k.startswith(without) and k not in _WHERE and mine.get(k) != theirs.get(k)
        )
        key = differ[0] if differ else "the format of recipes"
        raise RunNameTaken(
            f"run {name!r} in {store.uri} belongs to another recipe "
            f"({key}: {theirs.get(key)!r} there, {mine.get(key)!r} here); "
            "give another --name (what both need is shared, not made again)"
        )
    record = _record(name, cfg, cells, (old or {}).get("created"))
    run.write("run.json", record | {"recipe_digest": cfg.digest(study), "study": study})
    return run


def _without_trace(run: Run, record: Mapping[str, Any]) -> bool:
    """Whether it failed before it made anything, as a run of a recipe with a mistake does."""
    made = ((name, entry["fingerprint"]) for name, entry in record["artifacts"].items())
    return record["state"] == "failed" and not any(run.store.manifest(*key) for key in made)


def _record(name: str, cfg: Config, cells: list[Cell], created: str | None) -> dict[str, Any]:
    artifacts: dict[str, dict[str, str]] = {}
    for cell in cells:
        for artifact, mark in cell.fingerprints.items():
            artifacts.setdefault(artifact, {"folder": f"{artifact}/{mark}", "fingerprint": mark})
    base = flat(cfg.model_dump(mode="json"))
    return {
        "name": name,
        "recipe": cfg.model_dump(mode="json"),
        "created": created or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit(),
        "state": "running",
        "artifacts": artifacts,
        "cells": [
            {
                "arm": cell.arm,
                "repetition": cell.repetition,
                "overrides": {k: v for k, v in flat(cell.cfg.model_dump(mode="json")).items() if base.get(k) != v},
                "artifacts": dict(cell.fingerprints),
            }
            for cell in cells
        ],
    }


def find(name: str, store_uri: str) -> Run:
    """The run of a name in a store, or at `<store>/runs/<name>` as a path or URI. Raises AskedWrongly."""
    uri, mark, query = name.partition("?") if "://" in name else (name, "", "")
    uri = uri.rstrip("/")
    if "/" in uri:
        root, _, last = uri.removesuffix("/run.json").removesuffix("/report.html").rpartition("/runs/")
        if not root:
            raise AskedWrongly(f"{name}: not the folder of a run (<store>/runs/<name>)")
        run = Run(Store(f"{root}{mark}{query}"), last)
    else:
        run = Run(Store(store_uri), uri)
    if run.read("run.json") is None:
        names = ", ".join(n for n in run.store.names("runs") if n != INDEX) or "none"
        raise AskedWrongly(
            f"no run {run.name!r} in {run.store.uri} (runs there: {names}); name another store with --store"
        )
    return run
