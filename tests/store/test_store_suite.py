"""What every store promises, on a disk and on an object store."""

import pickle
from pathlib import Path

import pyarrow as pa
import pytest
import s3_server

from trawl import views
from trawl.errors import ArtifactError
from trawl.store import Store


@pytest.fixture(params=["path", "file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "path":
        return Store(str(tmp_path / "store"))
    if request.param == "file":
        return Store(f"file://{tmp_path}/store")
    server: s3_server.Server = request.getfixturevalue("s3")
    return Store(server.uri(f"suite/{tmp_path.name}"))


def test_what_is_written_is_read(store: Store) -> None:
    store.write_text("one", "a", "b", "x.txt")
    store.write_text("two", "a", "b", "x.txt")
    assert store.read_text("a", "b", "x.txt") == store.find_text("a", "b", "x.txt") == "two"
    assert (store.exists("a"), store.exists("a", "b", "x.txt"), store.exists("a", "c")) == (True, True, False)
    assert (store.size("a", "b", "x.txt"), store.size("a", "b"), store.size("nothing")) == (3, -1, -1)


def test_an_empty_file_and_a_large_one(store: Store) -> None:
    large = bytes(range(256)) * (12 << 12)  # 12 MiB: more than one request carries
    store.write_bytes(b"", "a", "empty")
    store.write_bytes(large, "a", "large")
    assert store.read_bytes("a", "empty").size == 0
    assert store.read_bytes("a", "large").to_pybytes() == large
    assert store.sizes("a") == {"empty": 0, "large": len(large)}


def test_a_missing_file_is_none_or_an_error_that_names_it(store: Store) -> None:
    assert store.find_bytes("a", "x") is None
    assert store.names("a") == []
    assert store.sizes("a") == {}
    with pytest.raises(ArtifactError, match=r"a/x.*missing"):
        store.read_text("a", "x")
    with pytest.raises(ArtifactError, match=r"a/x.*missing"):
        store.open_file("a", "x")


def test_names_and_removal(store: Store) -> None:
    for name in ("b", "a", "deep/c"):
        store.write_text("x", "folder", *name.split("/"))
    assert store.names("folder") == ["a", "b", "deep"]
    assert store.sizes("folder") == {"a": 1, "b": 1, "deep/c": 1}
    store.remove("folder", "deep")
    store.remove("folder", "nothing")
    store.remove_file("folder", "a")
    store.remove_file("folder", "a")
    assert store.names("folder") == ["b"]
    store.remove("folder")
    assert not store.exists("folder")


def test_lines_and_pointers(store: Store) -> None:
    store.append_line("one", "runs", "r", "log.jsonl")
    store.append_line("two", "runs", "r", "log.jsonl")
    assert store.read_text("runs", "r", "log.jsonl") == "one\ntwo\n"
    assert store.pointer("serving") is None
    store.point("serving", {"model": "abc"})
    store.point("serving", {"model": "def"})
    assert store.pointer("serving") == {"model": "def"}


def test_parquet_and_the_folders_of_artifacts(store: Store) -> None:
    size, digest = store.write_parquet(pa.table({"a": [1, 2]}), "items", "f1", "part-00000.parquet")
    assert store.sizes("items", "f1") == {"part-00000.parquet": size}
    assert len(digest) == 32
    store.write_text("{}", "runs", "r", "run.json")
    store.write_text("x", "cache", "answers", "x")
    assert list(store.artifacts()) == [("items", "f1")]
    assert store.manifest("items", "f1") is None


def test_another_process_gets_the_same_store(store: Store) -> None:
    store.write_text("x", "a")
    assert pickle.loads(pickle.dumps(store)).read_text("a") == "x"


def test_gc_removes_what_no_kept_run_and_no_pointer_names(store: Store) -> None:
    for mark in ("kept", "pointed", "old"):
        store.write_text("x", "items", mark, "part-00000.parquet")
    for name, mark, created in (("new", "kept", "2"), ("past", "old", "1")):
        cells = [{"artifacts": {"items": mark}}]
        store.write_text(f'{{"created": "{created}", "cells": {cells}}}'.replace("'", '"'), "runs", name, "run.json")
    store.point("serving", {"items": "pointed"})
    assert views.gc(store, 1, dry=True) == ["runs/past", "items/old"]
    assert views.gc(store, 1) == ["runs/past", "items/old"]
    assert store.names("items") == ["kept", "pointed"]
    assert store.names("runs") == ["new"]
    assert views.gc(store, 1) == []
