"""The answer cache: what an engine has answered, by prompt digest, shared by all runs and recipes of a store.

    <store>/cache/answers/<first two hex digits of the digest>/<segment>.parquet

Segments are immutable, written whole and under names of their own, so any number of writers may append at once. When a
digest stands in several segments, the one of the first segment name holds: every reader sees the same.
"""

import uuid
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trawl.errors import ArtifactError
from trawl.extraction.answers import ANSWER
from trawl.store import Store

_HOME = ("cache", "answers")
_SUFFIX = ".parquet"


class AnswerCache:
    """Answers in a store, in the shared folder or one of their own."""

    def __init__(self, store: Store, home: tuple[str, ...] = _HOME) -> None:
        self.store, self.home = store, home

    def lookup(self, digests: Iterable[str]) -> pa.Table:
        """Rows (schema ANSWER, sorted by digest) of those digests that are known. Raises ArtifactError."""
        wanted: dict[str, list[str]] = {}
        for digest in digests:
            wanted.setdefault(digest[:2], []).append(digest)
        found = [ANSWER.empty_table()]
        for bucket, mine in sorted(wanted.items()):
            for name in self._segments(bucket):
                table = self._read(bucket, name)
                found.append(table.filter(pc.is_in(table.column("digest"), pa.array(mine, pa.string()))))
        return _first(pa.concat_tables(found))

    def append(self, rows: pa.Table) -> None:
        """Add answers (schema ANSWER) at once; each bucket's rows become one segment."""
        rows = rows.cast(ANSWER)
        bucket_of = pc.utf8_slice_codeunits(rows.column("digest"), 0, 2)
        for bucket in sorted(set(bucket_of.to_pylist())):
            mine = rows.filter(pc.equal(bucket_of, bucket))
            self.store.write_parquet(mine, *self.home, bucket, f"{uuid.uuid4().hex}{_SUFFIX}")

    def compact(self, bucket: str) -> int:
        """Merge a bucket's segments into one; returns how many there were. Answers appended meanwhile stay."""
        names = self._segments(bucket)
        if len(names) > 1:
            merged = _first(pa.concat_tables([self._read(bucket, name) for name in names]))
            # It takes the name of the first segment, so that a reader sees each digest from the same row as before.
            self.store.write_parquet(merged, *self.home, bucket, names[0])
            for name in names[1:]:
                self.store.remove(*self.home, bucket, name)
        return len(names)

    def buckets(self) -> list[str]:
        return self.store.names(*self.home)

    def _segments(self, bucket: str) -> list[str]:
        return [n for n in self.store.names(*self.home, bucket) if n.endswith(_SUFFIX) and not n.startswith(".")]

    def _read(self, bucket: str, name: str) -> pa.Table:
        where = self.store.where(*self.home, bucket, name)
        try:
            return pq.read_table(pa.BufferReader(self.store.read_bytes(*self.home, bucket, name))).cast(ANSWER)
        except (pa.ArrowException, ValueError) as error:
            raise ArtifactError(
                f"{where}: a broken segment of the answer cache ({str(error).splitlines()[0]}); remove the file: its "
                "answers are asked again"
            ) from None


def _first(rows: pa.Table) -> pa.Table:
    """One row per digest, the first one, sorted by digest."""
    if not rows.num_rows:
        return rows
    _, first = np.unique(rows.column("digest").to_numpy(zero_copy_only=False).astype(str), return_index=True)
    return rows.take(pa.array(first)).combine_chunks()
