"""The Ray cluster: whether it can be reached and has room for every stage; and one row by the real engine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trawl import connection, executors
from trawl.config import Config
from trawl.doctor.files import asks
from trawl.doctor.findings import FAIL, OK, SKIP, WARN, Finding, Patient
from trawl.errors import TrawlError
from trawl.extraction.trial import try_one
from trawl.filesystems import place
from trawl.sizes import Size, folder_of, size_of
from trawl.store import Store

_GIB = 2**30
_WORKER, _ENGINE = 0.6 * _GIB, 2.0 * _GIB  # of a process beside its weights: the demo's largest worker had 0.65 GiB
_OBJECTS = 200e6  # bytes of a node's object store
_WRITTEN = ("ok", "truncated")


@dataclass(frozen=True)
class Need:
    """What a stage asks for at once: so many workers, each with these, and the key that says how many."""

    stage: str
    key: str
    workers: int
    cpus: float
    gpus: float = 0.0
    memory: float = 0.0  # bytes of each
    all_at_once: bool = True  # else fewer of them do the same, slower
    beside: int = 0  # CPUs for what works around them


def reach(patient: Patient) -> Iterator[Finding]:
    """Join the cluster, or start one on this machine, and hold every stage against what its nodes have."""
    if patient.cfg.resources.executor == "inline":
        yield Finding("cluster", SKIP, "resources.executor = inline needs none")
        return
    where = connection.address(patient.cfg) or "started on this machine"
    try:
        connection.connect(patient.cfg)
    except TrawlError as error:
        todo = "check resources.ray_address, RAY_ADDRESS and the cluster; `ray status` there"
        yield Finding("cluster", FAIL, str(error), todo)
        return
    nodes = connection.nodes()
    yield Finding(
        "cluster", OK, f"{where}: {len(nodes)} nodes, {_sum(nodes, 'CPU'):g} CPUs, {_sum(nodes, 'GPU'):g} GPUs"
    )
    faults = [fault for cfg in patient.cfgs for need in needs(cfg, nodes) for fault in held(need, nodes)]
    faults += _shared(patient, nodes)
    yield from dict.fromkeys(faults)
    if not faults:
        yield Finding("cluster", OK, "has room for every stage of the recipe")


def _sum(nodes: Sequence[dict[str, float]], name: str) -> float:
    return sum(node.get(name, 0.0) for node in nodes)


def _shared(patient: Patient, nodes: Sequence[dict[str, float]]) -> list[Finding]:
    out = []
    if len(nodes) > 1 and place(patient.store).local:
        what = f"the store {patient.store} is a folder, the cluster has {len(nodes)} nodes"
        out.append(Finding("cluster", WARN, what, "mount it on every node at this path, or use a URI such as s3://"))
    small = [node for node in nodes if 0 < node.get("object_store_memory", _OBJECTS) < _OBJECTS]
    if small:
        what = f"{len(small)} nodes have less than {_OBJECTS / 1e6:.0f} MB for Ray's objects"
        out.append(Finding("cluster", WARN, what, "give them more: --object-store-memory, a larger /dev/shm"))
    return out


def needs(cfg: Config, nodes: Sequence[dict[str, float]]) -> list[Need]:
    """What the stages of a recipe ask for."""
    of, out = cfg.resources, [Need("light stages", "resources.actors", 1, 1)]
    out.append(Need("actors", "resources.actors", of.actors, 1, memory=_WORKER, all_at_once=False, beside=1))
    source = cfg.extraction.base
    if cfg.extraction.engine == "vllm" and asks(cfg):
        out.append(_engines(cfg, bool(_sum(nodes, "GPU"))))
    if source != "none":
        weights = _size("encoding.model", cfg.encoding.model, cfg.encoding.revision)
        memory = _WORKER + (weights.bytes if weights and not of.encoder_gpus else 0)
        key = "resources.encoder_gpus" if of.encoder_gpus else "resources.actors"
        out.append(Need("encoding", key, of.actors, 1, of.encoder_gpus, memory, all_at_once=False, beside=1))
    if of.launcher == "ray_train":
        out.append(Need("training", "resources.training_workers", of.training_workers, 1, memory=_WORKER))
    else:
        many = Need("training", "resources.parallel_cells", of.parallel_cells, 1, memory=_WORKER, all_at_once=False)
        out.append(many)
    return out


def _engines(cfg: Config, on_gpu: bool) -> Need:
    of, weights = cfg.resources, _size("extraction.model", cfg.extraction.model, cfg.extraction.revision)
    split = of.tensor_parallel * of.pipeline_parallel
    if on_gpu or split > 1:
        return Need("engines", "resources.engines", of.engines * split, 1, 1, beside=1)
    memory = _ENGINE + of.cpu_cache_gib * _GIB + (weights.bytes if weights else 0)
    return Need("engines", "resources.engines", of.engines, of.threads, memory=memory, beside=1)


def _size(key: str, model: str, revision: str) -> Size | None:
    """None where there is no model, or none that can be read, which another check says."""
    try:
        folder = folder_of(key, model, revision) if model else None
        return size_of(folder) if folder else None
    except (TrawlError, OSError, ValueError, KeyError):
        return None


def held(need: Need, nodes: Sequence[dict[str, float]]) -> Iterator[Finding]:
    """What is lacking for a stage: one worker has no place, or not all at once have, or memory runs short."""
    each = f"{need.cpus:g} CPU" + (f" and {need.gpus:g} GPU" if need.gpus else "")
    places = sum(_places(need, node) for node in nodes)
    name = f"{need.stage} ({need.key})"
    if not places:
        largest = f"{max((n.get('CPU', 0) for n in nodes), default=0):g} CPUs and "
        largest += f"{max((n.get('GPU', 0) for n in nodes), default=0):g} GPUs"
        todo = "ask for less (resources.*), or name a cluster with such nodes; one that grows by itself may do"
        yield Finding("cluster", FAIL, f"{name}: no node takes a worker of {each}; the largest has {largest}", todo)
        return
    spare = _sum(nodes, "CPU") - min(places, need.workers) * need.cpus
    if places < need.workers or spare < need.beside:
        what = f"{name}: {need.workers} workers of {each} and {need.beside} CPU around them"
        what += f"; there is room for {places} workers, {_sum(nodes, 'CPU'):g} CPUs in all"
        hard = need.all_at_once or _sum(nodes, "CPU") < need.cpus + need.beside
        todo = f"lower {need.key}, or raise resources.num_cpus on this machine"
        yield Finding("cluster", FAIL if hard else WARN, what, todo if hard else f"{todo}; fewer work, slower")
    memory, asked = _sum(nodes, "memory"), need.memory * min(need.workers, places)
    if memory and asked > 0.8 * memory:
        what = f"{name}: about {asked / _GIB:.1f} GiB at once, the cluster has {memory / _GIB:.1f} GiB for workers"
        yield Finding("cluster", FAIL if asked > memory else WARN, what, f"lower {need.key}, or use larger nodes")


def _places(need: Need, node: dict[str, float]) -> int:
    """Workers that a node takes."""
    found = [node.get("CPU", 0.0) // need.cpus] if need.cpus else []
    found += [node.get("GPU", 0.0) // need.gpus] if need.gpus else []
    return int(min(found, default=0))


def engine(patient: Patient) -> Iterator[Finding]:
    """One made-up item through prompt and answer by the configured engine, as a run would do it."""
    done: set[str] = set()
    for cfg in patient.cfgs:
        settings = cfg.extraction.model_copy(update={"source": "extracted", "given": "", "shuffle_seed": 0})
        if not asks(cfg) or settings.model_dump_json() in done:
            continue
        done.add(settings.model_dump_json())
        yield _one_row(cfg, patient.store)
    if not done:
        yield Finding("engine", SKIP, "no engine is asked")


def _one_row(cfg: Config, store: str) -> Finding:
    name = f"{cfg.extraction.engine} {cfg.extraction.model}".strip()
    try:
        # Where workers are elsewhere the store is what they share; here nothing of it is touched.
        row = try_one(cfg, Store(store), executors.executor(cfg))
    except TrawlError as error:
        return Finding("engine", FAIL, f"{name}: {error}", "mend what the line says")
    if row["status"] in _WRITTEN:
        text = " ".join(row["text"].split())
        return Finding("engine", OK, f"{name}: {row['tokens_in']} tokens in, {row['tokens_out']} out: {text[:60]!r}")
    what = f"{name}: one row was made, its status is {row['status']} ({row['reason']})"
    if row["status"] == "failed":
        return Finding("engine", FAIL, what, "mend what the reason says")
    return Finding("engine", WARN, what, "look at the model and its chat template (extraction.chat_template)")
