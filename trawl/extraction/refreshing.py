"""A user's earlier answer serves until enough is new (R 4.5): refresh.user = {min_new, max_age_days}, refresh.base.

The base is an earlier user_answers. For a user whose answer there carries text, was made for an earlier cut-off than
today's, with fewer than `min_new` interactions and no more than `max_age_days` between the two, the prompt is made for
that cut-off again, from today's data. Only when it is then the very prompt that was answered (the same digest: texts,
titles, profile, template, engine) does it stand in for today's; the cache has its answer. So an answer that has seen
anything but this user's interactions before its cut-off, and so anything behind today's, never serves.
"""

import json
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trawl.config import Config
from trawl.errors import ArtifactError, ConfigError
from trawl.extraction import tally
from trawl.extraction.answers import OK, TRUNCATED
from trawl.inputs import Inputs
from trawl.schemas import CONTRACTS, INDEX
from trawl.stage import Task
from trawl.store import Store

_ANSWERS = "user_answers"
_DAY = 86400.0  # a log's times are in seconds
_KEYS = ("refresh.user",)
_Ints = npt.NDArray[np.int64]


def active(cfg: Config) -> bool:
    """Whether earlier answers may serve at all."""
    return bool(cfg.refresh.base) and cfg.refresh.user.min_new > 0


def keys(cfg: Config) -> tuple[str, ...]:
    """Dotted keys that change the prompts; none while nothing serves."""
    return _KEYS if active(cfg) else ()


def models(cfg: Config) -> dict[str, str]:
    """The base by its fingerprint. Raises ConfigError when there is none."""
    return {"refresh.base": f"{_ANSWERS}/{located(cfg.refresh.base)[1]}"} if active(cfg) else {}


def located(base: str) -> tuple[str, str]:
    """(URI of the store, fingerprint of user_answers) of `<store>/runs/<name>` or `<store>/user_answers/<fingerprint>`.

    Raises ConfigError.
    """
    uri, mark, query = base.partition("?") if "://" in base else (base, "", "")
    root, _, last = uri.rstrip("/").rpartition("/")
    root, _, kind = root.rpartition("/")
    if kind == _ANSWERS:
        return f"{root}{mark}{query}", last
    if kind != "runs":
        raise ConfigError(f"refresh.base = {base}: name a run, <store>/runs/<name> or <store>/{_ANSWERS}/<fingerprint>")
    text = Store(f"{root}{mark}{query}").find_text("runs", last, "run.json")
    if text is None:
        raise ConfigError(f"refresh.base = {base}: no such run; leave it empty for a first run")
    made = _record(text).get(_ANSWERS)
    if made is None:
        raise ConfigError(f"refresh.base = {base}: that run makes no {_ANSWERS}")
    return f"{root}{mark}{query}", made["fingerprint"]


def _record(text: str) -> dict[str, dict[str, str]]:
    artifacts: dict[str, dict[str, str]] = json.loads(text)["artifacts"]
    return artifacts


