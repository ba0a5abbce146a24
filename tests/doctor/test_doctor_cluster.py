"""Clusters that are too small, named by the key that asks for too much; one row by the engine; checks apart."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trawl import cli
from trawl.config import Config
from trawl.doctor import child, cluster, front
from trawl.doctor.findings import Finding, Patient
from trawl.doctor.front import Check

GIB = 2.0**30
NODE = {"CPU": 4.0, "memory": 16 * GIB}


def faults(*settings: str, nodes: list[dict[str, float]]) -> list[Finding]:
    cfg = Config().override(*settings)
    return [fault for need in cluster.needs(cfg, nodes) for fault in cluster.held(need, nodes)]


VLLM = ("extraction.engine=vllm", "extraction.model=/m")


def test_a_cluster_that_is_large_enough() -> None:
    assert faults(nodes=[NODE]) == []
    assert faults(*VLLM, "resources.engines=2", nodes=[{**NODE, "GPU": 2.0}]) == []
    assert faults(*VLLM, "resources.engines=2", "resources.tensor_parallel=2", nodes=[{**NODE, "GPU": 2.0}] * 2) == []


@pytest.mark.parametrize(
    ("settings", "node", "state", "words"),
    [
        ((*VLLM, "resources.engines=9"), NODE, "fail", "engines (resources.engines): 9 workers"),
        ((*VLLM, "resources.threads=8"), NODE, "fail", "no node takes a worker of 8 CPU"),
        ((*VLLM, "resources.tensor_parallel=2"), NODE, "fail", "no node takes a worker of 1 CPU and 1 GPU"),
        ((*VLLM, "resources.engines=3"), {**NODE, "GPU": 2.0}, "fail", "there is room for 2 workers"),
        ((*VLLM, "resources.cpu_cache_gib=64"), NODE, "fail", "GiB at once, the cluster has 16.0 GiB"),
        (("resources.encoder_gpus=1",), NODE, "fail", "encoding (resources.encoder_gpus): no node takes"),
        (("resources.training_workers=5",), NODE, "fail", "training (resources.training_workers): 5 workers"),
        (("resources.actors=9",), NODE, "warn", "actors (resources.actors): 9 workers of 1 CPU"),
        ((), {"CPU": 1.0}, "fail", "actors (resources.actors)"),
        ((), {"CPU": 0.0}, "fail", "no node takes a worker of 1 CPU"),
    ],
)
def test_what_a_cluster_lacks(settings: tuple[str, ...], node: dict[str, float], state: str, words: str) -> None:
    found = faults(*settings, nodes=[node])
    if settings == ("resources.actors=9",):
        assert {f.state for f in found} == {"warn"}
    assert any(f.state == state and words in f.what and f.todo for f in found), found


def test_a_cluster_of_this_process(ray_cluster: None, tmp_path: Path) -> None:
    patient = Patient((Config(),), str(tmp_path))
    found = list(cluster.reach(patient))
    assert {f.state for f in found} == {"ok"}, found
    assert "1 nodes" in found[0].what
    few = Patient((Config().override(*VLLM, "resources.engines=99"),), str(tmp_path))
    assert any(f.state == "fail" and "resources.engines" in f.what for f in cluster.reach(few))


def test_inline_needs_no_cluster(tmp_path: Path) -> None:
    (found,) = cluster.reach(Patient((Config().override("resources.executor=inline"),), str(tmp_path)))
    assert found.state == "skip"


def test_one_row_goes_through_the_engine_and_nothing_stays(tmp_path: Path) -> None:
    inline = Config().override("resources.executor=inline")
    (found,) = cluster.engine(Patient((inline, inline), str(tmp_path / "store")))
    assert found.state == "ok", found
    assert "comedy" in found.what
    assert not (tmp_path / "store").exists()
    (skipped,) = cluster.engine(Patient((inline.override("extraction.source=raw"),), str(tmp_path / "store")))
    assert skipped.state == "skip"


def test_an_engine_that_gives_no_good_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(self: object, requests: list[object]) -> list[object]:
        raise ValueError("weights of another shape")

    monkeypatch.setattr("trawl.extraction.engines.extractive.ExtractiveEngine.answer", answer)
    (found,) = cluster.engine(Patient((Config().override("resources.executor=inline"),), str(tmp_path)))
    assert (found.state, "weights of another shape" in found.what) == ("fail", True)


def test_an_engine_that_cannot_be_made(tmp_path: Path) -> None:
    (found,) = cluster.engine(Patient((Config().override("extraction.engine=vllm", "extraction.model=/no"),), "s"))
    assert (found.state, "no such folder" in found.what) == ("fail", True)


# Checks for the tests below, found by name in processes of their own.
def well(patient: Patient) -> Iterator[Finding]:
    print("noise of a library")
    yield Finding("well", "ok", patient.cfg.name)


def hangs(patient: Patient) -> Iterator[Finding]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
    yield Finding("hangs", "ok", "")


def crashes(patient: Patient) -> Iterator[Finding]:
    os.kill(os.getpid(), signal.SIGSEGV)
    yield Finding("crashes", "ok", "")


def raises(patient: Patient) -> Iterator[Finding]:
    yield Finding("raises", "ok", "")
    raise RuntimeError("a fault of the code")


def test_no_check_hides_or_holds_up_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "_GRACE", 1.0)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    here = Path(__file__).stem
    lanes = [
        [
            Check("crashes", f"{here}:crashes", 60),
            Check("raises", f"{here}:raises", 60),
            Check("well", f"{here}:well", 60),
        ],
        [Check("hangs", f"{here}:hangs", 5), Check("nowhere", "trawl.doctor.machine:nowhere", 60)],
    ]
    heard: list[Finding] = []
    found = front.examine(Patient((Config(),), str(tmp_path)), heard.append, lanes)
    assert [f.check for f in found] == ["crashes", "raises", "well", "hangs", "nowhere"]
    by_name = {f.check: f for f in found}
    assert "signal 11" in by_name["crashes"].what
    assert "a fault of the code" in by_name["raises"].what
    assert (by_name["well"].state, by_name["well"].what) == ("ok", "run")
    assert by_name["hangs"].what == "no answer within 5 s"
    assert "nowhere" in by_name["nowhere"].what
    assert sorted(f.check for f in heard) == sorted(by_name)
    assert front.tree(found)["ok"] is False
    assert all(f.todo in front.line(f) for f in found)


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = cli.main(["doctor", *words])
    return code, capsys.readouterr().out


def test_the_command_and_its_exit_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    light = tuple(c for c in front.LANES[0] if c.name in ("python", "store"))
    monkeypatch.setattr(front, "LANES", (light,))
    code, out = call(capsys, "demo", "--store", str(tmp_path / "s"), "--json")
    found = json.loads(out)
    assert (code, found["ok"], {c["check"] for c in found["checks"]}) == (0, True, {"python", "store"})
    (tmp_path / "file").touch()
    code, out = call(capsys, "--store", str(tmp_path / "file"))
    assert code == 1
    assert "fail  store" in out
    assert "-> give another --store" in out
    assert cli.main(["doctor", "--set", "nothing=1"]) == 2


def test_every_check_is_there() -> None:
    names = [check.name for lane in front.LANES for check in lane]
    assert len(names) == len(set(names)) == 11
    for lane in front.LANES:
        for check in lane:
            module, _, function = check.function.partition(":")
            assert callable(getattr(__import__(module, fromlist=[function]), function))
    assert child.run("trawl.doctor.files:inputs", Patient((Config(),), "s"))[0].check == "inputs"
    assert sys.executable
