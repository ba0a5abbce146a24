"""`mine_distributed`: partners of a file or folder of interactions of any size, by many processes and machines.

    OUT/part-00000.parquet ...   anchor, rank, partner, score, shared; parts and rows in the order of the anchors
    OUT/_work/                   while it runs: what is done, so that the same call goes on where it was ended
    OUT/_report.json             written last

The answer is that of one process to the last bit, whatever the number of workers, parts and partitions.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa

from trawl.errors import ConfigError, InputError
from trawl.pool import Handle, Pool
from trawl.store import Store, digest_json
from trawl.swing import adjacency, cap_error, capping, sharing
from trawl.swing.adjacency import Side
from trawl.swing.cap_error import CapError
from trawl.swing.cap_plan import Settings, settings_of
from trawl.swing.capping import Given
from trawl.swing.formula import Formula
from trawl.swing.graph import Floats, Ints
from trawl.swing.hubness import hubness
from trawl.swing.mining import Miner
from trawl.swing.numbering import InputPart, Numbered, numbered, pairs, parts_of
from trawl.swing.reading import Columns
from trawl.swing.sharing import Parted, Prepared, Shuffle, Whole
from trawl.swing.tables import SCHEMA

REPORT = "_report.json"
_WORK, _JOB = "_work", "job.json"
_TASKS = 16  # at least


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is mined. Where it runs and in how many pieces is no part of it. Raises ConfigError."""

    side: Side
    formula: Formula
    top_k: int = 10
    caps: Settings | None = None  # None: the recipe's defaults

    @property
    def settings(self) -> Settings:
        return self.caps or settings_of()

    def __post_init__(self) -> None:
        if self.side not in ("user", "item"):
            raise ConfigError(f"side = {self.side!r}: choose user or item")
        if self.top_k < 1:
            raise ConfigError(f"swing.top_k = {self.top_k}: must be at least 1")


@dataclass(frozen=True)
class _Mining:
    """What every task of a call gets."""

    token: str
    out: Store
    formula: Formula
    top_k: int


def mine_distributed(
    pool: Pool,
    source: str,
    columns: Columns,
    options: Options,
    out: str,
    *,
    shuffle: Shuffle = "auto",
    block_bytes: int = sharing.BLOCK_BYTES,
) -> dict[str, Any]:
    """Fill the folder `out` (path or URI, seen by all nodes) with partners; returns the report.

    source: a Parquet or CSV file, or a folder of Parquet files, seen by all nodes. The pool keeps its graph, so that
    the other side, mined next with the same pool, finds it; `pool.drop()` lets it go. A call that was ended goes on
    when it is made again; one that is done gives its report. seconds of the report: of this call; `kernel` and
    `cap_error` are sums over tasks, which run side by side. Raises InputError for input that is wrong or a folder that
    holds another call's partners, EngineDied when a task kept losing its worker.
    """
    started = time.monotonic()
    parts = parts_of(source, columns)
    store = Store(out)
    identity = _identity(parts, columns, options)
    done = _begun(store, identity)
    if done:
        return done

    def build() -> tuple[Numbered, adjacency.Adjacency]:
        found = numbered(pool, parts, columns)
        shape = (found.users.count, found.items.count)
        both = adjacency.build(pool, pairs, found.parts, shape, count=adjacency.partitions(found.rows))
        return replace(found, parts=()), both

    found, both = pool.keep(_input_digest(parts, columns), build)
    shape = both.shape
    side_ids = found.users if options.side == "user" else found.items
    given, prepared = capping.give(
        pool,
        both,
        options.side,
        sharing.tasks(both.edges, _TASKS),
        options.settings,
        keys=(found.users.keys, found.items.keys),
        shuffle=shuffle,
        block_bytes=block_bytes,
    )
    counts = {"read": found.read, "interactions": found.rows, "pairs": both.edges, "users": shape[0], "items": shape[1]}
    mining = _Mining(digest_json([identity, out]), store, options.formula, options.top_k)
    prepared_at = time.monotonic()
    own, first = _first_pass(pool, mining, given, prepared)
    second = _each(pool, _mine, mining, prepared, "best", given, given.mined, own, side_ids.text)
    kernel, judging = (first + second).tolist()
    mined = time.monotonic() - prepared_at
    seconds = {"graph": prepared_at - started, "mining": mined, "kernel": kernel, "cap_error": judging}
    report = counts | _told(pool, mining, given, prepared) | {"seconds": seconds}
    store.write_text(json.dumps(report), REPORT)
    store.remove(_WORK)
    return report


def parts_in(out: Store) -> list[str]:
    """Names of the parts of a folder, in the order of the anchors."""
    return [name for name in out.names() if name.startswith("part-")]


def _input_digest(parts: Sequence[InputPart], columns: Columns) -> str:
    """Of which rows are read; files count by size and time of change."""
    stats = [(part.piece.path.stat(), part) for part in parts]
    files = [[str(p.piece.path), p.first, p.last, s.st_size, s.st_mtime_ns] for s, p in stats]
    return digest_json([files, asdict(columns)])


def _identity(parts: Sequence[InputPart], columns: Columns, options: Options) -> str:
    """Digest of what the result depends on."""
    names = ("users_per_item", "items_per_user", "target_features", "cap_seed", "exact_steps", "leaders")
    rules = {name: getattr(options.settings, name) for name in names}
    source = _input_digest(parts, columns)
    return digest_json([source, options.side, asdict(options.formula), options.top_k, rules])


def _begun(store: Store, identity: str) -> dict[str, Any]:
    """The report of the same call when it is done. Raises InputError when the folder is in other use."""
    there = [name for name in store.names() if not name.startswith(".")]
    job = store.find_text(_WORK, _JOB) or store.find_text(REPORT)
    if there and (job is None or json.loads(job)["identity"] != identity):
        raise InputError.at(store.where(), "", "holds something else than this call's partners", "name another folder")
    done = store.find_text(REPORT)
    if done:
        return dict(json.loads(done))
    store.write_text(json.dumps({"identity": identity}), _WORK, _JOB)
    return {}


