"""`trawl submit` up to the cluster: what it refuses, what it packs, the command it prints. No cluster here."""

import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import job_cluster
import pytest

from trawl import cli, recipes, submit, working_dir
from trawl.errors import AskedWrongly, ConfigError, EngineDied, Failed, InputError
from trawl.submit import Request, Submission

ADDRESS = "http://127.0.0.1:8265"


def request(recipe: str = "demo", **more: Any) -> Request:
    return Request(**{"recipe": recipe, "address": ADDRESS, "store": "s3://bucket/store"} | more)


def prepared(folder: Path, **more: Any) -> Submission:
    return submit.prepare(request(**more), folder)


def test_printed_command_can_be_pasted_and_means_the_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.chdir(job_cluster.ROOT)
    words = ["--store", "/shared/my store", "--name", "first", "--set", "data.split_seed=1", "--until", "encoding"]
    assert cli.main(["submit", "demo", *words, "--address", f"{ADDRESS}/", "--env", "A=b c", "--print"]) == 0
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    mode, *found = shlex.split(line)
    assert mode == "RAY_AUTH_MODE=disabled"
    assert found[:5] == ["ray", "job", "submit", "--address", ADDRESS]
    options, job = found[: found.index("--")], found[found.index("--") + 1 :]
    assert job[:4] == ["python", "-m", "jobs.pipeline", "demo"]
    args = cli._parser().parse_args(["run", *job[3:]])
    assert (args.store, args.name, args.set, args.until) == (
        "/shared/my store",
        "first",
        ["data.split_seed=1"],
        "encoding",
    )
    assert json.loads(options[options.index("--runtime-env-json") + 1]) == {"env_vars": {"A": "b c"}}
    assert options[options.index("--submission-id") + 1].startswith("trawl-pipeline-first-")
    assert options[options.index("--working-dir") + 1] == ".", "the clone itself: nothing is left in /tmp"


def test_a_printed_command_leaves_no_folder_unless_it_must_and_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(submit.tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "mine.toml").write_text('extends = "demo"\n')

    def printed(recipe: str, *more: str) -> tuple[list[str], str]:
        words = ["submit", recipe, "--address", ADDRESS, "--store", "s3://b/s", "--print", *more]
        assert cli.main(words) == 0
        out, err = capsys.readouterr()
        return shlex.split(out), err

    def sent(words: list[str]) -> Path:
        return Path(words[words.index("--working-dir") + 1])

    monkeypatch.chdir(job_cluster.ROOT)
    words, said = printed("jobs/recipes/demo.toml")
    assert sent(words) == Path() and "jobs/recipes/demo.toml" in words and "run it from here" in said
    monkeypatch.chdir(tmp_path)
    assert sent(printed("demo")[0]) == job_cluster.ROOT
    assert "--working-dir" not in printed("demo", "--installed")[0]
    assert list((tmp_path / "temporary").iterdir()) == []
    words, said = printed("mine.toml")  # outside the clone: it must be taken along
    assert (sent(words) / "recipe" / "mine.toml").is_file() and (sent(words) / "trawl" / "cli.py").is_file()
    assert f"sends {sent(words)}; remove that folder when the job is sent" in said
    monkeypatch.setattr(working_dir, "clone", lambda recipe: None)  # as for an installed package
    assert sent(printed("demo")[0]).parent == tmp_path / "temporary"


def test_the_code_alone_travels(tmp_path: Path) -> None:
    prepared(tmp_path)
    (tmp_path.parent / "beside").mkdir()
    archive = working_dir.packed(tmp_path, tmp_path.parent / "beside")
    assert 100_000 < archive.stat().st_size < job_cluster.LIMIT
    assert {p.name for p in tmp_path.iterdir()} <= set(working_dir.PACKAGES)
    for package in ("trawl", "jobs"):
        sent = {p.relative_to(tmp_path) for p in (tmp_path / package).rglob("*") if p.is_file()}
        there = {
            p.relative_to(job_cluster.ROOT)
            for p in (job_cluster.ROOT / package).rglob("*")
            if p.is_file() and "__pycache__" not in p.parts and not p.name.startswith(".")
        }
        assert sent == there


