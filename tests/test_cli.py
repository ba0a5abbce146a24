"""The front doors: what they print, where, and the exit codes of wrong calls (each one line, no traceback)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import small

from trawl import cli, printing
from trawl.runs import Run
from trawl.store import Store


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(words)
    out, err = capsys.readouterr()
    return code, out, err


def recipe(path: Path, *more: str) -> str:
    """The small world as a recipe file."""
    pairs = [setting.split("=", 1) for setting in (*small.SETTINGS, *more)]
    file = path / "small.toml"
    plain = [value if value == "true" or value[0] in "0123456789[" else repr(value) for _, value in pairs]
    file.write_text("".join(f"{key} = {value}\n" for (key, _), value in zip(pairs, plain, strict=True)))
    return str(file)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str, str]:
    """(store, recipe, stdout, stderr) of a run by a fresh process."""
    folder = tmp_path_factory.mktemp("cli")
    words = [recipe(folder), "--store", str(folder / "store"), "--name", "r"]
    done = subprocess.run(
        [sys.executable, "-m", "trawl.cli", "run", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return str(folder / "store"), words[0], done.stdout, done.stderr


def test_run_ends_with_the_report(ran: tuple[str, str, str, str]) -> None:
    store, _, out, err = ran
    last = out.splitlines()[-1]
    assert last.startswith("report: ")
    page = Path(last.removeprefix("report: "))
    assert page == Path(store) / "runs" / "r" / "report.html"
    assert "</html>" in page.read_text()
    assert "test AUC" in out and "Traceback" not in err
    stages = [line.split()[0] for line in err.splitlines()]
    assert {"users", "knowledge", "item_answers", "item_positives", "model", "predictions"} <= set(stages)


def test_run_again_makes_nothing(ran: tuple[str, str, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "run", ran[1], "--store", ran[0], "--name", "r")
    assert code == 0 and out.splitlines()[-1].startswith("report: ")
    lines = [line for line in err.splitlines() if line.split()[0] in ("users", "log", "item_answers")]
    assert len(lines) == 3 and all(" ready" in line for line in lines)


def test_json_is_nothing_but_json(ran: tuple[str, str, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["status", "r"], ["result", "r"], ["why", "r", "r"]):
        code, out, _ = call(capsys, *words, "--store", ran[0], "--json")
        assert code == 0
        json.loads(out)
    code, out, _ = call(capsys, "show", f"{ran[0]}/runs/r", "item_answers", "--limit", "3", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(rows) == 3 and all("item_id" in row and "status" in row for row in rows)


def test_for_people(ran: tuple[str, str, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "published" in call(capsys, "status", "r", "--store", ran[0])[1]
    assert "dAUC" in call(capsys, "result", "r", "--store", ran[0])[1]
    assert "no difference" in call(capsys, "why", "r", "r", "--store", ran[0])[1]
    assert "user_id=" in call(capsys, "show", "r", "users", "--store", ran[0])[1]
    assert "training.lr = " in call(capsys, "keys")[1]
    listed = call(capsys, "keys", "ml1m")
    assert listed[0] == 0, "what a recipe leaves to be set is no fault here"
    assert 'data.source = "movielens"  # one of synthetic, movielens' in listed[1]
    assert "data.like_above = 3.0  # label = rating > like_above" in listed[1]
    assert "would" not in call(capsys, "gc", "--keep-runs", "5", "--dry-run", "--store", ran[0])[2]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "no-such-recipe"], "no recipe 'no-such-recipe'"),
        (["run", "demo", "--set", "trainig.lr=1"], "did you mean training.lr?"),
        (["run", "demo", "--set", "training.lr=fast"], "training.lr"),
        (["run", "demo", "--name", "../x"], "--name"),
        (["run", "demo", "--until", "nothing"], "no such stage or room"),
        (["run", "ml1m"], "data.path is needed"),
        (["run", "ml1m", "--set", "data.path=/nowhere"], "/nowhere"),
        (["status", "nobody"], "no run 'nobody'"),
        (["runs", "--store", "/nowhere"], "no runs in /nowhere"),
        (["gc", "--keep-runs", "-1"], "must not be negative"),
        (["run", "demo", "--store", "ftq://x/y"], "not a URI"),
        (["link", "--titles", "/no.csv", "--entities", "/no.csv", "--out", "o.csv"], "/no.csv"),
        (
            [
                "swing",
                "--interactions",
                "/no.csv",
                "--user-column",
                "u",
                "--item-column",
                "i",
                "--side",
                "user",
                "--out",
                "o.csv",
            ],
            "/no.csv",
        ),
    ],
)
def test_asked_wrongly(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *words)
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.strip().splitlines()) == 1 and "Traceback" not in err
    assert not list(tmp_path.rglob("*_manifest.json"))


def test_a_name_taken_by_another_recipe(ran: tuple[str, str, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "run", ran[1], "--store", ran[0], "--name", "r", "--set", "swing.top_k=2")
    assert code == 2 and "swing.top_k: 3 there, 2 here" in err


def test_a_broken_table_is_exit_1_and_a_traceback_only_on_demand(
    ran: tuple[str, str, str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = small.copy_store(Store(ran[0]), tmp_path / "store", "model", "predictions")
    mark = Run(store, "r").read("run.json")["artifacts"]["log"]["fingerprint"]
    Path(store.path("log", mark, "part-00000.parquet")).unlink()
    words = ["run", ran[1], "--store", store.root, "--name", "r"]
    code, _, err = call(capsys, *words)
    assert code == 1 and "part-00000.parquet: missing" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert "Traceback" in call(capsys, *words, "--traceback")[2]


def test_unknown_command_is_exit_2() -> None:
    done = subprocess.run([sys.executable, "-m", "trawl.cli", "nonsense"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_a_reader_that_leaves_is_no_error(ran: tuple[str, str, str, str]) -> None:
    command = f"{sys.executable} -m trawl.cli show r log --limit 100000 --json --store {ran[0]} | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.stdout.count("\n") == 1 and done.stderr == ""


def test_link_and_swing_by_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "titles.csv").write_text('id,title\na,"Visitors, The (1993)"\nb,Nothing of the kind (1950)\n')
    (tmp_path / "entities.csv").write_text("entity_id,label,year\nQ1,The Visitors,1993\nQ2,Something else,1990\n")
    out = tmp_path / "links.csv"
    words = ["--titles", str(tmp_path / "titles.csv"), "--entities", str(tmp_path / "entities.csv"), "--out", str(out)]
    code, text, _ = call(capsys, "link", *words, "--json")
    assert code == 0 and json.loads(text)
    lines = out.read_text().splitlines()
    assert lines[0] == "id,rank,entity_id,similarity,method"
    assert lines[1].startswith("a,0,Q1,1") and lines[2].endswith(",none")
    (tmp_path / "log.csv").write_text("u,i\n" + "\n".join(f"{u},{i}" for u in "abc" for i in "xyz"))
    words = ["--interactions", str(tmp_path / "log.csv"), "--user-column", "u", "--item-column", "i"]
    code, _, _ = call(capsys, "swing", *words, "--side", "user", "--top-k", "1", "--out", str(tmp_path / "s.csv"))
    assert code == 0
    rows = (tmp_path / "s.csv").read_text().splitlines()
    assert rows[0] == "anchor,rank,partner,score,shared"
    assert [r.split(",")[:3] for r in rows[1:]] == [["a", "0", "b"], ["b", "0", "a"], ["c", "0", "a"]]


def test_link_and_swing_tell_people_in_words_and_warn_beside(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("log.csv").write_text("u,i\na,x\nb,x\n")
    words = ["swing", "--interactions", "log.csv", "--user-column", "u", "--item-column", "i", "--side", "user"]
    code, out, err = call(capsys, *words, "--out", "s.csv")
    assert (code, err) == (0, "") and "anchors have a positive" in out and "warning" not in out
    Path("log.csv").write_text("u,i\n")
    code, out, err = call(capsys, *words, "--out", "s.csv", "--json")
    assert code == 0 and json.loads(out)["rows"] == 0 and err == f"trawl: {json.loads(out)['warning']}\n"
    Path("t.csv").write_text("item_id,title\n")
    Path("e.csv").write_text("entity_id,label\nQ1,Heat\n")
    code, out, err = call(capsys, "link", "--titles", "t.csv", "--entities", "e.csv", "--out", "o.csv")
    assert code == 0 and "coverage: -" in out and "None" not in out
    assert err == "trawl: t.csv has no rows: nothing was linked\n"


def test_help_names_the_columns_of_link(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["link", "--help"])
    said = capsys.readouterr().out
    for name in ("item_id", "title", "year", "entity_id", "label", "accepted_entity_ids", "similarity"):
        assert name in said


def test_status_names_the_cells_of_each_artifact() -> None:
    cells = ["a/0", "b/0", "a/1", "b/1"]
    made = {
        "users": cells,
        "model": ["a/0", "a/1", "b/1"],
        "log": ["b/0"],
        "splits": ["a/1", "b/1"],
        "x": ["b/0", "b/1"],
    }
    rows = [{"artifact": name, "fingerprint": "f", "state": "missing", "cells": some} for name, some in made.items()]
    status = {"name": "r", "state": "done", "created": "now", "cells": {"finished": 0, "all": 4}, "artifacts": rows}
    want = ["all", "a/0, a/1, b/1", "b/0", "repetition 1", "b"]
    lines = [line.split("  ") for line in printing.status_table(status).splitlines()[3:]]
    assert [[word.strip() for word in line if word.strip()][1] for line in lines] == want


@pytest.mark.parametrize("module", ["jobs.encode", "jobs.pipeline"])
def test_the_help_of_a_job_names_the_job(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"usage: python -m {module} ")
