"""A cluster of three nodes on this machine loses one, by kill -9 of its raylet, while that node is at work.

Each node has its own working directory and its own node cache; they share nothing but the store. The tables are those
of an undisturbed run in one process.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import job_cluster
import numpy as np
import psutil
import pyarrow as pa
import pytest
import small

from trawl import schemas
from trawl.runs import Run
from trawl.store import Store

WORLD = (
    "data.synthetic.users=600",
    "data.synthetic.items=240",
    "data.synthetic.distractors=100",
    "data.partitions=16",
    "extraction.user_items=6",
    "training.epochs=12",
    "training.patience=12",
    "training.batch_size=64",
    "training.precision=float64",  # in float32 one worker and two differ by rounding, which hundreds of steps enlarge
)
VOLATILE = ("seconds", "attempts")
_WORK = ("_guarded", "_Actor", "RayTrainWorker")  # in the titles of workers that run something of ours


@dataclass(frozen=True)
class Node:
    """A `ray start --block` and what it started."""

    process: subprocess.Popen[bytes]
    folder: Path

    def raylet(self) -> psutil.Process:
        return next(p for p in psutil.Process(self.process.pid).children() if p.name() == "raylet")

    def at_work(self) -> bool:
        """Is one of its workers in a task or actor of ours?"""
        titles = [" ".join(p.cmdline()) for p in self.raylet().children()]
        return any(t.startswith("ray::") and any(name in t for name in _WORK) for t in titles)


def _start(folder: Path, agent: int, *words: str) -> Node:
    (folder / "cache").mkdir(parents=True)
    command = [job_cluster.RAY, "start", "--block", "--num-cpus", "2", "--disable-usage-stats", *words]
    command.append(f"--dashboard-agent-listen-port={agent}")
    env = job_cluster.environment(TRAWL_NODE_CACHE=str(folder / "cache"))
    env["PYTHONPATH"] = str(job_cluster.ROOT)  # the code is installed on every node, the working directory is not it
    env["RAY_raylet_start_wait_time_s"] = "120"  # three nodes on two cores are slow to start
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=folder, start_new_session=True)
    return Node(process, folder)


@contextlib.contextmanager
def three_nodes(folder: Path) -> Iterator[tuple[str, list[Node]]]:
    """The address of the cluster, and its nodes, the head first."""
    port, dashboard, client, *agents = job_cluster.free_ports(6)
    address, nodes = f"127.0.0.1:{port}", []
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as session:
        flags = (f"--port={port}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}")
        try:
            nodes.append(_start(folder / "head", agents[0], "--head", "--temp-dir", session, *flags))
            _wait(lambda: _alive(address) >= 1, nodes)
            for name, agent in zip(("left", "right"), agents[1:], strict=True):
                nodes.append(_start(folder / name, agent, "--address", address))
                # One at a time: two that start together on one machine take the same name for their object store.
                _wait(lambda: _alive(address) >= len(nodes), nodes)
            yield address, nodes
        finally:
            for node in reversed(nodes):
                job_cluster.end(node.process)


def _alive(address: str) -> int:
    code = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='error'); "
    code += "print('nodes', sum(n['Alive'] for n in ray.nodes()))"
    done = subprocess.run(
        [sys.executable, "-c", code, address],
        capture_output=True,
        text=True,
        check=False,
        env=job_cluster.environment(),
    )
    found = re.search(r"nodes (\d+)", done.stdout)  # among Ray's own words
    return int(found[1]) if found else 0


def _wait(ready: Callable[[], bool], nodes: list[Node], seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while not ready():
        for node in nodes:
            assert node.process.poll() is None, (node.folder / "log").read_text()
        assert time.monotonic() < until, "the cluster is not complete"
        time.sleep(1)


def _command(store: Path, address: str, *more: str) -> list[str]:
    recipe = store.parent / "empty.toml"
    recipe.touch()
    settings = [*small.SETTINGS, *WORLD, "resources.executor=ray", "resources.actors=6", *more]
    settings = [s for s in settings if not s.startswith("name=")] + [f"resources.ray_address={address}"]
    words = [word for s in settings for word in ("--set", s)]
    return [sys.executable, "-m", "trawl.cli", "run", str(recipe), "--store", str(store), "--name", "r", *words]


def _extracting(store: Path) -> bool:
    """Some parts of the users' prompts or answers are there and not all."""
    begun = (f"{name}/*/{where}" for name in ("user_prompts", "user_answers") for where in ("_parts/*", "_work/*/*"))
    return any(any(store.glob(pattern)) for pattern in begun)


