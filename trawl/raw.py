"""Raw inputs: a path that all nodes see, or an object at a URI, through the few methods of Path that readers need.

A raw input counts by its content. An object store is asked for the object's size and ETag instead, which change with
the content, so that planning reads no data.
"""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow.fs as pafs

from trawl.errors import InputError
from trawl.filesystems import Place, explained, is_uri, place, reach
from trawl.store import digest_bytes, digest_json

_BLOCK = 1 << 20  # bytes per request while lines are read
_SETTLED = 60 * 10**9  # nanoseconds


@dataclass(frozen=True, order=True)
class Remote:
    """A file or folder at a URI. Raises InputError, StoreError in the words of the command line."""

    uri: str
    name: str = ""  # path below the URI

    @property
    def _place(self) -> Place:
        return place(self.uri)

    @property
    def path(self) -> str:
        """Its path on the filesystem."""
        return f"{self._place.root}/{self.name}".rstrip("/")

    @property
    def suffix(self) -> str:
        return Path(self.path).suffix

    def __str__(self) -> str:
        return self._place.where(*([self.name] if self.name else []))

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise InputError.at(self, "", "no such file", "check the recipe") from None
        except OSError as error:
            raise explained(error, str(self), doing, InputError) from error

    def info(self) -> pafs.FileInfo:
        with self._told("looking for it"):
            return self._place.fs.get_file_info(self.path)

    def is_file(self) -> bool:
        return bool(self.info().type == pafs.FileType.File)

    def is_dir(self) -> bool:
        return bool(self.info().type == pafs.FileType.Directory)

    def below(self) -> list[tuple["Remote", pafs.FileInfo]]:
        """Every file of a folder, sorted by name."""
        with self._told("listing it"):
            found = self._place.fs.get_file_info(pafs.FileSelector(self.path, recursive=True))
        start = len(self._place.root) + 1
        return sorted((Remote(self.uri, i.path[start:]), i) for i in found if i.type == pafs.FileType.File)

    def glob(self, pattern: str) -> list["Remote"]:
        """The folder's own files whose names end as in `*.parquet`."""
        folder = self.path
        return [
            r for r, _ in self.below() if r.path.endswith(pattern.lstrip("*")) and r.path.rpartition("/")[0] == folder
        ]

    def native(self) -> Any:
        """The file opened for pyarrow."""
        with self._told("opening it"):
            return self._place.fs.open_input_file(self.path)

    def open(self, mode: str = "rb") -> BinaryIO:
        """The file opened for reading bytes and lines."""
        return cast(BinaryIO, io.BufferedReader(self.native(), _BLOCK))

    def etag(self) -> str:
        """The object's ETag; empty where the filesystem knows none."""
        with self._told("asking for its ETag"), self._place.fs.open_input_stream(self.path) as stream:
            found = {key.lower(): value for key, value in (stream.metadata() or {}).items()}
        return str(found.get("etag", b""), "ascii", "replace")


Source = Path | Remote


def source(text: str) -> Source:
    """A raw input by its path or URI. Raises ConfigError for a URI that cannot be opened."""
    return Remote(text) if is_uri(text) and not place(text).local else Path(place(text).root if "://" in text else text)


def join(folder: str, name: str) -> str:
    """The path or URI of a file in a folder."""
    where, mark, query = folder.partition("?") if "://" in folder else (folder, "", "")
    return f"{where.rstrip('/')}/{name}{mark}{query}"


def size(path: Source) -> int:
    """Bytes of a file."""
    return int(path.info().size) if isinstance(path, Remote) else path.stat().st_size


def parquet(path: Source) -> Any:
    """What pyarrow's Parquet readers take."""
    return path.native() if isinstance(path, Remote) else path


def remote_digest(uri: str) -> str:
    """Digest of a raw input at a URI: of names, sizes and ETags. Raises InputError when it is missing."""
    reach(uri)
    root = Remote(uri)
    info = root.info()
    if info.type == pafs.FileType.NotFound:
        raise InputError(f"{root}: no such file or folder; check the recipe")
    found = [(root, info)] if info.type == pafs.FileType.File else root.below()
    return digest_json([[r.name, i.size, _known(r, i)] for r, i in found])


def _known(file: Remote, info: pafs.FileInfo) -> str:
    """The mark of a file, asked for once while size and time stay; times are whole seconds, so not of a fresh file."""
    settled = info.mtime_ns is not None and time.time_ns() - info.mtime_ns > _SETTLED
    return _mark(file, info.size, info.mtime_ns) if settled else _mark.__wrapped__(file, info.size, info.mtime_ns)


@cache
def _mark(file: Remote, size: int, modified: int | None) -> str:
    """What changes with the content."""
    known = file.etag()
    if known:
        return known
    digests = []
    with file.open() as stream:
        while block := stream.read(_BLOCK):
            digests.append(digest_bytes(block))
    return digest_json(digests)
