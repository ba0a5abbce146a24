"""`trawl submit`: a recipe as a job of a Ray cluster, through the same `ray job submit` that a person would type.

The command is printed or run as it stands; what is added is what the command alone does not give: a recipe that is
checked before anything is sent, a working directory of just the code, one running job per run, and the job's own exit
code (Ray's is 1 for every failure). The job goes on when this process ends.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trawl import recipes, runs, working_dir
from trawl.config import Config, flat
from trawl.errors import AskedWrongly, ConfigError, EngineDied, Failed, InputError

_FILES = ("data.path", "linking.entities", "linking.truth", "extraction.given")  # raw inputs, by path
_MODELS = ("extraction.model", "extraction.tokenizer", "encoding.model")  # a path or a name of the hub
_STOPPED = 130  # exit code of what was interrupted
_ENV = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One job, ready to be sent."""

    address: str
    run: str
    store: str
    entrypoint: tuple[str, ...]
    folder: Path | None  # the working directory; None: all that the job needs is on the cluster's image
    env_vars: Mapping[str, str] = field(default_factory=dict)
    wait: bool = True
    id: str = ""

    @property
    def metadata(self) -> dict[str, str]:
        return {"trawl_run": self.run, "trawl_store": self.store}

    def command(self) -> list[str]:
        """The words of `ray job submit`."""
        words = ["ray", "job", "submit", "--address", self.address, "--submission-id", self.id]
        words += ["--metadata-json", json.dumps(self.metadata)]
        if self.folder:
            words += ["--working-dir", str(self.folder)]
        if self.env_vars:
            words += ["--runtime-env-json", json.dumps({"env_vars": dict(self.env_vars)})]
        return [*words, *([] if self.wait else ["--no-wait"]), "--", *self.entrypoint]

    def line(self) -> str:
        """The command for a shell, with the authentication it needs."""
        return f"RAY_AUTH_MODE={auth_mode()} {shlex.join(self.command())}"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a person asks for. `recipe`, `settings`, `store`, `name` are those of `trawl run`."""

    recipe: str
    address: str
    store: str
    settings: Sequence[str] = ()
    job: str = "pipeline"  # a script of jobs/ or tune.NAME
    name: str = ""
    more: Sequence[str] = ()  # further words for the job
    env: Sequence[str] = ()  # NAME=VALUE for the job and its workers
    code: bool = True  # False: the cluster's image has trawl, only the recipe's own files travel
    wait: bool = True


def prepare(asked: Request, folder: Path | None = None) -> Submission:
    """Check the request as far as this machine can and fill `folder` with what the job takes along.

    Without a folder, for a command that is printed, the code's own clone is what travels; where there is none, or the
    recipe lies outside it, a new folder is made that stays. Raises AskedWrongly.
    """
    module = _module(asked.job)
    if not re.match(r"https?://[^/\s]", asked.address):
        raise AskedWrongly(f"--address {asked.address!r}: give the dashboard's address, http://HEAD:8265")
    cfg = recipes.load(asked.recipe, asked.settings)
    search = asked.job.partition("tune.")[2]
    run = asked.name or (f"{cfg.name}-{search}" if search else cfg.name)
    runs.check_name(run)
    _check_store(asked.store)
    _check_paths(cfg)
    pairs = _pairs(asked.env)
    _check_key(cfg, pairs)
    taken, recipe = _taken(asked, folder)
    words = ["python", "-m", module, recipe, "--store", asked.store, "--name", run]
    for setting in asked.settings:
        words += ["--set", setting]
    return Submission(
        address=asked.address.rstrip("/"),
        run=run,
        store=asked.store,
        entrypoint=(*words, *asked.more),
        folder=taken,
        env_vars=pairs,
        wait=asked.wait,
        id=f"trawl-{asked.job}-{run}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}",
    )


def _taken(asked: Request, folder: Path | None) -> tuple[Path | None, str]:
    """The working directory, and the recipe as the job is to name it there."""
    if not (asked.code or recipes.files(asked.recipe)):
        return None, asked.recipe
    here = working_dir.clone(asked.recipe) if asked.code and folder is None else None
    if here is not None:
        return here
    folder = folder or Path(tempfile.mkdtemp(prefix="trawl-submit-"))
    return folder, working_dir.fill(folder, asked.recipe, asked.code)


def folder_note(submission: Submission) -> str:
    """What a printed command depends on, in words; empty where it needs nothing of this machine."""
    if submission.folder is None:
        return ""
    if submission.folder == Path():
        return "the command sends this folder, the clone: run it from here"
    made = submission.folder.name.startswith("trawl-submit-")
    return f"the command sends {submission.folder}" + ("; remove that folder when the job is sent" if made else "")


def send(submission: Submission) -> int:
    """Run the command, follow the job's log on stdout; returns the job's exit code, 130 when it was interrupted.

    Raises AskedWrongly when a job of this run is still going, Failed and EngineDied when the job cannot be sent.
    """
    os.environ |= {key: os.environ.get(key, value) for key, value in {**_ENV, "RAY_AUTH_MODE": auth_mode()}.items()}
    client = _client(submission.address)
    for job in _jobs(client):
        if not job.status.is_terminal() and (job.metadata or {}) | submission.metadata == (job.metadata or {}):
            raise AskedWrongly(
                f"job {job.submission_id} of run {submission.run!r} in {submission.store} is {job.status.lower()}; "
                f"{_follow(submission, str(job.submission_id))}"
            )
    with tempfile.TemporaryDirectory(prefix="trawl-submit-") as beside:
        folder = working_dir.packed(submission.folder, Path(beside)) if submission.folder else None
        words = [_ray(), *replace(submission, folder=folder).command()[1:]]
        try:
            code = subprocess.run(words, check=False).returncode
        except KeyboardInterrupt:
            return _left(client, submission)
    return _ended(client, submission, code)


def auth_mode() -> str:
    """How Ray's clients show who they are: as the environment says, else by a token where there is one."""
    token = any(os.environ.get(key) for key in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    token = token or (Path.home() / ".ray" / "auth_token").exists()
    return os.environ.get("RAY_AUTH_MODE") or ("token" if token else "disabled")


def _module(job: str) -> str:
    scripts = working_dir.scripts()
    if job not in scripts:
        raise AskedWrongly(f"no job {job!r}: one of {', '.join(scripts)}")
    return scripts[job]


def _check_store(store: str) -> None:
    if "://" not in store and not Path(store).is_absolute():
        raise AskedWrongly(
            f"--store {store}: a job runs elsewhere; "
            "give a URI (s3://bucket/path) or an absolute path that all nodes see"
        )


def _check_paths(cfg: Config) -> None:
    """Raw inputs must be named as the nodes see them: the job's current directory is a copy on the head."""
    for key, value in flat(cfg.model_dump(mode="json")).items():
        known = re.sub(r"^experiment\.(arms\.[^.]+|cross\.[^.]+\.[^.]+)\.", "", key)
        given = isinstance(value, str) and value != "" and "://" not in value and not value.startswith("/")
        if given and (known in _FILES or (known in _MODELS and Path(value).expanduser().exists())):
            raise InputError(f"{key} = {value}: a job runs elsewhere; give an absolute path that all nodes see")


def _check_key(cfg: Config, pairs: Mapping[str, str]) -> None:
    """What travels with a job stands in its description, which the dashboard shows to everyone."""
    keys = {v for k, v in flat(cfg.model_dump(mode="json")).items() if f".{k}".endswith(".http.api_key_env")}
    for name in sorted(keys & pairs.keys()):
        raise AskedWrongly(
            f"--env {name}: the key of http.api_key_env would stand in the job's description; set the "
            "variable on the cluster's nodes, for example from a Kubernetes secret"
        )


def _pairs(env: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in env:
        name, sign, value = text.partition("=")
        if not sign or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise AskedWrongly(f"--env {text!r}: write it as NAME=VALUE")
        pairs[name] = value
    return pairs


def _ray() -> str:
    beside = Path(sys.executable).with_name("ray")
    found = str(beside) if beside.exists() else shutil.which("ray")
    if not found:
        raise AskedWrongly("trawl submit needs Ray: pip install 'trawl[core]'")
    return found


def _client(address: str) -> Any:
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError:
        raise AskedWrongly("trawl submit needs Ray: pip install 'trawl[core]'") from None
    headers = os.environ.get("RAY_JOB_HEADERS")
    try:
        return JobSubmissionClient(address, headers=json.loads(headers) if headers else None)
    except json.JSONDecodeError as error:
        raise ConfigError(f"RAY_JOB_HEADERS: not valid JSON ({error})") from None
    except Exception as error:  # Ray's own: ConnectionError, RuntimeError and AuthenticationError, over many lines
        text = " ".join(str(error).split())
        raise EngineDied(f"{address}: no Ray dashboard that takes jobs ({text}); is the address right?") from None


def _jobs(client: Any) -> list[Any]:
    try:
        return list(client.list_jobs())
    except RuntimeError as error:
        raise Failed(f"the cluster does not list its jobs: {' '.join(str(error).split())[:300]}; try again") from None


def _follow(submission: Submission, job: str) -> str:
    at = f"--address {submission.address}"
    return f"follow it with `ray job logs -f {at} {job}`, end it with `ray job stop {at} {job}`"


def _say(text: str) -> None:
    print(f"trawl: {text}", file=sys.stderr)


def _left(client: Any, submission: Submission) -> int:
    """Interrupted here: the job, once sent, is none the wiser."""
    if any(job.submission_id == submission.id for job in _jobs(client)):
        _say(f"interrupted; job {submission.id} goes on: {_follow(submission, submission.id)}")
    else:
        _say("interrupted before the job was sent; nothing runs")
    return _STOPPED


def _ended(client: Any, submission: Submission, code: int) -> int:
    try:
        info = client.get_job_info(submission.id)
    except RuntimeError:
        raise Failed(f"job {submission.id} was not taken; Ray's lines above say why") from None
    if not submission.wait:
        _say(f"job {submission.id} is sent: {_follow(submission, submission.id)}")
        return code
    if not info.status.is_terminal():
        raise Failed(f"lost sight of job {submission.id}, which goes on: {_follow(submission, submission.id)}")
    if info.status == "STOPPED":
        _say(f"job {submission.id} was stopped; the same command goes on where it stood")
        return _STOPPED
    if info.status == "FAILED":
        own = int(info.driver_exit_code or 1)
        own = 128 - own if own < 0 else own  # a signal, as shells count
        _say(f"job {submission.id} failed with exit code {own}: {_reason(info.message or '')}")
        return own
    return code


def _reason(message: str) -> str:
    """The last line of ours in the tail of the job's log, else the last line there is."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    ours = [line.removeprefix("trawl: ") for line in lines if line.startswith("trawl: ")]
    return (ours or lines or ["no word in its log"])[-1]
