"""Every room and a search as jobs, jobs that are stopped or killed, and a submitter that is interrupted."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import job_cluster
import psutil
import pytest
import small

from trawl import experiment, pipeline, recipes, schemas, working_dir
from trawl.store import Store

ROOMS = ("data", "link", "extract", "encode", "swing", "train", "export")
LARGER = (
    "model.side=both",
    "data.synthetic.users=500",
    "data.synthetic.items=200",
    "data.partitions=12",
    "training.epochs=2",
)
VOLATILE = ("seconds", "attempts")


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with job_cluster.cluster(tmp_path_factory.mktemp("head") / "log") as address:
        yield address


def finished(store: Path) -> dict[str, int]:
    """When each file was written of which the store says that it is done: published tables, and parts of others."""
    files = [p for m in store.glob("*/*/_manifest.json") for p in m.parent.iterdir() if p.is_file()]
    for note in store.glob("*/*/_parts/*.json"):
        files.append(note.parents[1] / f"part-{note.stem}.parquet")
    return {str(p): p.stat().st_mtime_ns for p in files if p.exists()}


def assert_kept(before: dict[str, int], store: Path) -> None:
    after = finished(store)
    assert before
    assert {p: t for p, t in before.items() if after.get(p) != t} == {}, "what was done is not done again"


def test_every_room_goes_on_where_the_one_before_ended(head: str, tmp_path: Path) -> None:
    store, known = tmp_path / "store", pipeline.stages().keys()
    rooms = [name for name in ROOMS if name in working_dir.scripts()]
    assert rooms == list(ROOMS)
    done: dict[str, int] = {}
    for room in rooms:
        words = ["demo", "--store", str(store), "--name", room, "--job", room, *job_cluster.settings()]
        found = job_cluster.trawl_submit(head, tmp_path, *words)
        assert found.returncode == 0, found.stdout + found.stderr
        record = json.loads((store / "runs" / room / "run.json").read_text())
        assert record["state"] == "done"
        made = record["artifacts"].keys() & known
        assert all((store / record["artifacts"][a]["folder"] / "_manifest.json").exists() for a in made), room
        if done:
            assert_kept(done, store)
        assert len(finished(store)) >= len(done)
        done = finished(store)
    assert json.loads((store / "runs" / "train" / "result.json").read_text())


def test_a_search_is_a_job_too(head: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    words = ["demo", "--store", str(store), "--name", "study", "--job", "tune.contrastive"]
    tiny = ("search.arm=''", "search.w_user=[0.0]", "search.w_item=[0.0, 0.01]", "search.temperature=[0.15]")
    found = job_cluster.trawl_submit(head, tmp_path, *words, *job_cluster.settings(*tiny))
    assert found.returncode == 0, found.stdout + found.stderr
    trials = json.loads((store / "runs" / "study" / "trials.json").read_text())["trials"]
    assert trials and all(trial["state"] == "finished" for trial in trials)


def words(store: Path) -> list[str]:
    return ["demo", "--store", str(store), "--name", "r", *job_cluster.settings(*LARGER)]


def submitter(head: str, store: Path) -> "subprocess.Popen[str]":
    """`trawl submit` as a process group of its own, as a shell starts it."""
    command = [sys.executable, "-m", "trawl.cli", "submit", *words(store), "--address", head]
    env = job_cluster.environment(PYTHONPATH=str(job_cluster.ROOT))
    # A shell that puts us into the background makes us deaf to Ctrl-C, and what we start inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        command,
        cwd=store.parent,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def wait(
    ready: Callable[[], Any], what: str, process: "subprocess.Popen[str] | None" = None, seconds: float = 240
) -> Any:
    """What `ready` finds; fails when the process ends before that, or too long after."""
    until = time.monotonic() + seconds
    while not (found := ready()):
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.05)
    return found


def jobs(head: str) -> Any:
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    from ray.job_submission import JobSubmissionClient

    return JobSubmissionClient(head)


def job_of(client: Any, store: Path) -> Any:
    """The newest job of this test's run."""
    mine = [j for j in client.list_jobs() if (j.metadata or {}).get("trawl_store") == str(store)]
    return max(mine, key=lambda j: j.start_time or 0, default=None)