def _training(store: Path) -> bool:
    """A checkpoint is registered and the model is not published."""
    return any(store.glob("model/*/_work/train/checkpoint_*")) and not any(store.glob("model/*/_manifest.json"))


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, str]]:
    """The same recipe undisturbed, in this process."""
    store = Store(str(tmp_path_factory.mktemp("calm") / "store"))
    outcomes = small.run_all(store, small.config(*WORLD))
    return store, {name: outcome.fingerprint for name, outcome in outcomes.items()}


@pytest.mark.parametrize(
    ("moment", "settings"),
    [
        (_extracting, ("resources.launcher=task",)),
        (_training, ("resources.launcher=ray_train", "resources.training_workers=2")),
    ],
    ids=["extraction", "training on Ray Train"],
)
def test_a_node_that_dies_at_work_changes_no_table(
    tmp_path: Path, calm: tuple[Store, dict[str, str]], moment: Callable[[Path], bool], settings: tuple[str, ...]
) -> None:
    store = tmp_path / "store"
    with three_nodes(tmp_path) as (address, nodes):
        env = job_cluster.environment(TRAWL_NODE_CACHE=str(tmp_path / "driver"), PYTHONPATH=str(job_cluster.ROOT))
        command = _command(store, address, *settings)
        driver = subprocess.Popen(
            command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        lost = _kill_one_at_work(nodes[1:], driver, lambda: moment(store))
        try:
            out, err = driver.communicate(timeout=500)
        finally:
            driver.kill()
        assert driver.returncode == 0, out + err
        assert lost.process.poll() is not None, "the node is gone"
        assert len([n for n in nodes if n.process.poll() is None]) == 2
    _assert_same(calm, Store(str(store)))


def _kill_one_at_work(nodes: list[Node], driver: subprocess.Popen[str], now: Callable[[], bool]) -> Node:
    """kill -9 of the raylet of a node that works, at the moment asked for."""
    while driver.poll() is None:
        if now():
            for node in nodes:
                if node.at_work():
                    os.kill(node.raylet().pid, signal.SIGKILL)
                    return node
        time.sleep(0.01)
    pytest.fail(f"the run ended before a node was at work: {driver.communicate()}")


def _assert_same(calm: tuple[Store, dict[str, str]], wild: Store) -> None:
    """Exact for data, linking, prompts, answers, positives; vectors by cosine; scores and similarities within 1e-4."""
    store, marks = calm
    record = Run(wild, "r").read("run.json")
    assert record["state"] == "done"
    found = {name: entry["fingerprint"] for name, entry in record["artifacts"].items()}
    assert {name: marks[name] for name in found} == found
    for name in schemas.CONTRACTS.keys() & found.keys():
        one, two = (small.table(s, found, name) for s in (store, wild))
        if name == "predictions":
            np.testing.assert_allclose(one["score"].to_numpy(), two["score"].to_numpy(), atol=1e-4)
            one, two = one.drop_columns("score"), two.drop_columns("score")
        if name == "item_neighbours":  # of nearly equal ones the order may differ
            np.testing.assert_allclose(one["similarity"].to_numpy(), two["similarity"].to_numpy(), atol=1e-4)
            same = one["neighbour"].to_numpy() == two["neighbour"].to_numpy()
            assert same.mean() > 0.98
            one, two = (table.drop_columns(["similarity", "neighbour"]) for table in (one, two))
        if name.endswith("_vectors"):
            np.testing.assert_allclose(one["norm"].to_numpy(), two["norm"].to_numpy(), rtol=1e-3, atol=1e-4)
            one, two = one.drop_columns("norm"), two.drop_columns("norm")
        if name.endswith(("_embeddings", "_vectors")):
            _assert_close(one, two)
            one, two = one.drop_columns("vector"), two.drop_columns("vector")
        kept = [c for c in one.column_names if c not in VOLATILE]
        assert one.select(kept).equals(two.select(kept)), name


def _assert_close(one: pa.Table, two: pa.Table) -> None:
    a, b = (np.stack(t["vector"].to_numpy(zero_copy_only=False)).astype(np.float64) for t in (one, two))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    assert np.array_equal(norms == 0, (a == 0).all(axis=1))
    assert (((a * b).sum(axis=1) / np.where(norms, norms, 1))[norms > 0] > 0.9999).all()
