"""The training loop on Ray Train workers: the only file of this room that knows Ray.

Every worker builds the same material from the published tables (memory-mapped once per node) and takes its share of
each global batch. Rank 0 registers a checkpoint at the end of each epoch and every resources.checkpoint_steps steps,
so that a killed group, or a driver run anew under the same name and storage, goes on from there and ends in the same
numbers. Ray takes a second or two for each, in which the steps wait; a kill before it has listed the first begins anew.
"""

import io
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch

from trawl.config import Config
from trawl.connection import address, connect
from trawl.environment import peak_mib
from trawl.errors import ConfigError, EngineDied, TrawlError
from trawl.model.recommender import Recommender
from trawl.stage import EPOCH
from trawl.store import Store
from trawl.training import epochs
from trawl.training.checkpoints import STATE, go_on, newest, put_away_broken_list
from trawl.training.diverging import Diverged
from trawl.training.group import Alone, Distributed
from trawl.training.loop import Material, Progress, Training
from trawl.training.machine import settle
from trawl.training.placing import device_of

_NAME = "train"  # of Ray Train's folder of checkpoints
_FAILURES = 2  # times that a worker group may die before the training is given up

Make = Callable[[], tuple[Recommender, Material]]


def train_here(
    model: Recommender, material: Material, cfg: Config, store: Store | None = None, folder: tuple[str, ...] = ()
) -> tuple[Progress, float]:
    """One worker, in this process. Returns the finished progress and the peak memory in MiB.

    With a store, the number of finished epochs is noted below `folder` for who watches, and with
    resources.checkpoint_steps the state is kept there, from which a training that was killed goes on.
    """
    settle(cfg.resources.threads)
    training = Training(model, material, cfg, device=device_of(cfg))
    kept = bool(store and folder and cfg.resources.checkpoint_steps)
    if store and kept and store.exists(*folder, STATE):
        go_on(training, io.BytesIO(store.read_bytes(*folder, STATE)), store.where(*folder, STATE))

    def report(record: dict[str, Any] | None, state: Callable[[], dict[str, Any]]) -> None:
        if store and kept:
            data = io.BytesIO()
            torch.save(state(), data)
            store.write_bytes(data.getvalue(), *folder, STATE)
        if record is None:
            return
        if store and folder:
            _note(training, store, folder)
        epochs.tell(record)

    return training.run(report), peak_mib()


def _note(training: Training, store: Store, folder: tuple[str, ...]) -> None:
    store.write_text(f"{len(training.progress.epochs)}/{training.cfg.training.epochs}", *folder, EPOCH)


def train_on_ray(make: Make, cfg: Config, store: Store, folder: tuple[str, ...]) -> tuple[Progress, float]:
    """`resources.training_workers` workers; checkpoints below `folder` of the store.

    Raises EngineDied, Diverged, and ConfigError where this machine, which is all there is, has not what they ask for.
    """
    connect(cfg)
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    workers, gpus = cfg.resources.training_workers, cfg.resources.training_gpus
    storage = store.path(*folder)
    if not address(cfg):  # else it would wait for ever; a cluster elsewhere may start nodes when they are asked for
        _check_room(ray.cluster_resources(), workers, bool(gpus))
    needs = {"CPU": 1.0} | ({"GPU": 1.0} if gpus else {})
    store.fs.create_dir(storage, recursive=True)
    rest = put_away_broken_list(store, (*folder, _NAME))
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"make": make, "cfg": cfg, "store": store, "folder": folder, "rest": rest},
        scaling_config=ray.train.ScalingConfig(num_workers=workers, use_gpu=bool(gpus), resources_per_worker=needs),
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        run_config=ray.train.RunConfig(
            name=_NAME,
            storage_path=storage,
            storage_filesystem=store.fs,
            failure_config=ray.train.FailureConfig(max_failures=_FAILURES),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        result = trainer.fit()
    except (ray.exceptions.RayError, ray.train.TrainingFailedError) as error:
        raise _died(error) from error
    if result.return_value:
        raise Diverged(result.return_value)
    return _ended(result.checkpoint, newest(store, (*folder, _NAME), rest))


def _ended(last: Any, found: tuple[IO[bytes], str] | None) -> tuple[Progress, float]:
    """Of Ray's last checkpoint; of the one that was found where nothing was left to train."""
    if last is not None:
        with last.as_directory() as path:
            state = torch.load(Path(path) / STATE, weights_only=True, map_location="cpu")
    elif found is not None:
        state = torch.load(found[0], weights_only=True, map_location="cpu")
    else:
        raise EngineDied("model: training ended without a checkpoint; see the workers' logs, then run again")
    return Progress(**state["progress"]), float(state["peak_mib"])


def _check_room(there: Mapping[str, float], workers: int, gpus: bool) -> None:
    """`there`: what a cluster of this machine alone offers."""
    asked = {"CPU": "take fewer, or raise resources.num_cpus"}
    asked |= {"GPU": "set resources.training_gpus to 0, or take fewer"} if gpus else {}
    for kind, todo in asked.items():
        count = int(there.get(kind, 0))
        if count < workers:
            raise ConfigError(
                f"model: resources.training_workers = {workers}, its workers ask for a {kind} each, this machine has "
                f"{count or 'none'}; {todo}, or name a cluster with resources.ray_address"
            )


def _worker(settings: dict[str, Any]) -> str:
    """Train; returns what is wrong with the recipe, or nothing."""
    import ray.train

    cfg: Config = settings["cfg"]
    settle(cfg.resources.threads)
    model, material = settings["make"]()
    context = ray.train.get_context()
    group = Distributed() if context.get_world_size() > 1 else Alone()
    training = Training(model, material, cfg, group, device_of(cfg))
    last = ray.train.get_checkpoint()
    if last is not None:
        with last.as_directory() as path, (Path(path) / STATE).open("rb") as file:
            go_on(training, file, last.path)
    elif found := newest(settings["store"], (*settings["folder"], _NAME), settings["rest"]):
        go_on(training, *found)
    first = context.get_world_rank() == 0

    def report(record: dict[str, Any] | None, state: Callable[[], dict[str, Any]]) -> None:
        metrics = {"epoch": training.progress.epoch, "step": training.progress.step}
        if not first:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory(prefix="trawl-") as path:
            torch.save(state() | {"peak_mib": peak_mib()}, Path(path) / STATE)
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(path))
        if record is not None:
            _note(training, settings["store"], settings["folder"])

    try:
        training.run(report)
    except Diverged as error:  # in all workers at once; an exception would have Ray train on from the last checkpoint
        return str(error)
    return ""


def _died(error: Exception) -> TrawlError:
    for found in getattr(error, "worker_failures", {}).values():
        inner = getattr(found, "_base_exc", found)  # as Ray Train wraps it
        if isinstance(inner, TrawlError):
            return inner
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return EngineDied(f"model: training workers failed: {lines[-1] if lines else type(error).__name__}; run again")
