"""Tokens per second of the pipeline's way to vLLM against the bare engine: same prompts, same model, same settings.

    python tests/bench/extraction.py [--prompts 2000] [--side item] [--model FOLDER] [--out result.json]
    python tests/bench/extraction.py --orders --side user [--blocks 800]

A tiny model is made on the spot. The pipeline is what `item_answers` does before its parts are written: find what is
missing, render, ask, judge, keep. Its clock starts when the engine takes its first batch and stops when the last block
of answers is in the cache. The bare engine gets the same token ids in the same order from a list, in a process of its
own; its clock runs while `LLM.generate` does. Start-up is in neither. The same is counted in CPU seconds of all their
processes, which other work on the machine does not change; with a core for each process the wall clock does better.
The parts around the engine are then run by themselves, in one process: their CPU seconds say where the rest goes.
`--orders` asks the bare engine the same prompts in no order and in the pipeline's, with a key-value cache of so many
blocks, and says which share of their tokens it had read before. The last line is JSON.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "extraction"))

import numpy as np
import psutil
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


class Meter:
    """CPU seconds of this process and all below it, also of those that end, since `begin`."""

    def __init__(self) -> None:
        self.first: dict[int, float] = {}
        self.last: dict[int, float] = {}
        self.names: dict[int, str] = {}

    def look(self, begin: bool = False) -> None:
        me = psutil.Process()
        for process in (me, *me.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                times = process.cpu_times()
                self.last[process.pid] = times.user + times.system
                self.first.setdefault(process.pid, self.last[process.pid] if begin else 0.0)
                words = process.cmdline()
                self.names[process.pid] = Path(re.split(r"[ (]", words[0])[0]).name if words else ""

    def seconds(self) -> float:
        return sum(self.by_name().values())

    def by_name(self) -> dict[str, float]:
        """The same for each kind of process."""
        out: dict[str, float] = {}
        for pid, name in self.names.items():
            out[name] = out.get(name, 0.0) + self.last[pid] - self.first[pid]
        return {name: round(seconds, 1) for name, seconds in out.items() if seconds >= 0.1}


@contextmanager
def metered(begun: Callable[[], bool]) -> Iterator[tuple[list[float], Meter]]:
    """The moment from which on `begun` was true, and the CPU seconds since then."""
    seen: list[float] = []
    meter, over = Meter(), threading.Event()

    def watch() -> None:
        while not over.wait(5.0 if seen else 0.01):  # a look costs tens of milliseconds
            if seen:
                meter.look()
            elif begun():
                meter.look(begin=True)
                seen.append(time.monotonic())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen, meter
    finally:
        over.set()
        thread.join()


def in_engine(job: Job) -> Callable[[], bool]:
    """Whether the engine has taken its first batch: it leaves a mark in the store."""
    folder = Path(job.inputs.store.path(*job.inputs.work[:-1], "_attempts"))
    return lambda: any(folder.glob("batch-*"))


def fed(side: str, job: Job, tasks: list[Task]) -> tuple[feeding.Fed, float, dict[str, float]]:
    """What the pipeline did; seconds from its engine's first batch to the last kept block, CPU seconds by process."""
    ends: list[Any] = []
    real = feeding._followed
    with metered(in_engine(job)) as (begins, meter):

        def followed(*arguments: Any) -> feeding.Fed:
            out = real(*arguments)
            ends.append(time.monotonic())
            meter.look()
            ends.append(meter.by_name())
            return out

        feeding._followed = followed
        try:
            out = feeding.answer_missing(side, job, tasks)
        finally:
            feeding._followed = real
    return out, ends[0] - begins[0], ends[1]


def around(side: str, job: Job, tasks: list[Task], to: Path) -> dict[str, float]:
    """CPU seconds of finding, rendering, judging, keeping in this process; leaves the prompts for the bare engine."""
    empty = Job(job.stage, 1, Inputs(Store(f"{to}/empty"), {}, {}, job.inputs.work), job.cfg, job.fingerprint)
    numbers = [pa.table({"number": [task.number]}) for task in tasks]
    spent: dict[str, float] = {}
    cache = feeding.answer_cache
    feeding.answer_cache = lambda inputs, cfg: cache(empty.inputs, cfg)
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
        feeding.answer_cache = cache
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