def _over(client: Any, job: str) -> bool:
    return bool(client.get_job_info(job).status.is_terminal())


def driver(store: Path) -> psutil.Process | None:
    """The process `python -m jobs.pipeline` of this test's store."""
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "jobs.pipeline" in line and str(store) in line and line[1:2] == ["-m"]:
            return process
    return None


def in_the_middle(store: Path) -> bool:
    """The users' prompts are published, the answers are not."""
    return any(store.glob("user_prompts/*/_manifest.json")) and not any(store.glob("user_answers/*/_manifest.json"))


def assert_undisturbed(store: Path, folder: Path) -> None:
    """The tables are those of one run in this process."""
    calm = Store(str(folder / "calm"))
    cfg = recipes.load("demo", [*job_cluster.SETTINGS, *LARGER, "resources.executor=inline"])
    (cell,) = experiment.expand(cfg)
    marks = {name: outcome.fingerprint for name, outcome in small.run_all(calm, cell.cfg).items()}
    record = json.loads((store / "runs" / "r" / "run.json").read_text())
    found = {name: entry["fingerprint"] for name, entry in record["artifacts"].items()}
    same = [n for n in found if n in schemas.CONTRACTS and n in marks]
    assert {n: found[n] for n in same} == {n: marks[n] for n in same}
    assert len(same) > 10
    for name in same:
        one, two = (small.table(s, found, name) for s in (calm, Store(str(store))))
        kept = [c for c in one.column_names if c not in VOLATILE]
        assert one.select(kept).equals(two.select(kept)), name


@pytest.mark.parametrize("how", ["ray job stop", "kill -9"])
def test_a_job_that_ends_early_goes_on_when_submitted_again(head: str, tmp_path: Path, how: str) -> None:
    store = tmp_path / "store"
    first, client = submitter(head, store), jobs(head)
    wait(lambda: in_the_middle(store), "the middle of the run", first)
    if how == "kill -9":
        found = driver(store)
        assert found
        found.kill()
    else:
        assert client.stop_job(job_of(client, store).submission_id)
    out, err = first.communicate(timeout=120)
    assert first.returncode == (137 if how == "kill -9" else 130), out + err
    last = err.splitlines()[-1]
    assert ("failed with exit code 137" if how == "kill -9" else "the same command goes on where it stood") in last
    wait(lambda: driver(store) is None, "the driver's end")
    time.sleep(2)  # tasks that were under way may still leave their part
    before = finished(store)
    again = job_cluster.trawl_submit(head, tmp_path, *words(store))
    assert again.returncode == 0, again.stdout + again.stderr
    assert_kept(before, store)
    assert_undisturbed(store, tmp_path)


def test_an_interrupted_submitter_leaves_the_job_and_a_second_one_is_refused(head: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first, client = submitter(head, store), jobs(head)
    wait(lambda: any(store.glob("users/*/_manifest.json")), "the first table", first)
    os.killpg(first.pid, signal.SIGINT)  # as Ctrl-C does
    out, err = first.communicate(timeout=60)
    job = job_of(client, store)
    assert first.returncode == 130, out + err
    assert f"job {job.submission_id} goes on: follow it with `ray job logs -f" in err
    second = job_cluster.trawl_submit(head, tmp_path, *words(store))
    assert second.returncode == 2, second.stdout + second.stderr
    assert f"job {job.submission_id} of run 'r'" in second.stderr.splitlines()[-1]
    wait(lambda: _over(client, job.submission_id), "the job's end")
    assert client.get_job_info(job.submission_id).status == "SUCCEEDED"
    assert json.loads((store / "runs" / "r" / "run.json").read_text())["state"] == "done"