def _each(pool: Pool, work: Any, mining: _Mining, prepared: Prepared, name: str, *more: Any) -> Floats:
    """Call `work` for each task that has not left `name`-NUMBER.npy yet, the dearest first; the sum of its seconds."""
    ready = set(mining.out.names(_WORK))
    left = [t for t in range(len(prepared.costs)) if f"{name}-{t:05d}.npy" not in ready]
    left.sort(key=lambda t: -prepared.costs[t])
    shared = pool.call(_same, mining)  # not sent anew with each task
    found = pool.results(work, [(shared, t, *more) for t in left])
    return np.asarray(np.sum([(0.0, 0.0), *found], axis=0))


def _same(value: Any) -> Any:
    return value


def _first_pass(pool: Pool, mining: _Mining, given: Given, prepared: Prepared) -> tuple[Handle | None, Floats]:
    """What scores are divided by, of all anchors, as a handle; seconds as of `_each`."""
    if mining.formula.normalize == "none":
        return None, np.zeros(2)
    seconds = _each(pool, _own, mining, prepared, "own", given.mined)
    return pool.call(_loaded, mining.out, "own", len(prepared.costs)), seconds


_MINERS: dict[str, Miner] = {}


def _miner(mining: _Mining, graph: Whole | Parted) -> Miner:
    """One for each process, as what the kernel prepares of a whole graph serves all of its tasks."""
    if mining.token not in _MINERS:
        _MINERS.clear()
        _MINERS[mining.token] = Miner(graph, mining.formula)
    return _MINERS[mining.token]


_Seconds = tuple[float, float]  # in the kernel, on the error of caps


def _own(mining: _Mining, task: int, graph: Whole | Parted) -> _Seconds:
    miner = _miner(mining, graph)
    started = time.monotonic()
    own = miner.own(task)
    seconds = time.monotonic() - started
    _leave(mining.out, own, "own", task)
    return seconds, 0.0


def _mine(
    mining: _Mining, task: int, given: Given, graph: Whole | Parted, own: Floats | None, ids: pa.Array
) -> _Seconds:
    """Write a part, and then the best partner of each of its anchors by number, which also says that it is there."""
    miner = _miner(mining, graph)
    started = time.monotonic()
    found = miner.topk(task, mining.top_k, own)
    seconds = time.monotonic() - started
    table = pa.table(
        {
            "anchor": ids.take(pa.array(found.anchor)).cast(pa.string()),
            "rank": found.rank,
            "partner": ids.take(pa.array(found.partner)).cast(pa.string()),
            "score": found.score,
            "shared": found.shared,
        },
        schema=SCHEMA,
    )
    mining.out.write_parquet(table, f"part-{task:05d}.parquet")
    fetched = miner.fetched
    started = time.monotonic()
    error = capping.error_of(given, mining.formula, miner.targets(task), found, mining.top_k, own)
    judged = time.monotonic() - started
    told = {"rows": table.num_rows, "blocks": len(fetched), "bytes": sum(fetched), "error": vars(error)}
    mining.out.write_text(json.dumps(told), _WORK, f"told-{task:05d}.json")
    _leave(mining.out, found.partner[found.rank == 0], "best", task)
    return seconds, judged


def _leave(out: Store, array: Floats | Ints, name: str, task: int) -> None:
    data = BytesIO()
    np.save(data, array, allow_pickle=False)
    out.write_bytes(data.getbuffer(), _WORK, f"{name}-{task:05d}.npy")


def _loaded(out: Store, name: str, tasks: int) -> Any:
    """What all tasks have left under a name, one after another."""
    found = [out.read_bytes(_WORK, f"{name}-{task:05d}.npy") for task in range(tasks)]
    return np.concatenate([np.load(BytesIO(some), allow_pickle=False) for some in found])


def _told(pool: Pool, mining: _Mining, given: Given, prepared: Prepared) -> dict[str, Any]:
    """What the tasks have left, added up; `bound`: of the bytes, what fetching everything for each block would take."""
    told = [json.loads(mining.out.read_text(_WORK, f"told-{task:05d}.json")) for task in range(len(prepared.costs))]
    blocks = sum(t["blocks"] for t in told)
    fetched = {"blocks": blocks, "bytes": sum(t["bytes"] for t in told), "bound": blocks * 4 * sum(prepared.edges)}
    hubs = pool.get(pool.call(_hubs, mining.out, len(told), given.mined, mining.formula.normalize))
    capped = not given.plan.exact
    error = CapError.merged([CapError(**t["error"]) for t in told]).as_dict() if capped else None
    warnings = [hubs.pop("warning"), cap_error.warning(error, mining.top_k) if error else ""]
    return {
        **json.loads(mining.out.read_text(_WORK, _JOB)),
        "rows": sum(t["rows"] for t in told),
        "parts": len(told),
        "graph_bytes": prepared.graph_bytes,
        "shuffle": fetched if prepared.shuffled else None,
        "caps": given.plan.as_dict(),
        **({"cap_error": error} if error else {}),
        **hubs,
        "warning": "; ".join(line for line in warnings if line),
    }


def _hubs(out: Store, tasks: int, graph: Whole | Parted, normalize: str) -> dict[str, Any]:
    degrees: Ints = graph.degrees if isinstance(graph, Whole) else graph.pool.get(graph.degrees)
    found = hubness(_loaded(out, "best", tasks), len(degrees), degrees=degrees, normalize=normalize)
    return found.as_dict() | {"warning": found.warning}
