"""One prompt, answered outside of any table: by the engine itself, or by vLLM through Ray Data like all of its prompts.

Nothing is kept: neither answer nor cache. An engine is started for it where the engine needs one.
"""

from collections.abc import Callable
from typing import Any

from trawl.config import Config
from trawl.errors import EngineDied, TrawlError
from trawl.extraction import feeding
from trawl.extraction.engines import Engine, Reply, Request, VllmEngine
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
    ids = engine.tokens.ids(request.prompt)
    row = {"digest": request.digest, "tokenized_prompt": ids, "max_tokens": request.max_tokens}
    try:
        found = feeding._processor(job, 1)(ray.data.from_items([row])).take_all()[0]
        ends = feeding._ends(cfg)
    except ray.exceptions.RayError as error:
        raise _ours(error) from error
    finally:
        store.remove(*home)
    finished = found["tokens_out"] < request.max_tokens or found["last"] in ends
    return Reply(found["text"], int(found["tokens_in"]), int(found["tokens_out"]), finished, found["error"])


def _ours(error: BaseException) -> TrawlError:
    """The error that trawl raised in a worker, or that one died."""
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, TrawlError):
        inner = getattr(inner, "cause", None) or inner.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return inner or EngineDied(f"vllm: the engine failed: {lines[-1] if lines else type(error).__name__}; see its log")
