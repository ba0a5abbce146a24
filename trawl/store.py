"""Artifacts by fingerprint on any filesystem URI.

    <store>/<artifact>/<fingerprint>/part-00000.parquet ... and _manifest.json, written last
    <store>/runs/<name>/run.json, result.json, report.html, log.jsonl and runs/index.html over all runs
    <store>/cache/...            answers shared by all runs
    <store>/pointers/<name>      the only mutable things: named references, swapped atomically

No manifest, no artifact: a folder without one is work in progress and is resumed or collected.
"""

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from trawl import digests
from trawl.errors import ArtifactError
from trawl.filesystems import explained, place, reach

MANIFEST = "_manifest.json"
INDEX = "index.html"  # in runs/, over all of them
_TEMPORARY = ".tmp"
_ONE_PUT = 5 << 20  # bytes; pyarrow puts what is smaller than its parts (10 MiB) by one request


digest_bytes, digest_json = digests.digest_bytes, digests.digest_json


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file of an artifact and what it holds. `keys` is the sum of the hashes of its distinct first keys."""

    path: str
    rows: int
    bytes: int
    digest: str
    entities: int = 0  # distinct values of the first key column
    keys: int = 0
    statuses: Mapping[str, int] = field(default_factory=dict)
    first: int = 0  # smallest and largest value of the first key column
    last: int = 0


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What was published: identity, what it was made of, the parts, and how it went."""

    artifact: str
    contract: int
    version: int
    fingerprint: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    sources: Mapping[str, str]
    models: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[Part, ...]
    rows: int
    statuses: Mapping[str, int]
    seconds: float
    peak_mib: float = 0.0
    libraries: Mapping[str, str] = field(default_factory=dict)
    commit: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False)

    @staticmethod
    def from_json(text: str, where: str) -> "Manifest":
        """Raises ArtifactError when the text is not a manifest of this version of trawl."""
        try:
            tree = json.loads(text)
            tree["parts"] = tuple(Part(**p) for p in tree["parts"])
            return Manifest(**tree)
        except (ValueError, TypeError, KeyError) as error:
            raise ArtifactError(
                f"{where}: not a manifest this version can read ({error}); run `trawl gc` or use another store"
            ) from None


