"""SWING on a real cluster: the tables of one process, workers that die, the graph in the object store."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from worlds import behaviour

from trawl import cli
from trawl.config import Config
from trawl.errors import EngineDied, InputError
from trawl.executors import Inline, OnRay
from trawl.inputs import Inputs
from trawl.pool import InProcess
from trawl.pool import OnRay as RayPool
from trawl.stage import run_stage
from trawl.store import Store
from trawl.swing import adjacency, sharing
from trawl.swing.distributed import Options, mine_distributed
from trawl.swing.formula import Formula
from trawl.swing.mining import Miner
from trawl.swing.reading import Columns
from trawl.swing.stage import STAGES

pytestmark = pytest.mark.usefixtures("ray_cluster")
Pairs = tuple[npt.NDArray[Any], npt.NDArray[Any]]


def draw(seed: int = 0, rows: int = 4000) -> Pairs:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 200, rows), np.minimum(rng.lognormal(2.5, 0.8, rows).astype(np.int64), 79)


def read(seed: int, mark: str = "") -> Iterator[Pairs]:
    """A part; with a mark, its process dies at the first try."""
    if mark and not Path(mark).exists():
        Path(mark).touch()
        os._exit(1)
    yield draw(seed)


def refuse(seed: int) -> Iterator[Pairs]:
    raise InputError.at("views.csv", "row 7", "the id is empty")
    yield draw(seed)


def dies(seed: int) -> Iterator[Pairs]:
    os._exit(1)
    yield draw(seed)


def where(graph: sharing.Whole) -> tuple[bool, int]:
    """Whether the arrays may be written to, and the process."""
    return bool(graph.graph.rows.flags.writeable or graph.graph.lists.flags.writeable), os.getpid()


def mined(given: sharing.Whole | sharing.Parted, task: int) -> dict[str, Any]:
    return vars(Miner(given, Formula(normalize="none")).topk(task, 5))


def test_the_graph_is_read_in_place_and_a_lost_worker_loses_its_task_alone(tmp_path: Path) -> None:
    pool = RayPool(2)
    parts = [(seed, str(tmp_path / "died") if seed == 1 else "") for seed in range(4)]
    both = adjacency.build(pool, read, parts, (200, 80), count=3)
    assert (tmp_path / "died").exists()
    here = adjacency.build(InProcess(), read, [(seed,) for seed in range(4)], (200, 80))
    assert both.edges == here.edges
    for shuffle in ("never", "always"):
        there = sharing.prepare(pool, both, "user", 4, shuffle=shuffle, block_bytes=1 << 17)  # type: ignore[arg-type]
        alone = sharing.prepare(InProcess(), here, "user", 4)
        if shuffle == "never":
            assert not any(pool.get(pool.call(where, there.value))[0] for _ in range(2))
        for task in range(4):
            found = pool.get(pool.call(mined, there.value, task))
            expected = mined(alone.value, task)
            assert all(np.array_equal(found[name], expected[name]) for name in expected)
            assert len(found["anchor"]) > 100


def test_an_error_of_ours_comes_back_as_itself() -> None:
    with pytest.raises(InputError, match=r"views.csv, row 7: the id is empty"):
        adjacency.build(RayPool(2), refuse, [(0,), (1,)], (200, 80))


def test_a_part_that_kills_every_worker_ends_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trawl.pool._RETRIES", 1)
    with pytest.raises(EngineDied, match="a worker failed"):
        adjacency.build(RayPool(2), dies, [(0,)], (200, 80))


def ratings() -> list[tuple[int, int, float]]:
    users, items = draw(3, 1500)
    stars = np.random.default_rng(5).integers(2, 6, 1500)
    pairs = dict.fromkeys(zip((users % 60 + 1).tolist(), (items % 40 + 1).tolist(), strict=True))
    return [(u, i, float(s)) for (u, i), s in zip(pairs, stars, strict=False)]


@pytest.mark.parametrize("shuffle", ["auto", "always"])
def test_the_stages_make_the_tables_of_one_process(tmp_path: Path, shuffle: str) -> None:
    tables = []
    for name in ("here", "there"):
        store, cfg = Store(str(tmp_path / name)), Config().override(f"resources.swing_shuffle={shuffle}")
        marks = behaviour(store, ratings(), users=60, items=40, partitions=3)
        executor = Inline() if name == "here" else OnRay(cfg)
        for stage in STAGES:
            done = run_stage(stage, cfg, store, {n: marks[n] for n in stage.reads(cfg)}, executor)
            tables.append(Inputs(store, {stage.artifact: done.fingerprint}).table(stage.artifact))
            assert (done.notes["shuffle"]["bytes"] > 0) if shuffle == "always" else ("shuffle" not in done.notes)
    assert tables[0].equals(tables[2]) and tables[1].equals(tables[3])
    assert min(t.num_rows for t in tables) > 100


def test_a_folder_is_mined_as_in_one_process(tmp_path: Path) -> None:
    users, items = draw(2)
    (tmp_path / "in").mkdir()
    for number, cut in enumerate(np.array_split(np.arange(len(users)), 3)):
        table = pa.table({"who": users[cut], "what": [f"film {i}" for i in items[cut]]})
        pq.write_table(table, tmp_path / "in" / f"{number}.parquet")
    options = Options(side="item", formula=Formula(), top_k=5)
    columns = Columns(user="who", item="what")
    reports = [
        mine_distributed(pool, str(tmp_path / "in"), columns, options, str(tmp_path / name))
        for name, pool in (("here", InProcess()), ("there", RayPool(2)))
    ]
    here, there = (pq.read_table(tmp_path / name) for name in ("here", "there"))
    assert here.equals(there) and here.num_rows == reports[0]["rows"] > 100
    for report in reports:
        assert report.pop("seconds")["kernel"] > 0
    assert reports[0] == reports[1]


def test_the_command_writes_the_same_file_by_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    users, items = draw(4, 1500)
    pq.write_table(pa.table({"who": users, "what": items}), tmp_path / "in.parquet")
    words = ["swing", "--interactions", str(tmp_path / "in.parquet"), "--user-column", "who", "--item-column", "what"]
    words += ["--side", "user", "--json"]
    reports = []
    for out, more in (("one.csv", []), ("two.csv", ["--ray", "--workers", "2"])):
        assert cli.main([*words, "--out", str(tmp_path / out), *more]) == 0
        reports.append(json.loads(capsys.readouterr().out))
    assert (tmp_path / "one.csv").read_text() == (tmp_path / "two.csv").read_text()
    same = reports[0].keys() & reports[1].keys() - {"out"}
    assert {k: reports[0][k] for k in same} == {k: reports[1][k] for k in same}
    assert {"read", "interactions", "rows", "distinct", "caps", "warning"} <= same
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.parquet", "one.csv", "two.csv"]
    assert cli.main([*words, "--out", str(tmp_path / "x.csv"), "--ray", "--window-days", "3"]) == 2
    assert "--ray mines all days" in capsys.readouterr().err
