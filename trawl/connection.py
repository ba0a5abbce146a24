"""The Ray cluster of this process: the job's own, the recipe's, or one started on this machine."""

import logging
import os
import sys
from typing import Any

from trawl.config import Config
from trawl.errors import EngineDied

_ENV = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DATA_LOG_LEVEL": "WARNING",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}


def address(cfg: Config) -> str:
    """The cluster to join: the recipe's, or the job's own; empty: one that is started on this machine."""
    return cfg.resources.ray_address or os.environ.get("RAY_ADDRESS", "")


def connect(cfg: Config) -> None:
    """Join the cluster of the recipe or job, or start one on this machine; once per process."""
    for key, value in _ENV.items():
        os.environ.setdefault(key, value)
    import ray

    if ray.is_initialized():
        return
    where = address(cfg)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    try:
        if where:
            ray.init(address=where, **quiet)
        else:
            cpus = cfg.resources.num_cpus or max(4, os.cpu_count() or 1)
            ray.init(num_cpus=cpus, include_dashboard=False, **quiet)
    except Exception as error:  # ray raises Exception itself, for example when a node starts too slowly
        text = " ".join(str(error).split())
        raise EngineDied(f"ray: cannot reach or start a cluster ({where or 'local'}): {text}; try again") from None
    _messages_to_stderr()
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _messages_to_stderr() -> None:
    """Ray prints what it tells a driver of its nodes, such as the loss of one, on stdout, which is for results, and has
    no setting for it."""
    from ray._private import worker

    tell = worker.print_to_stdstream
    if tell.__module__ == worker.__name__:  # not ours from an earlier connection
        worker.print_to_stdstream = lambda data, ignore_prefix: tell(data | {"is_err": True}, ignore_prefix)


def nodes() -> list[dict[str, float]]:
    """What each living node of the cluster that this process has joined offers; none where it has joined none."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return []
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def leave() -> None:
    """Leave the cluster; one that was started on this machine ends."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()
