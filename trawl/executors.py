"""Where tasks run: in this process, as Ray tasks, or on Ray Data actors that keep a loaded model.

Errors that trawl raises come back as themselves. A worker that dies is replaced by Ray; a task that keeps taking its
worker down ends the run (worker.run_task counts).
"""

import json
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from trawl import errors, pool
from trawl.config import Config
from trawl.connection import address, connect
from trawl.errors import ConfigError, EngineDied, Failed, TrawlError
from trawl.pool import InProcess, Pool, ours
from trawl.stage import Executor, Job, Shared, Task
from trawl.worker import run_folder, run_task


class _Sharing:
    """Keeps what the stage at hand has made for all its workers, through its phases."""

    def __init__(self, where: Pool) -> None:
        self.pool = where
        self._made: tuple[tuple[str, str], Shared] | None = None

    def _share(self, job: Job) -> Shared:
        make, key = job.stage.shared, (job.stage.artifact, job.fingerprint)
        if self._made is None or self._made[0] != key:
            self._made = None  # the one before it is let go first
            if make is None:
                self.pool.drop()
                return Shared(None)
            self._made = (key, make(job, self.pool))
        return self._made[1]


class Inline(_Sharing):
    """One task after another in this process: for tests and for looking with a debugger."""

    def __init__(self) -> None:
        super().__init__(InProcess())

    def run(self, job: Job, tasks: list[Task]) -> Iterator[dict[str, Any]]:
        shared = self._share(job) if tasks else Shared(None)
        for task in tasks:
            yield run_task(job, task, shared.value)

    def fill(self, job: Job) -> dict[str, Any]:
        self._share(job)
        return run_folder(job)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


class OnRay(_Sharing):
    """Light stages as Ray tasks on reused workers, heavy ones on Ray Data actors."""

    def __init__(self, cfg: Config) -> None:
        super().__init__(pool.OnRay(cfg.resources.actors))
        self.actors = cfg.resources.actors
        self.launcher = cfg.resources.launcher
        self.local = not address(cfg)  # a cluster elsewhere may start nodes when they are asked for
        connect(cfg)

    def run(self, job: Job, tasks: list[Task]) -> Iterator[dict[str, Any]]:
        if not tasks:
            return
        self._before(job, tasks)
        runs = self._actors(job, tasks) if job.heavy else self._tasks(job, tasks)
        for outcome in runs:
            _reraise(outcome)
            yield outcome

    def _before(self, job: Job, tasks: list[Task]) -> None:
        """What the phase wants done on the cluster before its tasks. An error of ours comes back as itself."""
        before = job.exchange.before if job.exchange else None
        if before is None:
            return
        import ray

        try:
            before(job, tasks)
        except ray.exceptions.RayError as error:
            raise ours(error) or _died(job, error) from error

    def fill(self, job: Job) -> dict[str, Any]:
        """In this process, which then drives Ray Train; or as a task, so that several cells train side by side."""
        self._share(job)
        if self.launcher == "ray_train":
            return run_folder(job)
        import ray

        gpus = self._gpus(job)
        remote = ray.remote(num_cpus=1, num_gpus=gpus or None, max_retries=2)(_guarded_folder)
        try:
            outcome: dict[str, Any] = ray.get(remote.remote(job))
        except ray.exceptions.RayError as error:
            raise _died(job, error) from error
        _reraise(outcome)
        return outcome

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        import ray

        try:
            return ray.get(ray.remote(num_cpus=1)(function).remote(*arguments))
        except ray.exceptions.RayTaskError as error:
            inner = ours(error.cause)
            if inner is None:
                raise
            raise inner from error

    def _tasks(self, job: Job, tasks: list[Task]) -> Iterator[dict[str, Any]]:
        import ray

        given, job_ref = self._share(job), ray.put(job)
        remote = ray.remote(num_cpus=1, max_retries=5)(_guarded)
        waiting = tasks[::-1]
        if given.costs:
            waiting.sort(key=lambda task: given.costs[task.number])
        running: list[Any] = []
        try:
            while waiting or running:
                while waiting and len(running) < self.actors:  # memory grows with what runs at a time
                    running.append(remote.remote(job_ref, waiting.pop(), given.value))
                done, running = ray.wait(running, num_returns=1)
                yield ray.get(done[0])
        except ray.exceptions.RayError as error:
            raise ours(error) or _died(job, error) from error
        finally:
            for ref in running if ray.is_initialized() else ():  # a call after the shutdown would start a new cluster
                ray.cancel(ref, force=False)

    def _gpus(self, job: Job) -> float:
        """Of each worker. Raises ConfigError where this machine, which is all there is, has none."""
        import ray

        gpus = job.stage.gpus(job.cfg)
        if gpus > 0 and self.local and not ray.cluster_resources().get("GPU"):
            raise ConfigError(
                f"{job.stage.artifact}: its workers ask for {gpus:g} GPU each, this machine has none; "
                "set the key of [resources] that asks for them to 0, or name a cluster with resources.ray_address"
            )
        return gpus

    def _actors(self, job: Job, tasks: list[Task]) -> Iterator[dict[str, Any]]:
        import ray

        gpus = self._gpus(job)
        rows = [{"name": t.name, "arguments": json.dumps(dict(t.args))} for t in tasks]
        data = ray.data.from_items(rows, override_num_blocks=len(rows))
        size = min(self.actors, len(tasks))
        data = data.map_batches(
            _Actor,
            fn_constructor_args=(job,),
            batch_size=1,
            batch_format="pandas",
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=size),
            num_gpus=gpus or None,
        )
        try:
            # All at once: outcomes are small, and an iterator given up half way would keep its actors and threads.
            yield from data.take_all()
        except ray.exceptions.RayError as error:
            raise _died(job, error) from error