def bare(prompts: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """The same prompts straight into vLLM."""
    import vllm

    table = pa.ipc.open_file(str(prompts)).read_all()
    ids = [np.frombuffer(p, np.int32).tolist() for p in table.column("prompt").to_pylist()]
    asked = [vllm.SamplingParams(temperature=0.0, max_tokens=most) for most in table.column("most").to_pylist()]
    engine = vllm.LLM(**arguments)
    started, meter = time.monotonic(), Meter()
    meter.look(begin=True)
    outputs = engine.generate([{"prompt_token_ids": i} for i in ids], asked, use_tqdm=False)
    seconds = time.monotonic() - started
    meter.look()
    return {
        "seconds": seconds,
        "cpu": meter.seconds(),
        "cpu_by_process": meter.by_name(),
        "rows": len(outputs),
        "tokens_in": sum(len(o.prompt_token_ids) for o in outputs),
        "tokens_out": sum(len(o.outputs[0].token_ids) for o in outputs),
        "cached": sum(o.num_cached_tokens or 0 for o in outputs),
    }


def in_a_process(cfg: Config, prompts: Path) -> dict[str, Any]:
    arguments = launching.engine_arguments(cfg, on_gpu=False) | {"model": cfg.extraction.model}
    arguments.pop("worker_extension_cls")  # the leash, which is tied to an actor
    words = [sys.executable, __file__, "--bare", str(prompts), "--arguments", json.dumps(arguments)]
    done = subprocess.run(
        words, env=os.environ | launching._environment(cfg, False), stdout=subprocess.PIPE, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def prepared(args: argparse.Namespace, folder: Path) -> tuple[Job, list[Task]]:
    from tiny_model import make_tiny_qwen2

    model = args.model or make_tiny_qwen2(folder / "model", answer="", hidden=args.hidden, layers=args.layers)
    return made(Store(str(folder / "store")), recipe(model, args.prompts, args.side, args.set), args.side)


def orders(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The share of cached tokens of prompts without an order, as digests leave them, and by their beginnings."""
    args.set.append(f"extraction.engine_arguments={{num_gpu_blocks_override = {args.blocks}}}")
    job, tasks = prepared(args, folder)
    around(args.side, job, tasks, folder)
    table, shares = pa.ipc.open_file(str(folder / "prompts.arrow")).read_all(), {}
    mixed = table.take(pa.array(np.random.default_rng(0).permutation(table.num_rows)))
    for name, rows in {"without order": mixed, "by beginning": table}.items():
        path = folder / "ordered.arrow"
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(rows)
        found = in_a_process(job.cfg, path)
        share = found["cached"] / found["tokens_in"]
        shares[name] = {"cached_share": round(share, 3), "seconds": round(found["seconds"], 1)}
    return {"bench": "orders", "side": args.side, "prompts": table.num_rows, "blocks": args.blocks, **shares}


def compared(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    job, tasks = prepared(args, folder)
    cfg = job.cfg
    spent = around(args.side, job, tasks, folder)
    alone = in_a_process(cfg, folder / "prompts.arrow")
    executor(cfg)  # connects to Ray
    whole, seconds, by_process = fed(args.side, job, tasks)
    cpu = sum(by_process.values())
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
        "pipeline_cpu_seconds": round(cpu, 1),
        "bare_cpu_seconds": round(alone["cpu"], 1),
        "cpu_ratio": round(
            alone["cpu"] * (whole.tokens_in + whole.tokens_out) / (cpu * (alone["tokens_in"] + alone["tokens_out"])), 3
        ),
        "pipeline_cpu_by_process": by_process,
        "bare_cpu_by_process": alone["cpu_by_process"],
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
    parser.add_argument("--orders", action="store_true", help="the share of cached tokens by the order of the prompts")
    parser.add_argument("--blocks", type=int, default=800, help="--orders: blocks of the key-value cache")
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--arguments", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.bare:
        print(json.dumps(bare(args.bare, args.arguments)))
        return 0
    with TemporaryDirectory() as folder:
        os.environ.setdefault("TRAWL_NODE_CACHE", f"{folder}/node")
        if args.orders:
            print(json.dumps(orders(args, Path(folder))))
            return 0
        found = compared(args, Path(folder))
    rates = f"pipeline {found['pipeline_tokens_per_second']:,} tokens/s, bare {found['bare_tokens_per_second']:,}"
    ratios = f"ratio {found['ratio']} (target {TARGET}), of CPU seconds {found['cpu_ratio']}"
    print(f"{found['prompts']:,} prompts: {rates}; {ratios}")
    print("CPU seconds around the engine: " + ", ".join(f"{n} {s}" for n, s in found["cpu_seconds_around"].items()))
    print(json.dumps(found), flush=True)
    if args.out:
        args.out.write_text(json.dumps(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
