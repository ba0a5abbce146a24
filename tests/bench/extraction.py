"""Tokens per second of the pipeline's way to vLLM against the bare engine: same prompts, same model, same settings.

    python tests/bench/extraction.py [--prompts 2000] [--side item] [--model FOLDER] [--out result.json]

A tiny model is made on the spot. The pipeline is what `item_answers` does before its parts are written: find what is
missing, render, ask, judge, keep. Its clock starts when the engine takes its first batch and stops when the last block
of answers is in the cache. The bare engine gets the same token ids in the same order from a list, in a process of its
own; its clock runs while `LLM.generate` does. Start-up is in neither. The parts around the engine are then run by
themselves, one process, nothing else: their seconds of CPU say where the rest goes (they overlap with the engine where
there are cores for it). The last line is JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "extraction"))

import numpy as np
import pyarrow as pa

from trawl import pipeline
from trawl.config import Config
from trawl.executors import Inline, executor
from trawl.extraction import feeding, launching, prefixes
from trawl.extraction.stage import STAGES
from trawl.inputs import Inputs
from trawl.stage import Job, Stage, Task, numbered
from trawl.store import Store

TARGET = 0.9


def recipe(model: Path, prompts: int, side: str, more: list[str]) -> Config:
    """A world with a little more than so many prompts; texts that do not fit are cut."""
    world = (
        {"items": int(prompts * 1.12), "users": 60} if side == "item" else {"items": 600, "users": int(prompts * 1.05)}
    )
    sizes = [f"data.synthetic.{name}={count}" for name, count in world.items()]
    return Config().override(
        *sizes,
        "data.synthetic.events_per_user=20",
        "extraction.engine=vllm",
        f"extraction.model={model}",
        "extraction.max_prompt_tokens=1536",
        "extraction.max_answer_tokens=32",
        "extraction.user_items=3",
        *more,
    )


def made(store: Store, cfg: Config, side: str) -> tuple[Job, list[Task]]:
    """Everything up to the prompts, and these sent to their buckets; the job that is to answer them."""
    plan = pipeline.plan(cfg, until=f"{side}_prompts")
    marks: dict[str, str] = {}
    pipeline.run(plan, store, Inline(), lambda outcome: marks.update({outcome.artifact: outcome.fingerprint}))
    stage: Stage = next(s for s in STAGES if s.artifact == f"{side}_answers")
    inputs = Inputs(store, {n: marks[n] for n in stage.reads(cfg)}, {}, (stage.artifact, "bench", "_work"))
    tasks = stage.plan(inputs, cfg)
    for _ in Inline().run(Job(stage, 0, inputs, cfg, "bench"), tasks):
        pass
    return Job(stage, 1, inputs, cfg, "bench"), numbered(stage.phases[0].buckets(inputs, cfg))


@contextmanager
def first_batch(job: Job) -> Iterator[list[float]]:
    """When the engine took its first batch: it leaves a mark in the store."""
    seen: list[float] = []
    folder, over = Path(job.inputs.store.path(*job.inputs.work[:-1], "_attempts")), threading.Event()

    def watch() -> None:
        while not seen and not over.wait(0.01):
            if any(folder.glob("batch-*")):
                seen.append(time.monotonic())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def fed(side: str, job: Job, tasks: list[Task]) -> tuple[feeding.Fed, float]:
    """What the pipeline did, and the seconds between its engine's first batch and the last kept block."""
    ends: list[float] = []
    real = feeding._followed

    def followed(*arguments: Any) -> feeding.Fed:
        out = real(*arguments)
        ends.append(time.monotonic())
        return out

    feeding._followed = followed
    try:
        with first_batch(job) as begins:
            out = feeding.answer_missing(side, job, tasks)
    finally:
        feeding._followed = real
    return out, ends[0] - begins[0]


def around(side: str, job: Job, tasks: list[Task], to: Path) -> dict[str, float]:
    """CPU seconds of finding, rendering, judging, keeping in this process; leaves the prompts for the bare engine."""
    empty = Job(job.stage, 1, Inputs(Store(f"{to}/empty"), {}, {}, job.inputs.work), job.cfg, job.fingerprint)
    numbers = [pa.table({"number": [task.number]}) for task in tasks]
    spent: dict[str, float] = {}
    cache = feeding.AnswerCache
    feeding.AnswerCache = lambda store: cache(empty.inputs.store)  # type: ignore[assignment,misc,return-value]
    try:
        with timed(spent, "finding"):
            for batch in numbers:
                feeding._count_missing(batch, side, job, len(tasks))
        with timed(spent, "rendering"):
            tables = [table for batch in numbers for table in feeding._render(batch, side, job)]
        rows = [row[feeding._ROW] for table in tables for row in table.to_pylist()]
        write_prompts(rows, to / "prompts.arrow")
        replies = {"text": "Genre: a drama.", "tokens_in": 9, "tokens_out": 5, "tokens_cached": 0, "finished": True}
        done = [{"digest": r["digest"], "error": "", "seconds": 1.0, "attempts": 1, **replies} for r in rows]
        size = job.cfg.resources.engine_rows
        with timed(spent, "judging and keeping"):
            for start in range(0, len(done), size):
                feeding._keep(pa.table({feeding._ROW: pa.array(done[start : start + size])}), empty, "bench/1")
    finally:
        feeding.AnswerCache = cache  # type: ignore[misc]
        prefixes.forget(job.inputs)
    return spent