class _Actor:
    """Keeps the stage's worker (in worker.run_task's cache) between batches of Ray Data."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.failed: dict[str, Any] | None = None

    def __call__(self, batch: Any) -> Any:
        """After an error the run is lost: what is left to this actor is answered with it, unworked."""
        import pandas as pd

        outcomes = []
        for name, arguments in zip(batch["name"], batch["arguments"], strict=True):
            task = Task(name, json.loads(arguments))
            outcomes.append(self.failed or _guarded(self.job, task))
            self.failed = outcomes[-1] if outcomes[-1]["error"] else None
        return pd.DataFrame(outcomes)


def _guarded(job: Job, task: Task, shared: Any = None) -> dict[str, Any]:
    return _guard(job, lambda: run_task(job, task, shared))


def _guarded_folder(job: Job) -> dict[str, Any]:
    return _guard(job, lambda: run_folder(job))


def _guard(job: Job, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The outcome, or an error as plain data: it would lose its class and its trace on the way to the driver."""
    blank = {"task": "", "peak_mib": 0.0, "error": "", "message": "", "trace": ""}
    try:
        return blank | work()
    except TrawlError as error:
        kind, message, trace = type(error).__name__, str(error), traceback.format_exc()
    except Exception as error:  # a fault of the code: still one line, the trace beside it
        kind, message = Failed.__name__, f"{job.stage.artifact}: {type(error).__name__}: {error}"
        trace = traceback.format_exc()
    return blank | {"error": kind, "message": message, "trace": trace}


def _reraise(outcome: dict[str, Any]) -> None:
    if outcome["error"]:
        error: TrawlError = getattr(errors, outcome["error"], Failed)(outcome["message"])
        error.add_note(outcome["trace"])
        raise error


def _died(job: Job, error: Exception) -> TrawlError:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return EngineDied(f"{job.stage.artifact}: a worker failed: {lines[-1].strip() if lines else type(error).__name__}")


def executor(cfg: Config) -> Executor:
    """The executor that the recipe's resources name."""
    return Inline() if cfg.resources.executor == "inline" else OnRay(cfg)
