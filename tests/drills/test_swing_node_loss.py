"""A cluster of three nodes that mines a folder loses one, by kill -9 of its raylet, while that node mines.

The node takes its workers, its copy of the graph and whatever partitions lay in its object store. The partners are
those of one process.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import job_cluster
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_node_loss import Node, three_nodes

from trawl.swing import Columns, Formula, Request, mine_file


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("views")
    rng = np.random.default_rng(0)
    for part in range(6):
        users, items = rng.integers(0, 8000, 100_000), np.minimum(rng.lognormal(6, 1, 100_000), 2999)
        pq.write_table(pa.table({"who": users, "what": items.astype(np.int64)}), folder / f"{part}.parquet")
    return folder


@pytest.fixture(scope="module")
def alone(views: Path) -> pa.Table:
    out = views.parent / "alone.parquet"
    mine_file(views, out, Columns(user="who", item="what"), Request(side="user", formula=Formula(), top_k=5))
    return pq.read_table(out)


def test_a_node_that_dies_while_it_mines_loses_its_tasks_alone(tmp_path: Path, views: Path, alone: pa.Table) -> None:
    out = tmp_path / "out"
    with three_nodes(tmp_path) as (address, nodes):
        words = [sys.executable, "-m", "trawl.cli", "swing", "--interactions", str(views), "--out", str(out)]
        words += ["--user-column", "who", "--item-column", "what", "--side", "user", "--top-k", "5", "--json"]
        words += ["--ray", address, "--workers", "6"]
        env = job_cluster.environment(TRAWL_NODE_CACHE=str(tmp_path / "driver"), PYTHONPATH=str(job_cluster.ROOT))
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        driver = subprocess.Popen(words, cwd=tmp_path, env=env, text=True, **pipes)  # type: ignore[call-overload]
        try:
            lost = _kill_one_that_mines(nodes[1:], driver, out)
            said, err = driver.communicate(timeout=500)
        finally:
            driver.kill()
        assert driver.returncode == 0, said + err
        assert lost.process.wait(60) is not None, "the node is gone"
        assert len([n for n in nodes if n.process.poll() is None]) == 2
    parts = [pq.read_table(path) for path in sorted(out.glob("part-*.parquet"))]
    assert pa.concat_tables(parts).equals(alone)
    assert json.loads(said)["rows"] == alone.num_rows > 10_000


def _kill_one_that_mines(nodes: list[Node], driver: "subprocess.Popen[str]", out: Path) -> Node:
    while driver.poll() is None:
        if any(out.glob("_work/own-*.npy")) and not (out / "_report.json").exists():
            for node in nodes:
                if _mines(node):
                    os.kill(node.raylet().pid, signal.SIGKILL)
                    return node
        time.sleep(0.01)
    pytest.fail(f"the run ended before a node mined: {driver.communicate()}")


def _mines(node: Node) -> bool:
    titles = []
    for process in node.raylet().children():
        try:
            titles.append(" ".join(process.cmdline()))
        except psutil.Error:  # it ended meanwhile
            continue
    return any(title.startswith(("ray::_own", "ray::_mine")) for title in titles)
