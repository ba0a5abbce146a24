"""A study on the shared cluster: what it leaves, what it shares, how it goes on, how it fails, and its page."""

import io
import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import small

from trawl import executors
from trawl.recipes import load
from trawl.runs import Run
from trawl.store import Store
from tune import contrastive, points, searching
from tune.book import Book

SETTINGS = (
    *(s for s in small.SETTINGS if not s.startswith("name")),
    "training.epochs=2",
    "resources.parallel_cells=2",
    "search.w_user=[0.001]",
    "search.w_item=[]",
    "search.temperature=[0.15, 0.3]",
)
RANDOM = (
    "search.method=random",
    "search.w_user=[0.001, 1.0]",
    "search.trials=6",
    "search.reduction=2",
    "training.epochs=3",
    "resources.parallel_cells=1",
)
NAMES = ["baseline", "base", "w_user=0.001", "temperature=0.3"]


@dataclass
class Ended:
    code: int
    out: str
    err: str


def study(folder: Path, *settings: str, name: str = "s") -> Ended:
    """`python -m tune.contrastive` in this process."""
    recipe = folder / "odd.toml"
    recipe.write_text('name = "<script>alert(1)</script>"\n', encoding="utf-8")
    words = [word for s in (*SETTINGS, *settings) for word in ("--set", s)]
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = contrastive.main([str(recipe), "--store", str(folder / "store"), "--name", name, *words])
    return Ended(code, out.getvalue(), err.getvalue())


def opened(folder: Path, name: str = "s") -> Run:
    return Run(Store(str(folder / "store")), name)


def trials(folder: Path, name: str = "s") -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in opened(folder, name).read("trials.json")["trials"]}


def manifests(folder: Path) -> dict[str, int]:
    """When each published artifact was published."""
    root = folder / "store"
    return {str(p.parent.relative_to(root)): p.stat().st_mtime_ns for p in root.glob("*/*/_manifest.json")}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Iterator[tuple[Path, Ended]]:
    folder = tmp_path_factory.mktemp("study")
    ended = study(folder)
    assert ended.code == 0, ended.err
    yield folder, ended


@pytest.fixture
def copy(done: tuple[Path, Ended], tmp_path: Path) -> Path:
    """The finished study, to be damaged."""
    shutil.copytree(done[0] / "store", tmp_path / "store")
    return tmp_path


def unfinished(folder: Path) -> None:
    opened(folder).state("running")


def test_every_point_is_trained_and_only_the_best_and_the_baseline_are_tested(done: tuple[Path, Ended]) -> None:
    folder, ended = done
    found = trials(folder)
    assert list(found) == NAMES
    assert all(row["state"] == "finished" and len(row["epochs"]) == 2 for row in found.values())
    rows = opened(folder).results()
    assert [row["arm"] for row in rows] == ["baseline", "best"]
    searched = {name: max(e["validation"]["auc"] for e in row["epochs"]) for name, row in found.items()}
    best = max(NAMES[1:], key=lambda name: searched[name])
    assert [row["model"] for row in rows] == [found["baseline"]["model"], found[best]["model"]]
    for row, name in zip(rows, ("baseline", best), strict=True):
        assert row["validation"]["auc"] == pytest.approx(searched[name], abs=1e-9)
        assert row["test"]["rows"] > 0
    assert len(list((folder / "store" / "predictions").iterdir())) == 2
    assert ended.out.splitlines()[-1] == f"study: {folder / 'store/runs/s/study.html'}"
    assert all(name in ended.out for name in NAMES)
    assert "\x1b" not in ended.err and "Trial" not in ended.err and "ray" not in ended.out


def test_trials_make_no_table_upstream(done: tuple[Path, Ended]) -> None:
    made = manifests(done[0])
    models = [time for name, time in made.items() if name.startswith("model/")]
    upstream = {n: t for n, t in made.items() if not n.startswith(("model/", "predictions/"))}
    assert len(models) == 4
    assert len({name.split("/")[0] for name in upstream}) == len(upstream), "each table is there once"
    assert max(upstream.values()) < min(models)


