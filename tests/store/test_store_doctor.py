"""`trawl doctor` on an object store: what it writes is gone again; a bucket that is not there is told."""

from pathlib import Path

import pytest
import s3_server

from trawl.config import Config
from trawl.doctor import files
from trawl.doctor.findings import Patient
from trawl.store import Store


def test_a_bucket_is_written_and_left_as_it_was(s3: s3_server.Server) -> None:
    uri = s3.uri("doctor")
    (found,) = files.store(Patient((Config(),), uri))
    assert found.state == "ok", found
    assert Store(uri).names() == []
    assert any(method == "PUT" and ".doctor-" in path for method, path in s3.requests())


def test_a_bucket_that_is_not_there(s3: s3_server.Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (found,) = files.store(Patient((Config(),), f"s3://nobodys-bucket/x{s3.query}"))
    assert found.state == "fail"
    assert "no such bucket" in found.what
