"""One server that speaks S3 for all tests of this folder."""

import os
from collections.abc import Iterator

import pytest
import s3_server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_server.Server]:
    """A running server; the environment holds its credentials."""
    patch = pytest.MonkeyPatch()
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        patch.delenv(name)
    for name, value in s3_server.KEYS.items():
        patch.setenv(name, value)
    with s3_server.server(tmp_path_factory.mktemp("s3")) as found:
        yield found
    patch.undo()