@contextmanager
def timed(spent: dict[str, float], name: str) -> Iterator[None]:
    before = time.process_time()
    yield
    spent[name] = round(time.process_time() - before, 2)


def write_prompts(rows: list[dict[str, Any]], path: Path) -> None:
    table = pa.table(
        {"prompt": pa.array([r["prompt"] for r in rows], pa.binary()), "most": [r["max_tokens"] for r in rows]}
    )
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


def bare(prompts: Path, arguments: dict[str, Any]) -> dict[str, float]:
    """The same prompts straight into vLLM."""
    import vllm

    table = pa.ipc.open_file(str(prompts)).read_all()
    ids = [np.frombuffer(p, np.int32).tolist() for p in table.column("prompt").to_pylist()]
    asked = [vllm.SamplingParams(temperature=0.0, max_tokens=most) for most in table.column("most").to_pylist()]
    engine = vllm.LLM(**arguments)
    started, cpu = time.monotonic(), time.process_time()
    outputs = engine.generate([{"prompt_token_ids": i} for i in ids], asked, use_tqdm=False)
    seconds = time.monotonic() - started
    return {
        "seconds": seconds,
        "own_cpu": time.process_time() - cpu,
        "rows": len(outputs),
        "tokens_in": sum(len(o.prompt_token_ids) for o in outputs),
        "tokens_out": sum(len(o.outputs[0].token_ids) for o in outputs),
        "cached": sum(o.num_cached_tokens or 0 for o in outputs),
    }


def in_a_process(cfg: Config, prompts: Path) -> dict[str, float]:
    arguments = launching.engine_arguments(cfg, on_gpu=False) | {"model": cfg.extraction.model}
    arguments.pop("worker_extension_cls")  # the leash, which is tied to an actor
    words = [sys.executable, __file__, "--bare", str(prompts), "--arguments", json.dumps(arguments)]
    done = subprocess.run(
        words, env=os.environ | launching._environment(cfg, False), stdout=subprocess.PIPE, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compared(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from tiny_model import make_tiny_qwen2

    model = args.model or make_tiny_qwen2(folder / "model", answer="", hidden=args.hidden, layers=args.layers)
    cfg, store = recipe(model, args.prompts, args.side, args.set), Store(str(folder / "store"))
    job, tasks = made(store, cfg, args.side)
    spent = around(args.side, job, tasks, folder)
    alone = in_a_process(cfg, folder / "prompts.arrow")
    executor(cfg)  # connects to Ray
    whole, seconds = fed(args.side, job, tasks)
    assert (whole.rows, whole.tokens_in) == (alone["rows"], alone["tokens_in"]), "not the same prompts"
    rates = [(w["tokens_in"] + w["tokens_out"]) / s for w, s in ((vars(whole), seconds), (alone, alone["seconds"]))]
    return {
        "bench": "extraction",
        "side": args.side,
        "prompts": whole.rows,
        "tokens_in": whole.tokens_in,
        "tokens_out": whole.tokens_out,
        "pipeline_seconds": round(seconds, 1),
        "bare_seconds": round(alone["seconds"], 1),
        "pipeline_tokens_per_second": round(rates[0]),
        "bare_tokens_per_second": round(rates[1]),
        "ratio": round(rates[0] / rates[1], 3),
        "target": TARGET,
        "cached_share_pipeline": round(whole.cached / whole.tokens_in, 3),
        "cached_share_bare": round(alone["cached"] / alone["tokens_in"], 3),
        "cpu_seconds_around": spent,
        "load": round(os.getloadavg()[0], 1),
        "cores": os.cpu_count(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--side", choices=("item", "user"), default="item")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--arguments", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.bare:
        print(json.dumps(bare(args.bare, args.arguments)))
        return 0
    with TemporaryDirectory() as folder:
        os.environ.setdefault("TRAWL_NODE_CACHE", f"{folder}/node")
        found = compared(args, Path(folder))
    print(
        f"{found['prompts']:,} prompts: pipeline {found['pipeline_tokens_per_second']:,} tokens/s, bare engine "
        f"{found['bare_tokens_per_second']:,}; ratio {found['ratio']} (target {TARGET})"
    )
    print("CPU seconds around the engine: " + ", ".join(f"{n} {s}" for n, s in found["cpu_seconds_around"].items()))
    print(json.dumps(found), flush=True)
    if args.out:
        args.out.write_text(json.dumps(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
