"""What every table stage computes on the small world, as a digest beside the version that it was recorded under.

A stage that computes something else must raise its version, or stores would keep serving what the old code made. The
trained model and what is made of it are left out: their last digits depend on the machine. Record anew with

    TRAWL_GOLDEN=write python -m pytest tests/contracts/test_golden.py
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small

from trawl import pipeline, schemas
from trawl.config import Config
from trawl.executors import Inline
from trawl.store import Store, digest_json

GOLDEN = Path(__file__).with_name("golden.json")
RENEW = "record anew: TRAWL_GOLDEN=write python -m pytest tests/contracts/test_golden.py"
VOLATILE = ["seconds", "attempts"]
# Made of the trained model.
TRAINED = {"predictions", "item_vectors", "user_vectors", "item_neighbours"}
TABLES = [name for name in pipeline.stages() if name in schemas.CONTRACTS and name not in TRAINED]
# The same stages with other knowledge: source -> the tables that it makes anew.
OTHERS = {
    "raw": ("item_answers", "user_answers"),
    "shuffled": ("item_answers", "user_answers"),
    "given": ("item_texts", "item_prompts", "item_answers", "user_prompts", "user_answers"),
}
KEYS = [*TABLES, *(f"{name}@{source}" for source, names in OTHERS.items() for name in names)]
Entry = Mapping[str, Any]


def digest(table: pa.Table) -> str:
    """Of the rows as plain data: floats to 5 decimals, half floats (vectors) to 2; without what differs by run."""
    kept = table.drop_columns([name for name in VOLATILE if name in table.column_names])
    columns = {}
    for field in kept.schema:
        half = "halffloat" in str(field.type)
        columns[field.name] = [_plain(value, 2 if half else 5) for value in kept[field.name].to_pylist()]
    return digest_json(columns)


def _plain(value: Any, places: int) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(v, places) for v in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    number = float(value)
    return round(number, places) + 0.0 if math.isfinite(number) else str(number)  # + 0.0: -0.0 is 0.0


def verdict(key: str, recorded: Entry | None, found: Entry, changed_inputs: Iterable[str] = ()) -> str:
    """What is wrong with a stage and what to do about it; empty when nothing is."""
    if recorded is None:
        return f"stage {key}: not recorded; {RENEW}"
    for what in ("version", "contract"):
        if recorded[what] != found[what]:
            return f"stage {key}: {what} {found[what]}, recorded under {recorded[what]}; {RENEW}"
    if recorded["digest"] == found["digest"]:
        return ""
    inputs = ", ".join(changed_inputs)
    if inputs:
        return f"stage {key}: another result, after {inputs} changed; when those are settled, {RENEW}"
    return (
        f"stage {key}: another result under the same version {found['version']}. Raise `version` of the Stage, unless "
        f"a file or library that it reads has changed; then {RENEW}"
    )


def _entry(store: Store, marks: Mapping[str, str], name: str) -> dict[str, Any]:
    version, contract = pipeline.stages()[name].version, schemas.CONTRACTS[name].version
    return {"version": version, "contract": contract, "digest": digest(small.table(store, marks, name))}


def _other(store: Store, base: Mapping[str, str], source: str, folder: Path) -> Config:
    """The small recipe with another source; the given file leaves out every fourth item."""
    given = folder / "given.parquet"
    items = small.table(store, base, "items").select(["item_id", "title"])
    texts = [f"{title} is a quiet French drama. It was directed by Anna Berg." for title in items["title"].to_pylist()]
    rows = pa.table({"item_id": items["item_id"], "text": texts})
    pq.write_table(rows.take(pa.array([i for i in range(len(texts)) if i % 4])), given)
    return small.config().override(("extraction.source", source), ("extraction.given", str(given)))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The entries of this code; with TRAWL_GOLDEN=write they are the recorded ones from now on."""
    folder = tmp_path_factory.mktemp("golden")
    store = Store(str(folder / "store"))
    marks: dict[str, str] = {}
    for name in ("item_embeddings", "user_embeddings", "fact_embeddings", "swing", "samples", "truth"):
        plan = pipeline.plan(small.config(*small.EVERY), name)
        pipeline.run(plan, store, Inline(), lambda outcome: None)
        marks |= plan.fingerprints
    entries = {name: _entry(store, marks, name) for name in TABLES}
    for source, names in OTHERS.items():
        plan = pipeline.plan(_other(store, marks, source, folder), "extraction")
        pipeline.run(plan, store, Inline(), lambda outcome: None)
        entries |= {f"{name}@{source}": _entry(store, plan.fingerprints, name) for name in names}
    if os.environ.get("TRAWL_GOLDEN") == "write":
        GOLDEN.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return entries


