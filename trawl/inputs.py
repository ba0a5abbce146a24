"""What a stage's worker may read: the declared tables, the declared raw inputs, and the rows scattered to its bucket.

Small enough to be sent to every worker; tables are read where they are used. Three ways, by size:
`part` one part; `mapped` and `array` a table or column of any size, memory-mapped once per node and shared by its
workers; `table` the whole table in this process, for tables of the size of the item catalogue's ids and titles.
"""

import contextlib
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from trawl.errors import ArtifactError
from trawl.filesystems import explained
from trawl.store import Manifest, Part, Store, digest_bytes, digest_json

_KEEP_DAYS = 7


@dataclass(frozen=True)
class Inputs:
    """The opened inputs of one stage run."""

    store: Store
    fingerprints: Mapping[str, str]  # artifact -> fingerprint
    sources: Mapping[str, str] = field(default_factory=dict)  # raw inputs: key -> path
    work: tuple[str, ...] = ()  # folder of the scattered rows, below the store's root
    shared: Any = field(default=None, repr=False, compare=False)  # what the stage had made for all its workers
    _manifests: dict[str, Manifest] = field(default_factory=dict, repr=False, compare=False)
    _scattered: dict[tuple[int, str], list[int]] = field(default_factory=dict, repr=False, compare=False)

    def manifest(self, name: str) -> Manifest:
        """Raises ArtifactError naming the table when it is not declared or not published."""
        if name not in self.fingerprints:
            raise ArtifactError(f"{name}: not among this stage's inputs ({', '.join(self.fingerprints) or 'none'})")
        if name not in self._manifests:
            found = self.store.manifest(name, self.fingerprints[name])
            if found is None:
                where = self.store.where(name, self.fingerprints[name])
                raise ArtifactError(f"{where}: not published; run `trawl run RECIPE --until {name}` first")
            self._manifests[name] = found
        return self._manifests[name]

    def has(self, name: str) -> bool:
        return name in self.fingerprints

    def parts(self, name: str) -> tuple[Part, ...]:
        return self.manifest(name).parts

    def count(self, name: str) -> int:
        """Rows of a table; of an index table also its largest index."""
        return self.manifest(name).rows

    def part(self, name: str, number: int, columns: list[str] | None = None) -> pa.Table:
        """One part, checked against its digest. Raises ArtifactError naming the file."""
        entry = self.parts(name)[number]
        return pq.read_table(pa.BufferReader(self.part_bytes(name, entry)), columns=columns)

    def part_bytes(self, name: str, entry: Part) -> pa.Buffer:
        data = self.store.read_bytes(name, self.fingerprints[name], entry.path)
        if digest_bytes(data) != entry.digest:
            where = self.store.where(name, self.fingerprints[name], entry.path)
            raise ArtifactError(
                f"{where}: altered since it was published; remove {name}/{self.fingerprints[name]} and run again"
            )
        return data

    def each(self, name: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The parts one after another."""
        for number in range(len(self.parts(name))):
            yield self.part(name, number, columns)

    def table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """The whole table in this process: for catalogue-sized tables only."""
        return pa.concat_tables(self.each(name, columns))

    def _content(self, name: str) -> str:
        """What the table holds: answers of a language model may differ between stores under one fingerprint."""
        return digest_json([self.fingerprints[name], *(part.digest for part in self.parts(name))])

    def mapped(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """The whole table, memory-mapped from a file that is built once per node."""

        def build(path: Path) -> None:
            sink: Any = None
            for table in self.each(name, columns):
                sink = sink or pa.ipc.new_file(str(path), table.schema)
                sink.write_table(table)
            sink.close()

        path = node_file(digest_json([name, self._content(name), columns]), ".arrow", build)
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()

    def array(self, name: str, column: str) -> npt.NDArray[Any]:
        """One numeric or boolean column over all parts in order, memory-mapped once per node."""

        def build(path: Path) -> None:
            kind = self.part(name, 0, [column]).slice(0, 0).column(0).to_numpy().dtype
            out = _memmap(path, kind, (self.count(name),))
            at = 0
            for table in self.each(name, [column]):
                out[at : at + table.num_rows] = table.column(0).to_numpy()
                at += table.num_rows
            out.flush()

        path = node_file(digest_json([name, self._content(name), column]), ".npy", build)
        return _load(path)

    def vectors(self, name: str, count: int, kind: type[np.floating] = np.float16) -> npt.NDArray[Any]:
        """(count + 1, d) of the column's float type, row = index, row 0 and missing ones zero; mapped once per node."""

        def build(path: Path) -> None:
            width = next((len(t.column(0)[0]) for t in self.each(name, ["vector"]) if t.num_rows), 1)
            out = _memmap(path, kind, (count + 1, width))
            for table in self.each(name, ["entity", "vector"]):
                flat = table.column("vector").combine_chunks().flatten().to_numpy(zero_copy_only=False)
                out[table.column("entity").to_numpy()] = flat.reshape(-1, width)
            out.flush()

        path = node_file(digest_json([name, self._content(name), "vectors", count]), ".npy", build)
        return _load(path)

    def scattered(self, phase: int, bucket: int) -> pa.Table:
        """All rows that the tasks of a phase sent to a bucket, in the order of the tasks' names."""
        tables = []
        for task in self._scatter_tasks(phase):
            if self._counts(phase, task)[bucket]:
                tables.append(self._bucket(phase, task, bucket))
        if tables:
            return pa.concat_tables(tables)
        return self._bucket(phase, self._scatter_tasks(phase)[0], bucket)

    def scattered_rows(self, phase: int) -> list[int]:
        """Rows in each bucket of a phase."""
        counts = [self._counts(phase, task) for task in self._scatter_tasks(phase)]
        return [sum(column) for column in zip(*counts, strict=True)]

    def _scatter_tasks(self, phase: int) -> list[str]:
        names = self.store.names(*self.work, f"phase-{phase}")
        return [n.removesuffix(".json") for n in names if n.endswith(".json")]

    def _counts(self, phase: int, task: str) -> list[int]:
        """Read once per worker: each of its buckets asks for the counts of every task."""
        if (phase, task) not in self._scattered:
            counts: list[int] = json.loads(self.store.read_text(*self.work, f"phase-{phase}", f"{task}.json"))
            self._scattered[phase, task] = counts
        return self._scattered[phase, task]

    def _bucket(self, phase: int, task: str, bucket: int) -> pa.Table:
        with pa.ipc.open_file(self.store.open_file(*self.work, f"phase-{phase}", f"{task}.arrow")) as reader:
            return pa.Table.from_batches([reader.get_batch(bucket)])


def node_file(key: str, suffix: str, build: Callable[[Path], None]) -> Path:
    """A file that every process of this node shares, built once under a temporary name and then renamed.

    Raises StoreError naming the node's cache when it is full.
    """
    folder = node_folder()
    path = folder / f"{key}{suffix}"
    if not path.exists():
        temporary = folder / f".{uuid.uuid4().hex}{suffix}"
        try:
            build(temporary)
            temporary.replace(path)
        except OSError as error:
            raise explained(error, f"{folder} (TRAWL_NODE_CACHE)", "writing what this node shares") from error
        finally:
            temporary.unlink(missing_ok=True)
    os.utime(path)
    return path


def node_folder() -> Path:
    root = os.environ.get("TRAWL_NODE_CACHE") or f"{tempfile.gettempdir()}/trawl-{os.getuid()}"
    folder = Path(root)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ArtifactError(f"{folder}: belongs to another user; set TRAWL_NODE_CACHE to a folder of your own")
    limit = time.time() - _KEEP_DAYS * 86400
    for old in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            if old.stat().st_mtime < limit:
                shutil.rmtree(old) if old.is_dir() else old.unlink()
    return folder


def _memmap(path: Path, kind: Any, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    out: np.memmap[Any, Any] = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)  # type: ignore[no-untyped-call]
    with path.open("r+b") as file:  # else a full disk shows as SIGBUS when the map is written, which ends the process
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return out


def _load(path: Path) -> npt.NDArray[Any]:
    out: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return out