def test_a_recipe_travels_with_what_it_extends_and_means_the_same(tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    (tmp_path / "base.toml").write_text('# ours\nextends = "demo"  # the world\n[training]\nlr = 0.5\nepochs = 7\n')
    (tmp_path / "team" / "mine.toml").write_text(f'extends = "{tmp_path}/base.toml"\n[training]\nepochs = 2\n')
    mine, folder = str(tmp_path / "team" / "mine.toml"), tmp_path / "sent"
    sent = prepared(folder, recipe=mine)
    named = sent.entrypoint[3]
    assert named == "recipe/mine.toml"
    (tmp_path / "base.toml").unlink()
    found = recipes.load(str(folder / named))
    assert (found.name, found.training.lr, found.training.epochs) == ("mine", 0.5, 2)
    assert found.experiment == recipes.load("demo").experiment
    assert sent.run == "mine"


def test_with_trawl_on_the_image_only_the_recipe_travels(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('extends = "demo"\n')
    sent = prepared(tmp_path / "one", recipe=str(tmp_path / "mine.toml"), code=False)
    assert [p.name for p in (tmp_path / "one").rglob("*") if p.is_file()] == ["mine.toml"]
    assert "--working-dir" in sent.command()
    assert "--working-dir" not in prepared(tmp_path / "two", code=False).command()


def test_every_script_can_be_named(tmp_path: Path) -> None:
    scripts = working_dir.scripts()
    assert scripts.items() >= {"data": "jobs.data", "export": "jobs.export", "pipeline": "jobs.pipeline"}.items()
    for number, (name, module) in enumerate(scripts.items()):
        words = prepared(tmp_path / str(number), job=name, code=False, more=("--x", "1")).command()
        assert words[words.index("--") + 1 :][:3] == ["python", "-m", module]
        assert words[-2:] == ["--x", "1"]


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"store": "out/store"}, AskedWrongly, "--store out/store: a job runs elsewhere; give a URI"),
        ({"store": "~/store"}, AskedWrongly, "absolute path that all nodes see"),
        ({"address": ""}, AskedWrongly, "http://HEAD:8265"),
        ({"address": "ray://head:10001"}, AskedWrongly, "the dashboard's address"),
        ({"job": "extarct"}, AskedWrongly, "no job 'extarct': one of data, encode"),
        ({"name": "a/b"}, ConfigError, "--name 'a/b'"),
        ({"env": ("TOKEN",)}, AskedWrongly, "--env 'TOKEN': write it as NAME=VALUE"),
        ({"settings": ("trainig.lr=1",)}, ConfigError, "did you mean training.lr?"),
        ({"settings": ("linking.entities=films.parquet",)}, InputError, "linking.entities = films.parquet: a job runs"),
        (
            {"settings": ('experiment.arms={a={extraction={source="given",given="g.parquet"}}}',)},
            InputError,
            "experiment.arms.a.extraction.given = g.parquet",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(
    tmp_path: Path, wrong: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error) as caught:
        submit.prepare(request(**wrong), tmp_path / "sent")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sent").exists()


@pytest.mark.parametrize("setting", ["http.api_key_env=MY_KEY", "experiment.arms.a.http.api_key_env=MY_KEY"])
def test_a_key_does_not_travel_in_a_jobs_description(tmp_path: Path, setting: str) -> None:
    with pytest.raises(AskedWrongly, match=r"--env MY_KEY: .*on the cluster's nodes") as caught:
        prepared(tmp_path, settings=[setting], env=["MY_KEY=planted-key"])
    assert "planted-key" not in str(caught.value)


def test_a_model_is_a_name_of_the_hub_unless_a_folder_here_bears_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ("encoding.model=team/encoder",)
    prepared(tmp_path / "one", settings=settings, code=False)
    (tmp_path / "team" / "encoder").mkdir(parents=True)
    with pytest.raises(InputError, match=r"encoding\.model = team/encoder"):
        prepared(tmp_path / "two", settings=settings)


def test_nobody_at_the_address_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    port = job_cluster.free_ports(1)[0]
    words = ["--address", f"http://127.0.0.1:{port}", "--store", "/tmp/store"]
    assert cli.main(["submit", "demo", *words]) == EngineDied.exit_code == 1
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("trawl: ")] == said[-1:]
    assert f"http://127.0.0.1:{port}: no Ray dashboard that takes jobs" in said[-1]


