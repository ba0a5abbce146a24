"""The stage `facts`: items' own fields, and a table that speaks of items or of linked entities."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from worlds import behaviour, publish, table

from trawl import pipeline
from trawl.config import Config
from trawl.errors import ConfigError, InputError
from trawl.executors import Inline
from trawl.inputs import Inputs
from trawl.linking.facts import FACTS
from trawl.stage import fingerprint, run_stage
from trawl.store import Store
from trawl.views import _raw_columns

ITEMS = 7
OWN = {1: {"genres": ["Comedy", "Drama"]}, 2: {"genres": ["Comedy", ""], "shelf": ["s1"]}, 5: {"genres": ["War"]}}
EXPECTED_OWN = {
    *((1, "genres", "Comedy"), (1, "genres", "Drama"), (2, "genres", "Comedy")),
    *((2, "shelf", "s1"), (5, "genres", "War")),
}


def world(path: Path) -> tuple[Store, dict[str, str]]:
    """Items in three parts; the items 3 and 6 mean the same entity, 7 none."""
    store = Store(str(path / "store"))
    marks = behaviour(store, [(1, 1, 4.0)], items=ITEMS, partitions=3, item_fields=OWN)
    rows = [
        {"item": i, "rank": 0, "entity_id": e, "method": "edit" if e else "none", "ties": 0}
        for i, e in enumerate(["Q1", "Q2", "Q3", "Q4", "Q5", "Q3", None], start=1)
    ]
    marks["knowledge"] = publish(store, "knowledge", [table("knowledge", rows)])
    return store, marks


def facts_file(path: Path, of: str, rows: list[tuple[str | None, str | None, str | None]]) -> str:
    columns = dict(zip((f"{of}_id", "relation", "value"), zip(*rows, strict=True), strict=True))
    pq.write_table(pa.table({k: pa.array(v, pa.string()) for k, v in columns.items()}), path, row_group_size=2)
    return str(path)


def made(path: Path, *settings: str | tuple[str, object]) -> set[tuple[int, str, str]]:
    store, marks = world(path)
    cfg = Config().override(*settings)
    mark = run_stage(FACTS, cfg, store, marks, Inline()).fingerprint
    found = Inputs(store, {"facts": mark})
    assert len(found.parts("facts")) == 3
    rows = [(r["entity"], r["relation"], r["value"]) for r in found.table("facts").to_pylist()]
    assert rows == sorted(rows) and len(rows) == len(set(rows))
    return set(rows)


def test_the_items_own_fields_are_facts(tmp_path: Path) -> None:
    assert made(tmp_path) == EXPECTED_OWN


def test_some_relations_alone(tmp_path: Path) -> None:
    assert made(tmp_path, "facts.relations=['shelf']") == {(2, "shelf", "s1")}


def test_no_fact_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no item has a fact of facts\.relations = shelves, genre; "):
        made(tmp_path, "facts.relations=['shelves', 'genre']")
    for reader in ("model.knowledge=['kg']", "model.similarity_of=['kg']"):
        with pytest.raises(ConfigError, match=r"facts\.fields = false leaves no facts for kg"):
            Config().override("facts.fields=false", "model.similarity=true", reader)


def test_facts_of_an_entity_are_those_of_every_item_linked_to_it(tmp_path: Path) -> None:
    rows = [("Q3", "director", "Anna"), ("Q1", "director", "Juan"), ("Q9", "director", "Nobody")]
    rows += [("Q1", "director", "Juan"), ("Q1", "genres", "Comedy"), ("Q3", "star", "Li")]
    path = facts_file(tmp_path / "facts.parquet", "entity", rows)  # type: ignore[arg-type]
    told = {
        (3, "director", "Anna"),
        (6, "director", "Anna"),
        (1, "director", "Juan"),
        (3, "star", "Li"),
        (6, "star", "Li"),
    }
    assert made(tmp_path, ("facts.table", path)) == EXPECTED_OWN | told
    alone = made(tmp_path / "alone", ("facts.table", path), "facts.fields=false")
    assert alone == told | {(1, "genres", "Comedy")}


def test_a_folder_of_facts_by_item_id(tmp_path: Path) -> None:
    (tmp_path / "facts").mkdir()
    facts_file(tmp_path / "facts" / "a.parquet", "item", [("i7", "director", "Anna")])
    facts_file(tmp_path / "facts" / "b.parquet", "item", [("i4", "director", "Juan"), ("x", "director", "Juan")])
    keys = (("facts.table", str(tmp_path / "facts")), "facts.of=item", "facts.fields=false")
    assert made(tmp_path, *keys) == {(7, "director", "Anna"), (4, "director", "Juan")}


@pytest.mark.parametrize(
    ("of", "rows", "says"),
    [
        ("item", [("i1", "director", "Anna")], r"column 'entity_id': missing; the file has item_id, .*facts\.of says"),
        ("entity", [("Q9", "director", "Anna")], r"no entity_id is linked to an item; check facts\.of"),
        ("entity", [("Q1", "director", "A"), ("Q1", "star", "B"), ("Q1", None, "A")], r"row 3: relation is null"),
        ("entity", [("Q1", "director", "")], r"row 1: value is null or empty; mend the file"),
    ],
)
def test_a_wrong_table_is_named(tmp_path: Path, of: str, rows: list[tuple[str, str, str]], says: str) -> None:
    path = facts_file(tmp_path / "facts.parquet", of, rows)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=rf"facts\.parquet.*{says}"):
        made(tmp_path, ("facts.table", path))


def test_a_missing_or_broken_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.parquet: no such file"):
        made(tmp_path, ("facts.table", str(tmp_path / "none.parquet")))
    (tmp_path / "text.parquet").write_text("entity_id,relation,value")
    with pytest.raises(InputError, match=r"text\.parquet: not a Parquet file"):
        made(tmp_path / "b", ("facts.table", str(tmp_path / "text.parquet")))


def test_links_are_read_where_the_table_speaks_of_entities(tmp_path: Path) -> None:
    _, marks = world(tmp_path)
    path = facts_file(tmp_path / "facts.parquet", "entity", [("Q1", "director", "Anna")])
    base = Config().override("extraction.source=none", "model.knowledge=['kg']")
    assert "knowledge" not in pipeline.needed(base)
    table = base.override(("facts.table", path))
    assert {"knowledge", "facts", "fact_embeddings"} <= set(pipeline.needed(table))
    assert "knowledge" not in pipeline.needed(table.override("facts.of=item"))
    before = fingerprint(FACTS, base, marks)
    assert fingerprint(FACTS, base.override("facts.of=item", "facts.dimension=64"), marks) == before
    assert fingerprint(FACTS, table, marks) != before
    facts_file(tmp_path / "facts.parquet", "entity", [("Q1", "director", "Juan")])
    assert len({before, fingerprint(FACTS, table, marks)}) == 2
    assert not any(n.startswith("fact") for n in pipeline.needed(Config()))


def test_facts_are_shown_with_the_items_raw_ids() -> None:
    for name in ("facts", "fact_embeddings"):
        assert ("entity", "item", "item_id") in _raw_columns(name)
        assert ("entity", "user", "user_id") not in _raw_columns(name)
