"""Raw inputs at URIs: the same tables as from files, counted by size and ETag, refused in the same words."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3_server
from worlds import make, raw_ratings, small_movielens, write_movielens

from trawl.config import Config
from trawl.environment import source_digest
from trawl.errors import AskedWrongly, InputError
from trawl.extraction.sources import given_texts
from trawl.inputs import Inputs
from trawl.raw import join
from trawl.store import Store

TABLES = ("users", "items", "log", "entities", "truth")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """MovieLens files, two files of entities, accepted links and given texts."""
    raw = write_movielens(tmp_path / "raw", raw_ratings())
    (raw / "entities").mkdir()
    for number in range(2):
        rows = {"entity_id": [f"e{number}{k}" for k in range(3)], "label": ["a", "b", "c"], "text": ["x", None, "z"]}
        pq.write_table(pa.table(rows), raw / "entities" / f"{number}.parquet", row_group_size=2)
    (raw / "truth.tsv").write_text("item_id\tentity_ids\n1\te00|e10\n2\te01\n")
    pq.write_table(pa.table({"item_id": ["1", "2"], "text": ["one", None]}), raw / "given.parquet")
    return raw


@pytest.fixture
def remote(folder: Path, s3: s3_server.Server, tmp_path: Path) -> str:
    """The same files in an object store."""
    prefix = f"raw/{tmp_path.name}"
    store = Store(s3.uri(prefix))
    for path in folder.rglob("*"):
        if path.is_file():
            store.write_bytes(path.read_bytes(), *path.relative_to(folder).parts)
    return s3.uri(prefix)


def config(folder: Path, where: str) -> Config:
    return small_movielens(
        folder,
        ("data.path", where),
        ("linking.entities", join(where, "entities")),
        ("linking.truth", join(where, "truth.tsv")),
    )


def test_the_tables_are_those_of_the_files(folder: Path, remote: str, tmp_path: Path) -> None:
    stores = [Store(str(tmp_path / name)) for name in ("here", "there")]
    marks = [make(config(folder, where), s, *TABLES) for s, where in zip(stores, (str(folder), remote), strict=True)]
    for name in TABLES:
        one, two = (Inputs(s, m).table(name) for s, m in zip(stores, marks, strict=True))
        assert one.num_rows
        assert one.equals(two), name
        assert marks[0][name] != marks[1][name]  # a path counts by content, an object by its ETag


def test_an_object_counts_by_what_is_in_it(folder: Path, remote: str) -> None:
    store, before = Store(remote), source_digest(remote)
    assert source_digest(remote) == before
    store.write_bytes((folder / "users.dat").read_bytes(), "users.dat")  # the same again, at another time
    assert source_digest(remote) == before
    old = (folder / "users.dat").read_bytes()
    store.write_bytes(old.replace(b"::F::", b"::M::", 1), "users.dat")  # the same size
    assert source_digest(remote) != before


def test_given_texts_are_read(remote: str) -> None:
    found = given_texts(join(remote, "given.parquet"), pa.array(["1", "2", "3"]))
    assert found.to_pydict() == {"item_id": ["1", "2"], "text": ["one", None]}


def test_a_broken_row_is_named_by_uri_and_line(folder: Path, remote: str, tmp_path: Path) -> None:
    lines = (folder / "users.dat").read_bytes().splitlines(keepends=True)
    Store(remote).write_bytes(b"".join([*lines[:2], b"3::F\n", *lines[3:]]), "users.dat")
    with pytest.raises(InputError, match=r"^s3://bucket/raw/.*/users\.dat\?.*, line 3: 2 fields where 5 are due"):
        make(config(folder, remote), Store(str(tmp_path / "store")), "users")


@pytest.mark.parametrize("name", ["users.dat", "entities", "truth.tsv", "given.parquet"])
def test_a_missing_object_is_named(s3: s3_server.Server, name: str) -> None:
    uri = join(s3.uri("raw/nothing"), name)
    with pytest.raises(InputError, match=rf"s3://bucket/raw/nothing/{name}.*no such file"):
        source_digest(uri)


@pytest.mark.parametrize("uri", ["s4://bucket/x", "s3:/bucket/x", "s3://key:hush@bucket/x"])
def test_a_uri_written_wrongly_is_refused(uri: str) -> None:
    with pytest.raises(AskedWrongly) as error:
        source_digest(uri)
    assert "hush" not in str(error.value)