class Store:
    """Reads and writes under one root. Every write is whole or absent; failures are one StoreError.

    Any number of processes may write artifacts at once: what two of them write under one name is the same. The files
    of a run and lines that are appended have one writer, the run's driver.
    """

    def __init__(self, uri: str) -> None:
        """`uri`: a path or any URI that pyarrow's filesystems know; a remote one is asked once whether it answers.

        Raises ConfigError (no such filesystem, bucket or right), StoreError (no answer).
        """
        self._open(uri)
        if not self.place.local:
            reach(uri)

    def _open(self, uri: str) -> None:
        self.uri, self.place = uri, place(uri)
        self.fs, self.root = self.place.fs, self.place.root

    def __reduce__(self) -> tuple[Any, ...]:
        return (_again, (self.place.root if self.place.local else self.uri,))

    def path(self, *names: str) -> str:
        """Where a file is, for `fs`."""
        return "/".join((self.root.rstrip("/"), *names))

    def where(self, *names: str) -> str:
        """Where a file is, for people: a path, or a URI that can be given again."""
        return self.place.where(*names)

    @contextmanager
    def _told(self, doing: str, names: tuple[str, ...]) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise explained(error, self.where(), f"{doing} {'/'.join(names)}") from error

    def _info(self, names: tuple[str, ...]) -> pafs.FileInfo:
        with self._told("looking for", names):
            return self.fs.get_file_info(self.path(*names))

    def exists(self, *names: str) -> bool:
        return bool(self._info(names).type != pafs.FileType.NotFound)

    def size(self, *names: str) -> int:
        """Bytes of a file; -1 when there is none."""
        info = self._info(names)
        return int(info.size) if info.type == pafs.FileType.File else -1

    def sizes(self, *names: str) -> dict[str, int]:
        """Bytes of every file below a folder, by its path below it: one request for thousands of files."""
        selector = pafs.FileSelector(self.path(*names), allow_not_found=True, recursive=True)
        with self._told("listing", names):
            found = self.fs.get_file_info(selector)
        start = len(self.path(*names)) + 1
        return {i.path[start:]: int(i.size) for i in found if i.type == pafs.FileType.File}

    def find_bytes(self, *names: str) -> pa.Buffer | None:
        """A file's contents, or None when there is no such file."""
        with self._told("reading", names):
            try:
                with self.fs.open_input_file(self.path(*names)) as file:
                    return file.read_buffer()
            except FileNotFoundError:
                return None

    def find_text(self, *names: str) -> str | None:
        """A file's text, or None when there is no such file."""
        found = self.find_bytes(*names)
        return None if found is None else str(found.to_pybytes(), "utf-8")

    def read_bytes(self, *names: str) -> pa.Buffer:
        """Raises ArtifactError when there is no such file."""
        found = self.find_bytes(*names)
        if found is None:
            raise ArtifactError(f"{self.where(*names)}: missing; run the stage that makes it again")
        return found

    def read_text(self, *names: str) -> str:
        return str(self.read_bytes(*names).to_pybytes(), "utf-8")

    def find_file(self, *names: str) -> pa.NativeFile | None:
        """A file opened for reading pieces of it, or None when there is no such file."""
        with self._told("reading", names):
            try:
                return self.fs.open_input_file(self.path(*names))
            except FileNotFoundError:
                return None

    def open_file(self, *names: str) -> pa.NativeFile:
        """A file opened for reading pieces of it. Raises ArtifactError when there is none."""
        found = self.find_file(*names)
        if found is None:
            raise ArtifactError(f"{self.where(*names)}: missing; run the stage that makes it again")
        return found

    def write_bytes(self, data: bytes | memoryview | pa.Buffer, *names: str) -> None:
        """Write a file atomically: a temporary name and a rename over the target, or one put into an object store."""
        with self._told("writing", names):
            if self.place.objects:
                self._put(data, self.path(*names))
            else:
                self._rename_into(data, self.path(*names))

    def _put(self, data: bytes | memoryview | pa.Buffer, target: str) -> None:
        """The stream's close completes an upload, also one that an exception ended, with what was written so far.

        So nothing but a single write stands between open and close. A small file is held back and put by one request;
        the upload of a large one has begun when the stream opens: a failed part then fails the close.
        """
        small = memoryview(data).nbytes <= _ONE_PUT
        out = (self.place.small if small else self.fs).open_output_stream(target)
        try:
            out.write(data)
        finally:
            out.close()

    def _rename_into(self, data: bytes | memoryview | pa.Buffer, target: str) -> None:
        folder, _, name = target.rpartition("/")
        temporary = f"{folder}/.{name}.{uuid.uuid4().hex[:8]}{_TEMPORARY}"
        try:
            self.fs.create_dir(folder, recursive=True)
            with self.fs.open_output_stream(temporary) as out:
                out.write(data)
            if self.fs.type_name == "hdfs" and self.fs.get_file_info(target).type == pafs.FileType.File:
                self.fs.delete_file(target)  # its rename does not replace
            self.fs.move(temporary, target)
        except BaseException:
            with suppress(OSError):  # the first error is the one to tell
                if self.fs.get_file_info(temporary).type == pafs.FileType.File:
                    self.fs.delete_file(temporary)
            raise

    def write_text(self, text: str, *names: str) -> None:
        self.write_bytes(text.encode("utf-8"), *names)

    def append_line(self, line: str, *names: str) -> None:
        """Add a line to a small file by writing it anew; one writer at a time."""
        self.write_text(f"{self.find_text(*names) or ''}{line}\n", *names)

    def names(self, *names: str) -> list[str]:
        """Sorted names in a folder; none when it does not exist."""
        selector = pafs.FileSelector(self.path(*names), allow_not_found=True)
        with self._told("listing", names):
            return sorted(i.base_name for i in self.fs.get_file_info(selector))

    def remove(self, *names: str) -> None:
        """Remove a file or a folder with all in it, if it is there."""
        kind = self._info(names).type
        with self._told("removing", names), suppress(FileNotFoundError):  # another process was quicker
            if kind == pafs.FileType.Directory:
                self.fs.delete_dir(self.path(*names))
            elif kind == pafs.FileType.File:
                self.fs.delete_file(self.path(*names))

    def remove_file(self, *names: str) -> None:
        """Remove a file, if it is there, without asking first."""
        with self._told("removing", names), suppress(FileNotFoundError):
            self.fs.delete_file(self.path(*names))

    def write_parquet(self, table: pa.Table, *names: str) -> tuple[int, str]:
        """Write one Parquet file atomically; returns (bytes, digest)."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", row_group_size=65536)
        data = sink.getvalue()
        self.write_bytes(data, *names)
        return data.size, digest_bytes(data)

    def manifest(self, artifact: str, fingerprint: str) -> Manifest | None:
        """The manifest, or None when the artifact is not published."""
        text = self.find_text(artifact, fingerprint, MANIFEST)
        return None if text is None else Manifest.from_json(text, f"{artifact}/{fingerprint}")

    def point(self, name: str, target: Mapping[str, Any]) -> None:
        """Swap a named pointer atomically."""
        self.write_text(json.dumps(dict(target), sort_keys=True), "pointers", name)

    def pointer(self, name: str) -> dict[str, Any] | None:
        text = self.find_text("pointers", name)
        return None if text is None else json.loads(text)

    def artifacts(self) -> Iterator[tuple[str, str]]:
        """(artifact, fingerprint) of every folder, published or not."""
        for artifact in self.names():
            if artifact not in ("runs", "cache", "pointers"):
                for fingerprint in self.names(artifact):
                    yield artifact, fingerprint

    def scraps(self, older: float) -> list[tuple[str, ...]]:
        """Temporary files, older than some seconds, that a writer killed in the middle left behind."""
        selector = pafs.FileSelector(self.root, allow_not_found=True, recursive=True)
        with self._told("listing", ()):
            found = [] if self.place.objects else self.fs.get_file_info(selector)
        limit, start = time.time() - older, len(self.root.rstrip("/")) + 1
        return [
            tuple(i.path[start:].split("/"))
            for i in found
            if i.base_name.startswith(".") and i.base_name.endswith(_TEMPORARY) and i.mtime.timestamp() < limit
        ]


def _again(uri: str) -> Store:
    """A store in another process: opened without asking whether it answers, which its sender has done."""
    store = Store.__new__(Store)
    store._open(uri)
    return store