class Earlier:
    """The answers of the base by today's users. Its tables are memory-mapped once per node."""

    def __init__(self, inputs: Inputs, cfg: Config) -> None:
        """Raises ArtifactError when the base is not there or does not say what its answers were made for."""
        root, mark = located(cfg.refresh.base)
        store, where = Store(root), f"refresh.base = {cfg.refresh.base}"
        manifest = store.manifest(_ANSWERS, mark)
        if manifest is None:
            raise ArtifactError(f"{where}: {_ANSWERS}/{mark} is not published; finish that run or name another")
        if manifest.contract != CONTRACTS[_ANSWERS].version:
            raise ArtifactError(f"{where}: made by another trawl, it does not say for which cut-offs; name another run")
        self.refresh = cfg.refresh.user
        self.base = Inputs(store, {_ANSWERS: mark, "users": manifest.inputs["users"]})
        self.answers = self.base.mapped(_ANSWERS, ["entity", "status", "digest", "cutoff"])
        same = manifest.inputs["users"] == inputs.fingerprints["users"] and store.where() == inputs.store.where()
        self.ids = None if same else self.base.mapped("users", ["user", "user_id"])

    def candidates(self, users: pa.Table, cutoffs: pa.Table, log: pa.Table) -> pa.Table:
        """user, cutoff, digest of answers that are young enough; `users`, `cutoffs`, `log`: one part of today's."""
        owners, rows = self._rows(users)
        found = self.answers.take(pa.array(rows))
        text = pc.is_in(found.column("status"), value_set=pa.array([OK, TRUNCATED]))
        kept = np.flatnonzero(pc.and_(text, pc.is_valid(found.column("cutoff"))).to_numpy(zero_copy_only=False))
        owners, found = owners[kept], found.take(pa.array(kept))
        then = found.column("cutoff").to_numpy()
        now = cutoffs.column("cutoff").to_numpy()[_place(cutoffs.column("user").to_numpy(), owners)]
        serves = (then < now) & (now - then < self.refresh.min_new)  # never one that was made for a later cut-off
        owners, then, now = owners[serves], then[serves], now[serves]
        found = found.filter(pa.array(serves))
        young = np.ones(len(owners), dtype=bool)
        if self.refresh.max_age_days:
            young = _days(log, owners, then, now) <= self.refresh.max_age_days
        digests = found.column("digest").filter(pa.array(young))
        return pa.table({"user": owners[young], "cutoff": then[young], "digest": digests})

    def _rows(self, users: pa.Table) -> tuple[_Ints, npt.NDArray[np.int64]]:
        """Today's users that the base knows, and their rows there."""
        mine = users.column("user").to_numpy()
        if self.ids is None:
            return mine, mine - 1
        at = pc.index_in(self.ids.column("user_id"), value_set=users.column("user_id").combine_chunks())
        there = np.flatnonzero(at.is_valid().to_numpy())
        return mine[at.drop_null().to_numpy()], self.ids.column("user").take(pa.array(there)).to_numpy() - 1


class Refreshed:
    """Prompts of today, or of an earlier cut-off where its answer serves. `prompts`: those of a part at cut-offs."""

    def __init__(self, prompts: Callable[[Task, pa.Table], pa.Table], inputs: Inputs, cfg: Config) -> None:
        self.prompts, self.inputs, self.earlier = prompts, inputs, Earlier(inputs, cfg)

    def __call__(self, task: Task) -> pa.Table:
        part = self.inputs.part
        cutoffs = part("cutoffs", task.number, ["user", "cutoff"])
        log = part("log", task.number, ["user", "position", "time"])
        found = self.earlier.candidates(part("users", task.number, ["user", "user_id"]), cutoffs, log)
        then = np.zeros(cutoffs.num_rows, dtype=np.int64)  # nothing stands before 0: of the others no prompt is made
        then[_place(cutoffs.column("user").to_numpy(), found.column("user").to_numpy())] = found.column("cutoff")
        now, old = self.prompts(task, cutoffs), self.prompts(task, cutoffs.set_column(1, "cutoff", pa.array(then)))
        due = found.column("digest").take(pc.index_in(old.column("entity"), value_set=_array(found, "user")))
        serving = pc.unique(old.column("entity").filter(pc.equal(due, old.column("digest"))))
        served = old.filter(pc.is_in(old.column("entity"), value_set=serving))
        rest = now.filter(pc.invert(pc.is_in(now.column("entity"), value_set=serving)))
        tally.keep_counts(self.inputs, task.name, {"served_by_earlier": len(serving)})
        return pa.concat_tables([rest, served])


def notes(inputs: Inputs, cfg: Config) -> dict[str, int]:
    """How many users are served by an earlier answer, while any may be."""
    return tally.asked(inputs) if active(cfg) else {}


def _array(table: pa.Table, name: str) -> pa.Array:
    return pa.array(table.column(name).to_numpy(), INDEX)


def _place(sorted_users: _Ints, users: _Ints) -> npt.NDArray[np.int64]:
    """Row of each of these users; a part of cut-offs is sorted by user and has them all."""
    return np.searchsorted(sorted_users, users).astype(np.int64)


def _days(log: pa.Table, users: _Ints, then: _Ints, now: _Ints) -> npt.NDArray[np.float64]:
    """Days between the last interactions before two cut-offs of each user; `log`: sorted by user and position."""
    first = np.searchsorted(log.column("user").to_numpy(), users)
    time = log.column("time").to_numpy()
    passed: npt.NDArray[np.float64] = (time[first + now - 1] - time[first + then - 1]) / _DAY
    return passed
