"""The pipeline and one room as jobs, by hand and by `trawl submit`, on a cluster that this module starts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import job_cluster
import pytest


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with job_cluster.cluster(tmp_path_factory.mktemp("head") / "log") as address:
        yield address


def record(store: Path, run: str) -> Any:
    return json.loads((store / "runs" / run / "run.json").read_text())


def test_the_clone_is_a_small_working_directory(tmp_path: Path) -> None:
    from ray._private.runtime_env.packaging import create_package

    package = tmp_path / "package.zip"
    create_package(str(job_cluster.ROOT), package, excludes=[], include_gitignore=True)
    assert 100_000 < package.stat().st_size < 2.5 * job_cluster.LIMIT, "the code alone; Ray packs it uncompressed"


def test_a_room_by_hand_and_then_the_pipeline_by_trawl_submit(head: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    words = ["--store", str(store), *job_cluster.settings()]
    done = job_cluster.ray_submit(
        head, job_cluster.ROOT, "python", "-m", "jobs.encode", "demo", *words, "--name", "room"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    room = record(store, "room")
    assert room["state"] == "done"
    assert (store / room["artifacts"]["item_embeddings"]["folder"] / "_manifest.json").exists()
    assert "model" not in room["artifacts"]
    recipe = tmp_path / "mine.toml"  # a file of the user's own, which the job must take along
    recipe.write_text('extends = "demo"\n[training]\nlr = 0.003\n')
    done = job_cluster.trawl_submit(head, tmp_path, "mine.toml", *words, "--name", "whole")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"report: {store}/runs/whole/report.html" in done.stdout
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("item_embeddings")]
    assert lines and all("ready" in line for line in lines), "the room's work is not done again"
    whole = record(store, "whole")
    assert whole["recipe"]["training"]["lr"] == 0.003
    assert whole["commit"] == "", "the code that ran is the copy that was sent, not the clone"
    assert len(json.loads((store / "runs" / "whole" / "result.json").read_text())) == 1


def test_a_failing_job_says_why_in_its_last_line_and_keeps_its_exit_code(head: str, tmp_path: Path) -> None:
    words = ["--set", "data.source=movielens", "--set", "data.path=/no/such/folder"]
    done = job_cluster.trawl_submit(head, tmp_path, "demo", "--store", str(tmp_path / "store"), *words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line.strip()][-1].startswith("trawl: /no/such/folder")
    last = done.stderr.splitlines()[-1]
    assert "failed with exit code 2: /no/such/folder" in last
    assert "Traceback" not in done.stdout + done.stderr
