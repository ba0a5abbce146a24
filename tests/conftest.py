"""What all tests share: a quiet environment, a node cache of their own, one Ray cluster for those that need one."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # tests/worlds.py is imported by name
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="session")
def _own_node_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Files that are mapped once per node go to a folder of this test run."""
    os.environ["TRAWL_NODE_CACHE"] = str(tmp_path_factory.mktemp("node"))
    yield
    del os.environ["TRAWL_NODE_CACHE"]


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local cluster, started once for all tests that want it."""
    import ray

    from trawl.config import Config
    from trawl.connection import connect

    here = Path(__file__).parent  # workers import the classes that tests define
    os.environ["PYTHONPATH"] = os.pathsep.join([str(here), str(here / "ray"), os.environ.get("PYTHONPATH", "")])
    connect(Config())
    yield
    ray.shutdown()