def test_a_finished_study_prints_its_result_at_once(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = study(copy)
    before = manifests(copy)
    record = opened(copy).read("run.json")
    monkeypatch.setattr(searching, "search", None)
    monkeypatch.setattr(executors, "executor", None)
    again = study(copy)
    assert (again.code, again.out, again.err) == (0, first.out, "")
    assert manifests(copy) == before
    assert opened(copy).read("run.json") == record, "what `trawl gc` keeps is still named"
    assert {"best", "baseline"} <= {cell["arm"] for cell in record["cells"]}


def test_a_study_goes_on_with_what_is_missing(copy: Path) -> None:
    before, rows = manifests(copy), trials(copy)
    gone = f"model/{rows['temperature=0.3']['model']}"
    shutil.rmtree(copy / "store" / gone)
    unfinished(copy)
    assert study(copy).code == 0
    after = manifests(copy)
    assert after.keys() == before.keys() and {n for n in after if after[n] != before[n]} == {gone}
    again = trials(copy)["temperature=0.3"]
    for one, two in zip(rows["temperature=0.3"]["epochs"], again["epochs"], strict=True):
        assert one["validation"] == two["validation"]


def test_models_that_the_book_does_not_know_are_found_by_fingerprint(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = trials(copy)
    opened(copy).store.remove("runs", "s", "trials.json")
    unfinished(copy)
    monkeypatch.setattr(searching, "search", None)
    assert study(copy).code == 0
    assert trials(copy) == rows


def test_best_toml_runs_and_shares_every_table(copy: Path) -> None:
    from trawl.cli import main

    before = manifests(copy)
    path = copy / "store" / "runs" / "s" / "best.toml"
    assert load(str(path)).experiment.reference == "baseline"
    assert main(["run", str(path), "--store", str(copy / "store"), "--name", "best", "--until", "predictions"]) == 0
    assert manifests(copy) == before
    results = [{k: v for k, v in row.items() if k != "seconds"} for row in opened(copy, "best").results()]
    assert results == [{k: v for k, v in row.items() if k != "seconds"} for row in opened(copy).results()]


def test_trials_that_fail_end_the_study_with_a_reason_and_are_tried_again(copy: Path) -> None:
    unfinished(copy)
    store = copy / "store"
    for row in trials(copy).values():
        shutil.rmtree(store / "model" / row["model"])
    (part,) = (store / "user_positives").glob("*/part-00000.parquet")
    kept = part.read_bytes()
    part.unlink()
    ended = study(copy)
    assert ended.code == 1 and ended.out == ""
    last = ended.err.splitlines()[-1]
    assert re.search(r"study s: 3 of 4 trials failed, first base/0: .*part-00000\.parquet: missing", last)
    assert {name: row["state"] for name, row in trials(copy).items()} == dict.fromkeys(NAMES, "failed") | {
        "baseline": "finished"
    }
    assert opened(copy).read("run.json")["state"] == "failed"
    assert "3 failed" in (store / "runs/s/study.html").read_text(encoding="utf-8")
    part.write_bytes(kept)
    assert study(copy).code == 0
    assert all(row["state"] == "finished" for row in trials(copy).values())


def test_halving_stops_trials_that_leave_nothing_and_never_the_baseline(copy: Path) -> None:
    ended = study(copy, *RANDOM, name="random")
    assert ended.code == 0, ended.err
    found = trials(copy, "random")
    states = {name: row["state"] for name, row in found.items()}
    stopped = [row for row in found.values() if row["state"] == "stopped"]
    assert states["baseline"] == "finished" and len(found["baseline"]["epochs"]) == 3
    assert stopped and "finished" in [states[name] for name in states if name != "baseline"]
    assert set(states.values()) == {"stopped", "finished"}
    for row in stopped:
        assert 1 <= len(row["epochs"]) < 3
        assert not (copy / "store" / "model" / row["model"]).exists()
    assert not list(Path(sys.modules["trawl.inputs"].node_folder()).glob("tune-*")), "Tune's own files are gone"
    before = manifests(copy)
    opened(copy, "random").state("running")
    again = study(copy, *RANDOM, name="random")
    assert again.code == 0 and manifests(copy) == before, "what was stopped is not begun again"
    assert trials(copy, "random") == found


def test_optuna_goes_on_from_the_book_with_as_many_trials_as_were_asked_for(copy: Path) -> None:
    settings = [*RANDOM, "search.method=optuna", "search.grace_epochs=0", "search.trials=4"]
    assert study(copy, *settings, name="o").code == 0
    found = trials(copy, "o")
    assert list(found) == ["baseline", *(points.numbered(n) for n in (1, 2, 3, 4))]
    book = opened(copy, "o").read("trials.json")
    shutil.rmtree(copy / "store" / "model" / found["trial-002"]["model"])
    left = [row for row in book["trials"] if row["name"] != "trial-004"]
    opened(copy, "o").write("trials.json", {"trials": left})
    opened(copy, "o").state("running")
    before = manifests(copy)
    assert study(copy, *settings, name="o").code == 0
    again = trials(copy, "o")
    assert {n: r["values"] for n, r in again.items() if n != "trial-004"} == {
        n: r["values"] for n, r in found.items() if n != "trial-004"
    }
    assert again.keys() == found.keys() and all(row["state"] == "finished" for row in again.values())
    values = [tuple(row["values"].values()) for row in again.values()]
    assert len(set(values)) == 5, "a session does not propose what the one before proposed"
    kept = [f"model/{found[name]['model']}" for name in ("baseline", "trial-001", "trial-003")]
    assert all(manifests(copy)[name] == before[name] for name in kept)


def test_the_page_is_whole_and_escaped(done: tuple[Path, Ended]) -> None:
    html = (done[0] / "store/runs/s/study.html").read_text(encoding="utf-8")
    assert "<script" not in html and "&lt;script&gt;alert(1)" in html
    elsewhere = r"""(?:src|href|srcset)="(?!data:|#|\.\./index\.html")"""
    assert not re.search(elsewhere, html), "nothing is loaded from elsewhere"
    index = (done[0] / "store/runs/index.html").read_text(encoding="utf-8")
    assert '<a href="./s/study.html">s</a>' in index and "study of" in index
    assert html.count("<figure>") == 2, "one picture per axis that is searched"
    assert 'alt="Validation AUC against w₁ (users). 0.001: 0.' in html and "Baseline: 0." in html
    for name in NAMES:
        assert f'<th scope="row">{name}</th>' in html
    tested = html[html.index('aria-label="Test metrics"') : html.index('id="curves"')]
    assert re.findall(r'<th scope="row">(\w+)', tested) == ["best", "baseline", "difference"]


def test_a_book_that_is_none_is_refused(copy: Path) -> None:
    opened(copy).write("trials.json", {"trials": [{"nonsense": 1}]})
    ended = study(copy)
    assert ended.code == 1 and "trials.json: not the trials of a study" in ended.err


def test_the_book_is_plain_json(done: tuple[Path, Ended]) -> None:
    text = (done[0] / "store/runs/s/trials.json").read_text(encoding="utf-8")
    assert json.loads(text)["trials"][0]["name"] == "baseline"
    assert len(Book(opened(done[0])).trials) == 4
    assert not [p for p in (done[0] / "store").rglob("*") if p.suffix in (".pkl", ".pickle")]
