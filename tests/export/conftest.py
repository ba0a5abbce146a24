"""Exports that the tests of this folder share, each trained once."""

import shutil
from pathlib import Path

import pytest
from exported import Exported


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(tmp_path_factory.mktemp("exported"))


@pytest.fixture
def copy(exported: Exported, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported.arm("din-knowledge")[1], tmp_path / "copy"))
