"""Artifacts by fingerprint on any filesystem URI.

    <store>/<artifact>/<fingerprint>/part-00000.parquet ... and _manifest.json, written last
    <store>/runs/<name>/run.json, result.json, report.html, log.jsonl
    <store>/cache/...            answers shared by all runs
    <store>/pointers/<name>      the only mutable things: named references, swapped atomically

No manifest, no artifact: a folder without one is work in progress and is resumed or collected.
"""

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from trawl.errors import ArtifactError, ConfigError

MANIFEST = "_manifest.json"


def digest_bytes(data: bytes | memoryview | pa.Buffer) -> str:
    """Content digest of bytes, as hex."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_json(value: Any) -> str:
    """Digest of plain data, independent of the order of keys."""
    return digest_bytes(json.dumps(value, sort_keys=True, ensure_ascii=False).encode())


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
    """Reads and writes under one root. Every write is whole or absent."""

    def __init__(self, uri: str) -> None:
        """`uri`: a local path or any URI that pyarrow's filesystems know. Raises ConfigError."""
        self.uri = uri
        self.fs, self.root = _filesystem(uri)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Store, (self.uri if "://" in self.uri else str(Path(self.uri).resolve()),))

    def path(self, *names: str) -> str:
        return "/".join((self.root.rstrip("/"), *names))

    def exists(self, *names: str) -> bool:
        return bool(self.fs.get_file_info(self.path(*names)).type != pafs.FileType.NotFound)

    def size(self, *names: str) -> int:
        """Bytes of a file; -1 when there is none."""
        info = self.fs.get_file_info(self.path(*names))
        return int(info.size) if info.type == pafs.FileType.File else -1

    def read_bytes(self, *names: str) -> pa.Buffer:
        """Raises ArtifactError when there is no such file."""
        try:
            with self.fs.open_input_file(self.path(*names)) as file:
                return file.read_buffer()
        except FileNotFoundError:
            raise ArtifactError(f"{self.path(*names)}: missing; run the stage that makes it again") from None

    def read_text(self, *names: str) -> str:
        return str(self.read_bytes(*names).to_pybytes(), "utf-8")

    def write_bytes(self, data: bytes | memoryview | pa.Buffer, *names: str) -> None:
        """Write a file atomically: a temporary name, then a rename over the target."""
        target = self.path(*names)
        folder, _, name = target.rpartition("/")
        self.fs.create_dir(folder, recursive=True)
        temporary = f"{folder}/.{name}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            with self.fs.open_output_stream(temporary) as out:
                out.write(data)
            self.fs.move(temporary, target)
        except BaseException:
            if self.fs.get_file_info(temporary).type == pafs.FileType.File:
                self.fs.delete_file(temporary)
            raise

    def write_text(self, text: str, *names: str) -> None:
        self.write_bytes(text.encode("utf-8"), *names)

    def append_line(self, line: str, *names: str) -> None:
        """Add a line to a small file by writing it anew."""
        old = self.read_text(*names) if self.exists(*names) else ""
        self.write_text(f"{old}{line}\n", *names)

    def names(self, *names: str) -> list[str]:
        """Sorted names in a folder; none when it does not exist."""
        selector = pafs.FileSelector(self.path(*names), allow_not_found=True)
        return sorted(i.base_name for i in self.fs.get_file_info(selector))

    def remove(self, *names: str) -> None:
        """Remove a file or a folder with all in it, if it is there."""
        kind = self.fs.get_file_info(self.path(*names)).type
        if kind == pafs.FileType.Directory:
            self.fs.delete_dir(self.path(*names))
        elif kind == pafs.FileType.File:
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
        if not self.exists(artifact, fingerprint, MANIFEST):
            return None
        return Manifest.from_json(self.read_text(artifact, fingerprint, MANIFEST), f"{artifact}/{fingerprint}")

    def point(self, name: str, target: Mapping[str, Any]) -> None:
        """Swap a named pointer atomically."""
        self.write_text(json.dumps(dict(target), sort_keys=True), "pointers", name)

    def pointer(self, name: str) -> dict[str, Any] | None:
        return json.loads(self.read_text("pointers", name)) if self.exists("pointers", name) else None

    def artifacts(self) -> Iterator[tuple[str, str]]:
        """(artifact, fingerprint) of every folder, published or not."""
        for artifact in self.names():
            if artifact not in ("runs", "cache", "pointers"):
                for fingerprint in self.names(artifact):
                    yield artifact, fingerprint


def _filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    if "://" not in uri:
        return pafs.LocalFileSystem(), str(Path(uri).expanduser().resolve())
    try:
        fs, root = pafs.FileSystem.from_uri(uri)
        return fs, str(root)
    except (ValueError, pa.ArrowException, OSError) as error:
        raise ConfigError(f"store {uri!r}: not a URI that pyarrow can open ({error})") from None
