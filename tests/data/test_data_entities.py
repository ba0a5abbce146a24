"""Entities from Parquet and accepted links from TSV or Parquet: what is read, what is refused and by which name."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from worlds import make, raw_ratings, small_movielens, write_movielens

from trawl.config import Config
from trawl.errors import ConfigError, InputError
from trawl.inputs import Inputs
from trawl.store import Store

PAGES: dict[str, list[Any]] = {
    "entity_id": ["Jumanji", "Heat", "Élan", "Heat_(1972)"],
    "label": ["Jumanji", "Heat", "Élan", "Heat"],
    "year": [1995, None, 1999, 1972],
    "text": ["A game.", "  ", None, "A film."],
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def recipe(tmp_path: Path, *settings: tuple[str, object]) -> Config:
    return small_movielens(write_movielens(tmp_path / "raw", raw_ratings()), *settings)


def entities(tmp_path: Path, columns: dict[str, list[Any]], **write: int) -> Config:
    path = tmp_path / "pages.parquet"
    pq.write_table(pa.table(columns), path, **write)
    return recipe(tmp_path, ("linking.entities", str(path)))


def rows(store: Store, cfg: Config, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = Inputs(store, make(cfg, store, name)).table(name).to_pylist()
    return found


def test_every_entity_is_numbered_and_blank_text_is_null(tmp_path: Path, store: Store) -> None:
    got = rows(store, entities(tmp_path, PAGES), "entities")
    assert [r["entity"] for r in got] == [1, 2, 3, 4]
    by_id = {r["entity_id"]: (r["label"], r["year"], r["text"]) for r in got}
    assert by_id == {
        "Jumanji": ("Jumanji", 1995, "A game."),
        "Heat": ("Heat", None, None),
        "Élan": ("Élan", 1999, None),
        "Heat_(1972)": ("Heat", 1972, "A film."),
    }


def test_row_groups_files_and_order_change_nothing(tmp_path: Path, store: Store) -> None:
    whole = rows(store, entities(tmp_path, PAGES), "entities")
    assert rows(store, entities(tmp_path, PAGES, row_group_size=1), "entities") == whole
    folder = tmp_path / "pages"
    folder.mkdir()
    table = pa.table(PAGES)
    pq.write_table(table.slice(2).select(["text", "label", "year", "entity_id"]), folder / "a.parquet")
    pq.write_table(table.slice(0, 2).append_column("more", pa.array([1, 2])), folder / "b.parquet")
    assert rows(store, recipe(tmp_path, ("linking.entities", str(folder))), "entities") == whole


def test_year_and_text_may_be_missing_and_ids_may_be_numbers(tmp_path: Path, store: Store) -> None:
    got = rows(store, entities(tmp_path, {"entity_id": [7, 8], "label": ["a", "b"]}), "entities")
    assert {(r["entity_id"], r["label"], r["year"], r["text"]) for r in got} == {
        ("7", "a", None, None),
        ("8", "b", None, None),
    }


WRONG: dict[str, tuple[dict[str, list[Any]], str]] = {
    "misnamed id": ({"entityid": ["a"], "label": ["x"]}, "column 'entity_id': missing.*rename 'entityid'"),
    "no label": ({"entity_id": ["a"], "xyz": ["x"]}, "column 'label': missing; the file has entity_id, xyz; add it"),
    "null id": ({"entity_id": ["a", None], "label": ["x", "y"]}, "row 2: entity_id is null"),
    "empty id": ({"entity_id": ["a", "b", ""], "label": ["x", "y", "z"]}, "row 3: entity_id is empty"),
    "null label": ({"entity_id": ["a", "b"], "label": ["x", None]}, r"row 2: label is null \(entity_id = 'b'\)"),
    "twice": ({"entity_id": ["b", "a", "b"], "label": ["x", "y", "z"]}, "row 3: entity_id 'b' stands twice"),
    "year": ({"entity_id": ["a"], "label": ["x"], "year": ["soon"]}, "column 'year', rows from 1: string where int32"),
    "nothing": ({"entity_id": [], "label": []}, "no entity"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_entities_are_named(tmp_path: Path, store: Store, case: str) -> None:
    columns, what = WRONG[case]
    with pytest.raises(InputError, match=f"pages.parquet.*{what}"):
        make(entities(tmp_path, columns, row_group_size=1), store, "entities")


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path, store: Store) -> None:
    (tmp_path / "x.parquet").write_text("entity_id,label\n")
    with pytest.raises(InputError, match=r"x\.parquet: not a Parquet file"):
        make(recipe(tmp_path, ("linking.entities", str(tmp_path / "x.parquet"))), store, "entities")


@pytest.mark.parametrize("name", ["entities", "truth"])
def test_without_a_file_the_key_is_named(tmp_path: Path, store: Store, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"linking\.{name} is needed with data\.source=movielens"):
        make(recipe(tmp_path), store, name)


TSV = "movie_id\ttitle\taccepted_entity_ids\n2\tJumanji (1995)\tJumanji|Jumanji_(film)\n11\tÉlan\tÉlan\n"


def truth(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "links.tsv"
    path.write_text(text, encoding="utf-8")
    return recipe(tmp_path, ("linking.truth", str(path)))


def test_truth_from_tsv_and_parquet(tmp_path: Path, store: Store) -> None:
    cfg = truth(tmp_path, TSV)
    ids = {r["item"]: r["item_id"] for r in rows(store, cfg, "items")}
    due = {"2": ["Jumanji", "Jumanji_(film)"], "11": ["Élan"]}
    assert {ids[r["item"]]: r["entity_ids"] for r in rows(store, cfg, "truth")} == due
    for number, column in enumerate((list(due.values()), ["|".join(v) for v in due.values()])):
        path = tmp_path / f"links-{number}.parquet"
        pq.write_table(pa.table({"item_id": list(due), "entity_ids": column}), path)
        got = rows(store, recipe(tmp_path, ("linking.truth", str(path))), "truth")
        assert {ids[r["item"]]: r["entity_ids"] for r in got} == due


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (TSV + "77\tx\ty\n", "line 4: item_id '77' is not among the items"),
        (TSV + "2\tx\ty\n", "line 4: item_id '2' stands twice"),
        (TSV + "3\tx\t\n", "line 4: no entity id"),
        (TSV + "\tx\ty\n", "line 4: the item id is empty"),
        (TSV + "3\ty\n", "line 4: 2 fields where 3 are due"),
        ("id,entity\n", "line 1: the header is"),
    ],
)
def test_wrong_truth_is_named(tmp_path: Path, store: Store, text: str, what: str) -> None:
    with pytest.raises(InputError, match=rf"links\.tsv, {what}"):
        make(truth(tmp_path, text), store, "truth")


def test_truth_that_is_not_utf_8_is_named(tmp_path: Path, store: Store) -> None:
    cfg = truth(tmp_path, TSV)
    (tmp_path / "links.tsv").write_bytes(TSV.encode("latin-1"))
    with pytest.raises(InputError, match=r"links\.tsv, line 3: not utf-8 text"):
        make(cfg, store, "truth")


def test_misnamed_columns_of_parquet_truth(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "links.parquet"
    pq.write_table(pa.table({"item_id": ["2"], "ids": ["a"]}), path)
    with pytest.raises(InputError, match=r"links\.parquet, column 'entity_ids': missing; the file has item_id, ids"):
        make(recipe(tmp_path, ("linking.truth", str(path))), store, "truth")