@pytest.mark.parametrize(
    ("environment", "mode"),
    [
        ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "x"}, "disabled"),
        ({"RAY_AUTH_TOKEN": "x"}, "token"),
        ({"RAY_AUTH_TOKEN_PATH": "/x"}, "token"),
        ({}, "disabled"),
    ],
)
def test_a_token_is_shown_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], mode: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert submit.auth_mode() == mode
    if not environment:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").touch()
        assert submit.auth_mode() == "token"


class Status(str):
    def is_terminal(self) -> bool:
        return self not in ("PENDING", "RUNNING")


class Client:
    """Answers as Ray's dashboard does."""

    def __init__(self, status: str = "SUCCEEDED", code: int | None = 0, message: str = "", **metadata: str) -> None:
        self.job = SimpleNamespace(
            submission_id="id", status=Status(status), driver_exit_code=code, message=message, metadata=metadata
        )

    def list_jobs(self) -> list[Any]:
        return [self.job]

    def get_job_info(self, job: str) -> Any:
        if job != "id":
            raise RuntimeError("Request failed with status code 404")
        return self.job


SENT = Submission(address=ADDRESS, run="r", store="/s", entrypoint=("python",), folder=None, id="id")
LOG = "failed with exit code 2, last available logs:\ntrawl: data.path: no such key\n  \nlater noise\n"


@pytest.mark.parametrize(
    ("client", "code", "says"),
    [
        (Client(), 0, ""),
        (Client("FAILED", 2, LOG), 2, "failed with exit code 2: data.path: no such key"),
        (Client("FAILED", -9, "no more"), 137, "failed with exit code 137: no more"),
        (Client("FAILED", None), 1, "no word in its log"),
        (Client("STOPPED", None), 130, "the same command goes on where it stood"),
    ],
)
def test_exit_code_and_last_line_are_the_jobs_own(
    client: Client, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit._ended(client, SENT, 0 if client.job.status == "SUCCEEDED" else 1) == code
    assert says in capsys.readouterr().err


def test_a_job_that_is_lost_from_sight_or_was_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failed, match=f"ray job logs -f --address {ADDRESS} id"):
        submit._ended(Client("RUNNING", None), SENT, 1)
    with pytest.raises(Failed, match="was not taken"):
        submit._ended(Client(), Submission(**vars(SENT) | {"id": "other"}), 1)


@pytest.mark.parametrize(("status", "refused"), [("RUNNING", True), ("PENDING", True), ("FAILED", False)])
def test_a_run_has_one_job_at_a_time(monkeypatch: pytest.MonkeyPatch, status: str, refused: bool) -> None:
    called: list[Any] = []
    monkeypatch.setattr(submit, "_client", lambda address: Client(status, 1, "x", trawl_run="r", trawl_store="/s"))
    monkeypatch.setattr(
        submit.subprocess, "run", lambda words, check: called.append(words) or SimpleNamespace(returncode=1)
    )
    if refused:
        with pytest.raises(AskedWrongly, match=f"job id of run 'r' in /s is {status.lower()}; follow it with"):
            submit.send(SENT)
    else:
        assert submit.send(SENT) == 1
    assert bool(called) != refused


def test_an_interrupted_submitter_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(words: list[str], check: bool) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(submit, "_client", lambda address: Client("SUCCEEDED"))
    monkeypatch.setattr(submit.subprocess, "run", interrupted)
    assert submit.send(SENT) == 130
    assert f"job id goes on: follow it with `ray job logs -f --address {ADDRESS} id`" in capsys.readouterr().err
    assert submit.send(Submission(**vars(SENT) | {"id": "never sent"})) == 130
    assert "nothing runs" in capsys.readouterr().err
