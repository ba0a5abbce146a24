"""Where the machine code of the kernels is kept, and how much memory a large target takes."""

import subprocess
import sys

import pytest

from trawl import machine_code
from trawl.swing.kernels import compiling
from trawl.swing.kernels.lists import block_end


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Three bases for the code: beside the sources, the user's cache, temporary files."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(compiling, "_HERE", tmp_path / "sources")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(machine_code.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    return tmp_path


def found():
    return compiling.code_folder.__wrapped__()


def blocked(path):
    """A file where a folder is wanted: no folder can be made in it, not even by root."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")


def test_code_lies_beside_the_sources_or_where_it_can(places):
    assert found().parent == places / "sources" / "__pycache__"
    (places / "sources" / "__pycache__").rename(places / "away")
    blocked(places / "sources" / "__pycache__")
    assert found().parent == places / "cache" / "trawl"
    (places / "cache").rename(places / "cached")
    blocked(places / "cache")
    assert found().parent.parent == places / "temporary"
    (places / "temporary").rename(places / "temporaries")
    blocked(places / "temporary")
    assert found() is None


def test_a_folder_that_is_named_is_the_only_one(places, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(places / "named"))
    assert found().parent == places / "named"
    (places / "named").rename(places / "other")
    blocked(places / "named")
    assert found() is None


def test_a_folder_that_others_may_write_is_not_trusted(places):
    folder = found()
    folder.chmod(0o777)
    assert found().parent == places / "cache" / "trawl"


def test_the_folder_is_named_for_all_kernels(places):
    (places / "sources").mkdir()
    (places / "sources" / "a.py").write_text("1")
    first = found()
    (places / "sources" / "b.py").write_text("2")
    assert found() != first


@pytest.mark.parametrize("cells", [1, 7, 10, 54, 55, 1000])
def test_blocks_cover_the_table_and_fit(cells):
    d, start, seen = 10, 0, []
    while start < d:
        stop = block_end(start, d, cells)
        size = sum(range(start + 1, stop + 1))
        assert size <= cells or stop == start + 1
        assert stop == d or size + stop + 1 > cells  # no smaller than it need be
        seen += range(start, stop)
        start = stop
    assert seen == list(range(d))


def test_a_hub_stays_within_the_bound():
    """One target of 12,000 features: its whole table would take 288 MB."""
    code = """
import resource, numpy as np
from trawl.swing import Formula, Swing, bipartite
d, limit = 12_000, 32 << 20
anchors = np.concatenate([np.zeros(d, int), 1 + np.arange(d) // 3, 1 + np.arange(d) % 4000])
graph = bipartite(anchors, np.concatenate([np.arange(d)] * 3), (4001, d))
swing = Swing(graph, Formula(normalize="none"), limit_bytes=limit)
swing.topk([1, 2], 3), swing.self_scores([1, 2])
from trawl.swing.kernels import lists
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
own, found = swing.self_scores([0]), swing.topk([0], 3)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(grown * 1024 <= limit + 4 * 3 * d + 28 * 4000 + (8 << 20), len(found.score), own[0] > found.score[0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "3", "True"]
