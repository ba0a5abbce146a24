"""One prompt, answered outside of any table: by the engine itself, or by vLLM through Ray Data like all of its prompts.

Nothing is kept: neither answer nor cache. An engine is started for it where the engine needs one.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from trawl.config import Config
from trawl.errors import EngineDied, TrawlError
from trawl.extraction import feeding, launching
from trawl.extraction.engines import Engine, Reply, Request, VllmEngine
from trawl.extraction.starting import Failures
from trawl.inputs import Inputs
from trawl.stage import Job, Stage, numbered
from trawl.store import Store

_HOME = "suggestions"  # folder of the engine's marks while it works


def answer_one(
    engine: Engine, request: Request, cfg: Config, store: Store, call: Callable[..., Any] | None = None
) -> Reply:
    """The reply to a prompt. `call`: runs a function in a worker.

    Raises ConfigError when the engine cannot be started, EngineDied when it is gone.
    """
    if isinstance(engine, VllmEngine):
        return _through_ray_data(engine, request, cfg, store)
    reply: Reply = (call or _here)(_answered, engine, request)
    return reply


def _here(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def _answered(engine: Engine, request: Request) -> Reply:
    return engine.answer([request])[0]


def _through_ray_data(engine: VllmEngine, request: Request, cfg: Config, store: Store) -> Reply:
    import ray

    home = (_HOME, request.digest)
    stage = Stage(artifact=_HOME, version=1, plan=lambda inputs, cfg: numbered(1))
    job = Job(stage, None, Inputs(store, {}, {}, (*home, "_work")), cfg, request.digest)
    prompt = np.array(engine.tokens.ids(request.prompt), np.int32).tobytes()
    sent = {"digest": request.digest, "prompt": prompt, "max_tokens": request.max_tokens}
    try:
        found = launching.processor(job, 1)(ray.data.from_arrow(feeding._rows([sent]))).take_all()[0]
    except ray.exceptions.RayError as error:
        raise Failures(store, (*home, "_attempts")).found() or _ours(error) from error
    finally:
        store.remove(*home)
    return feeding._reply(found[feeding._ROW], ())


def _ours(error: BaseException) -> TrawlError:
    """The error that trawl raised in a worker, or that one died."""
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, TrawlError):
        inner = getattr(inner, "cause", None) or inner.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return inner or EngineDied(f"vllm: the engine failed: {lines[-1] if lines else type(error).__name__}; see its log")
