"""The answer cache: what an engine has answered, by prompt digest; runs, recipes and stores that name it share it.

`resources.answer_cache` names where it is, any path or URI; without it, it is `cache/answers` of the store. Segments
(see `segments`) are immutable and have names of their own, so any number of writers may append at once and nobody
locks anything. Merging writes new segments first, then a record of those that they replace, and removes these only when
the record is older than any reader takes between its listing and its last file; so a reader never misses an answer, on
an object store neither. When a digest stands in several segments, the highest generation holds (`trawl retry` begins
one), and of one generation the earliest: every reader sees the same, before and after merging.
"""

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from math import ceil

import pyarrow as pa
import pyarrow.compute as pc

from trawl.config import Config
from trawl.errors import StoreError
from trawl.extraction import segments
from trawl.extraction.answers import ANSWER
from trawl.extraction.segments import KEPT, MERGED, PREFIX, Segment
from trawl.inputs import Inputs
from trawl.sections import Again
from trawl.store import Store, digest_bytes

HOME, HELD = ("cache", "answers"), ("cache", "held")
_SMALL, _LARGE = 16_384, 65_536  # rows of segments that are merged, and of what they are merged into
_MANY = 1024  # small segments that a reader puts up with
_DEEP = 16  # wide segments that may lie over each other before they are cut by digest
_GRACE = 900.0  # seconds from a merge to the removal of what it replaced
_LOCKED = 600.0  # seconds that another's merge is waited for; it may have died
_TRIES = 20
_AT_ONCE = 8