@pytest.fixture(scope="module")
def recorded(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Read after `found`, which may write it."""
    return json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}


@pytest.mark.parametrize("key", KEYS)
def test_a_stage_computes_what_was_recorded(
    key: str, found: dict[str, dict[str, Any]], recorded: dict[str, dict[str, Any]]
) -> None:
    name, _, source = key.partition("@")
    cfg = (
        small.config(*small.EVERY) if not source else small.config(f"extraction.source={source}", "extraction.given=x")
    )
    upstream = [f"{n}@{source}" if f"{n}@{source}" in found else n for n in pipeline.stages()[name].reads(cfg)]
    changed = [n for n in upstream if recorded.get(n, {}).get("digest") != found[n]["digest"]]
    problem = verdict(key, recorded.get(key), found[key], changed)
    assert not problem, problem


def test_nothing_else_is_recorded(recorded: dict[str, dict[str, Any]]) -> None:
    assert set(recorded) == set(KEYS), RENEW


def test_the_sources_differ(found: dict[str, dict[str, Any]]) -> None:
    """The same table under two sources is not twice the same record."""
    for name in ("item_answers", "user_answers"):
        digests = [found[key]["digest"] for key in (name, *(f"{name}@{source}" for source in OTHERS))]
        assert len(set(digests)) == len(digests)


def test_the_digest_sees_values_rows_and_order_and_no_noise() -> None:
    rows = {"user": [1, 2], "score": [0.5, 0.25], "seconds": [0.1, 0.2]}
    base = digest(pa.table(rows))
    assert digest(pa.table(rows | {"seconds": [7.0, 8.0]})) == base
    assert digest(pa.table(rows | {"score": [0.5 + 1e-9, 0.25]})) == base
    assert digest(pa.table(rows | {"score": [0.5001, 0.25]})) != base
    assert digest(pa.table(rows | {"score": [0.5, None]})) != base
    assert digest(pa.table(rows).slice(1)) != base
    assert digest(pa.table(rows).take(pa.array([1, 0]))) != base
    assert digest(pa.table(rows).rename_columns(["item", "score", "seconds"])) != base
    vectors = [
        pa.table({"vector": pa.array([v], pa.list_(pa.float16()))}) for v in ([0.5], [0.501], [0.52], [-0.0], [0])
    ]
    marks = [digest(v) for v in vectors]
    assert marks[0] == marks[1] != marks[2]
    assert marks[3] == marks[4]


def test_the_verdict_names_stage_and_remedy() -> None:
    old = {"version": 1, "contract": 1, "digest": "a"}
    assert verdict("log", old, old) == ""
    assert verdict("log", old, old, ["users"]) == ""
    same = verdict("log", old, old | {"digest": "b"})
    assert "stage log: another result under the same version 1" in same and RENEW in same
    assert "stage log: version 2, recorded under 1" in verdict("log", old, old | {"version": 2})
    assert "stage log: contract 2, recorded under 1" in verdict("log", old, old | {"contract": 2, "digest": "b"})
    assert "after users changed" in verdict("log", old, old | {"digest": "b"}, ["users"])
    assert "not recorded" in verdict("log", None, old)