class AnswerCache:
    """Answers below one folder of a store."""

    def __init__(
        self,
        store: Store,
        home: tuple[str, ...] = HOME,
        *,
        origin: str = "",
        again: Again | None = None,
        held: "AnswerCache | None" = None,
        listed: "AnswerCache | None" = None,
    ) -> None:
        """`origin`: what asks, kept with each answer that it appends. `again`: answers that do not count any more.

        `held`: rows that are not asked again although they are no answers. `listed`: rows whose answers do not count
        any more whatever their status is here.
        """
        self.store, self.home, self.origin = store, home, origin
        self.again, self.held, self.listed = again or Again(), held, listed

    def lookup(self, digests: Iterable[str]) -> pa.Table:
        """Rows (schema ANSWER, sorted by digest) of those digests that are known. Raises ArtifactError, StoreError."""
        return self.find(digests).select(ANSWER.names)

    def find(self, digests: Iterable[str]) -> pa.Table:
        """The same with generation, origin and stamp (schema KEPT)."""
        wanted = pa.array(sorted(set(digests)), pa.string())
        if not len(wanted):
            return KEPT.empty_table()
        low, high = wanted[0].as_py()[:PREFIX], wanted[-1].as_py()[:PREFIX]
        kept, read = [KEPT.empty_table()], set[str]()
        for _ in range(_TRIES):
            left = [s for s in self.segments(low, high) if s.name not in read]
            if self._merge_small(left):
                continue
            complete = True
            for segment, rows in self._rows(left, low, high):
                if rows is None:  # merged and removed since it was listed: what holds its rows is in the next listing
                    complete = False
                    continue
                read.add(segment.name)
                kept.append(rows.filter(pc.is_in(rows.column("digest"), value_set=wanted)))
            if complete:
                return self._with_held(wanted, self._counted(segments.best(pa.concat_tables(kept))))
        raise StoreError(f"{self.store.where(*self.home)}: its segments change faster than they can be read; run again")

    def append(self, rows: pa.Table) -> None:
        """Add answers (schema ANSWER) as one segment, whole or not at all."""
        if not rows.num_rows:
            return
        rows = rows.cast(ANSWER).sort_by("digest")
        standing = {"generation": self.again.generation, "origin": self.origin, "stamp": segments.stamp()}
        for name, value in standing.items():
            rows = rows.append_column(name, pa.repeat(pa.scalar(value, KEPT.field(name).type), rows.num_rows))
        segments.write(self.store, self.home, rows)

    def segments(self, low: str = "", high: str = "g") -> list[Segment]:
        """Segments that may hold digests between two prefixes, without those whose rows stand in others by now."""
        listed = self.store.sizes(*self.home)
        replaced = self._replaced(listed)
        if replaced:  # what replaces them was written before the record, but perhaps after it was passed in the listing
            listed = self.store.sizes(*self.home)
        found = (segments.parsed(path, size) for path, size in sorted(listed.items()) if path not in replaced)
        return [s for s in found if s and s.overlaps(low, high)]

    def compact(self, deep: bool = True) -> int:
        """Merge small segments, and with `deep` cut wide ones by digest; returns how many were merged.

        Holds a hundred megabytes or so, however large the cache is. Several may do it at once: rows that they both
        wrote are merged the next time.
        """
        self.sweep()
        merged = 0
        small = [s for s in self.segments() if s.rows < _SMALL]
        for group in segments.grouped(small, _LARGE):
            merged += self._rewrite(group) if len(group) > 1 else 0
        wide = [s for s in self.segments() if s.wide] if deep else []
        return merged + (self._rewrite(wide) if len(wide) > _DEEP else 0)

    def sweep(self, grace: float = _GRACE) -> int:
        """Remove segments that were merged longer ago than `grace` seconds; returns how many."""
        gone = 0
        for name in self.store.names(*self.home, MERGED):
            if name.endswith(".json") and segments.age(name) >= grace:
                for path in json.loads(self.store.find_text(*self.home, MERGED, name) or "[]"):
                    self.store.remove_file(*self.home, *path.split("/"))
                    gone += 1
                self.store.remove_file(*self.home, MERGED, name)
        return gone

    def _counted(self, rows: pa.Table) -> pa.Table:
        """Without answers that are to be asked again."""
        if not self.again.generation or not rows.num_rows:
            return rows
        again = pc.is_in(rows.column("status"), value_set=pa.array(self.again.statuses, pa.string()))
        if self.listed:
            due = self.listed.find(rows.column("digest").to_pylist()).column("digest")
            again = pc.or_(again, pc.is_in(rows.column("digest"), value_set=due))
        old = pc.less(rows.column("generation"), self.again.generation)
        return rows.filter(pc.invert(pc.and_(again, old)))

    def _with_held(self, wanted: pa.Array, rows: pa.Table) -> pa.Table:
        if self.held is None:
            return rows
        left = wanted.filter(pc.invert(pc.is_in(wanted, value_set=rows.column("digest"))))
        return pa.concat_tables([rows, self.held.find(left.to_pylist())]).sort_by("digest")

    def _rows(self, listed: list[Segment], low: str, high: str) -> Iterator[tuple[Segment, pa.Table | None]]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:  # each is a round trip where the cache is far away
            for start in range(0, len(listed), _AT_ONCE):
                few = listed[start : start + _AT_ONCE]
                yield from zip(
                    few,
                    pool.map(lambda s: segments.read(self.store, self.home, s, low, high), few),
                    strict=True,
                )

    def _replaced(self, listed: Iterable[str]) -> set[str]:
        records = [path for path in listed if path.startswith(f"{MERGED}/") and path.endswith(".json")]
        return {
            name for path in records for name in json.loads(self.store.find_text(*self.home, *path.split("/")) or "[]")
        }

    def _rewrite(self, group: list[Segment]) -> int:
        """The rows of these segments in new ones, each with its share of the digests; then they are replaced."""
        pieces = ceil(sum(s.rows for s in group) / _LARGE)
        bounds = [f"{(piece << 4 * PREFIX) // pieces:0{PREFIX}x}" for piece in range(pieces)] + ["g"]
        for low, high in zip(["", *bounds[1:]], bounds[1:], strict=False):
            tables = [KEPT.empty_table()]
            for _, rows in self._rows([s for s in group if s.overlaps(low, high)], low, high):
                if rows is None:  # another merged it: what was written so far is there twice, no more
                    return 0
                digest = rows.column("digest")
                tables.append(rows.filter(pc.and_(pc.greater_equal(digest, low), pc.less(digest, high))))
            whole = segments.best(pa.concat_tables(tables))
            if whole.num_rows:
                segments.write(self.store, self.home, whole)
        self.store.write_text(json.dumps([s.name for s in group]), *self.home, MERGED, f"{segments.stamp()}.json")
        return len(group)

    def _merge_small(self, listed: list[Segment]) -> bool:
        """Merge when there are so many small segments that reading them takes long; True when it was done."""
        if sum(s.rows < _SMALL for s in listed) <= _MANY:
            return False
        held = self.store.find_text(*self.home, MERGED, "busy")
        if held and segments.age(held) < _LOCKED:  # no lock: two at once do no harm, only double work
            return False
        self.store.write_text(segments.stamp(), *self.home, MERGED, "busy")
        try:
            return self.compact(deep=False) > 0
        finally:
            with suppress(StoreError):
                self.store.remove_file(*self.home, MERGED, "busy")


def held_answers(store: Store, generation: int) -> AnswerCache:
    """Rows that `trawl retry` of this generation leaves as they are, although no answer was kept for them."""
    return AnswerCache(store, (*HELD, str(generation), "stay"))


def listed_answers(store: Store, generation: int) -> AnswerCache:
    """Rows that `trawl retry` of this generation asks again for a status that they got after they were kept."""
    return AnswerCache(store, (*HELD, str(generation), "again"))


def cache_store(store: Store, cfg: Config) -> Store:
    """The store whose cache serves runs of this one."""
    return Store(cfg.resources.answer_cache) if cfg.resources.answer_cache else store


def answer_cache(inputs: Inputs, cfg: Config) -> AnswerCache:
    """The cache that a stage's worker asks and adds to."""
    store = cache_store(inputs.store, cfg)
    again = cfg.retry.item if inputs.work[0].startswith("item") else cfg.retry.user
    origin, generation, here = asker(inputs), again.generation, inputs.store
    if not generation:
        return AnswerCache(store, origin=origin)
    held, listed = held_answers(here, generation), listed_answers(here, generation)
    return AnswerCache(store, origin=origin, again=again, held=held, listed=listed)


def asker(inputs: Inputs) -> str:
    """The table that is being made, and of which store: others may make one of the same fingerprint."""
    return f"{'/'.join(inputs.work[:2])}@{digest_bytes(inputs.store.where().encode())[:8]}"
