"""Filesystems behind URIs: opened with sensible waits, checked once, their errors as one line.

    out/store, file:///data/store                      local, or mounted on every node
    s3://bucket/prefix?region=eu-west-1                S3 and what speaks it: ?endpoint_override=host:9000&scheme=http
    gs://bucket/prefix, hdfs://host:8020/folder        whatever else pyarrow's filesystems know, with its options

Credentials come from where the provider's tools look (AWS_ACCESS_KEY_ID, profiles, instance roles; the like for
others), never from a URI: URIs are printed, logged and kept.
"""

import errno
import os
import re
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pyarrow as pa
import pyarrow.fs as pafs

from trawl.errors import ConfigError, StoreError, TrawlError

_OBJECT_STORES = ("s3", "gcs", "abfs")  # no rename, and none needed: an object appears whole or not at all
_ATTEMPTS, _CONNECT, _REQUEST = 8, 5.0, 60.0  # work: S3's tries (some 40 s of backing off), seconds to wait
_FIRST = (3, 2.0, 5.0)  # the first contact: a wrong address should show within seconds
_PATIENCE = 30.0  # seconds for a first answer from any filesystem
_GCS_SECONDS = 120  # Google's client would try for 15 minutes
_SECRET = re.compile(r"secret|passw|token|access_?key|account_?key|credential|signature|^sig$|^sas", re.IGNORECASE)
_REFUSED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|EXPIRED_TOKEN|PERMISSION_DENIED|\b40[13]\b"
)
_NO_BUCKET = re.compile(r"NO_SUCH_BUCKET|Bucket '[^']*' not found|bucket does not exist", re.IGNORECASE)
_OUT_OF_REACH = re.compile(r"NETWORK_CONNECTION|Could not (connect|resolve)|[Tt]imeout|UNAVAILABLE|timed out")


@dataclass(frozen=True)
class Place:
    """A root on a filesystem. `shown`: the URI or path without its query; `query`: the query with its mark."""

    shown: str
    query: str
    root: str
    fs: pafs.FileSystem
    small: pafs.FileSystem  # for objects that one request carries; the same as `fs` elsewhere
    first: pafs.FileSystem  # gives up early

    @property
    def uri(self) -> str:
        return self.shown + self.query

    @property
    def local(self) -> bool:
        return bool(self.fs.type_name == "local")

    @property
    def objects(self) -> bool:
        """An object store: a write is whole or absent by itself, and folders need not be made."""
        return self.fs.type_name in _OBJECT_STORES

    def where(self, *names: str) -> str:
        """What people are shown for a file below the root: a path, or a URI that can be given again."""
        return "/".join((self.shown.rstrip("/"), *names)) + self.query


def is_uri(text: str) -> bool:
    """Whether a text names a filesystem besides a path. Raises ConfigError for `s3:/bucket` and the like."""
    if "://" in text:
        return True
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):
        scheme, _, rest = text.partition(":")
        raise ConfigError(f"{text}: neither a path nor a URI; write {scheme}://{rest.lstrip('/')}")
    return False


@cache
def place(uri: str) -> Place:
    """The filesystem and root of a path or URI; nothing is asked of it yet. Raises ConfigError."""
    if not is_uri(uri):
        root = str(Path(uri).expanduser().resolve())
        here = pafs.LocalFileSystem()
        return Place(root, "", root, here, here, here)
    scheme, _, rest = uri.partition("://")
    address, mark, query = rest.partition("?")
    _refuse_credentials(scheme.lower(), address, query)
    if scheme.lower() in ("s3", "gs", "gcs") and not address.rpartition("@")[2].strip("/"):
        raise ConfigError(f"{uri}: names no bucket; write {scheme}://BUCKET/PREFIX")
    shown = f"{scheme.lower()}://{address.rstrip('/')}"
    extra = ""
    if scheme.lower() in ("gs", "gcs") and "retry_limit_seconds" not in query:
        extra = f"{'&' if mark else '?'}retry_limit_seconds={_GCS_SECONDS}"
    fs, root = _from_uri(shown, mark + query, extra)
    if fs.type_name == "local":
        return Place(root, "", root, fs, fs, fs)
    if fs.type_name == "s3":
        work = _patient(fs, _ATTEMPTS, _CONNECT, _REQUEST)
        small = _patient(fs, _ATTEMPTS, _CONNECT, _REQUEST, allow_delayed_open=True)
        return Place(shown, mark + query, root, work, small, _patient(fs, *_FIRST))
    return Place(shown, mark + query, root, fs, fs, fs)


def _refuse_credentials(scheme: str, address: str, query: str) -> None:
    """Raises ConfigError that names the fault without repeating the secret."""
    user, _, rest = address.rpartition("@")
    secret = [key for key, _ in parse_qsl(query, keep_blank_values=True) if _SECRET.search(key)]
    if ":" in user or (scheme == "s3" and user and "/" not in user) or secret:
        what = f"the option {secret[0]}" if secret else "a user or password"
        raise ConfigError(
            f"{scheme}://...{rest}: {what} in a URI would be printed and kept; give credentials by the environment "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), a profile or the machine's role"
        )


def _from_uri(shown: str, query: str, extra: str) -> tuple[pafs.FileSystem, str]:
    try:
        fs, root = pafs.FileSystem.from_uri(shown + query + extra)
        return fs, str(root)
    except (ValueError, NotImplementedError, ImportError, pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and _OUT_OF_REACH.search(str(error)):
            raise _unreachable(shown + query, str(error)) from None
        raise ConfigError(
            f"{shown}{query}: not a URI that pyarrow can open ({_line(error)}); known are paths, file://, s3://, "
            "gs://, hdfs:// and their options"
        ) from None


def _patient(fs: pafs.FileSystem, attempts: int, connect: float, request: float, **more: Any) -> pafs.FileSystem:
    """The same S3 filesystem with other waits: a URI has no options for them."""
    make, (options,) = fs.__reduce__()
    waits = {"connect_timeout": connect, "request_timeout": request}
    return make(options | waits | {"retry_strategy": pafs.AwsStandardS3RetryStrategy(max_attempts=attempts)} | more)


@cache
def reach(uri: str) -> None:
    """Ask a remote filesystem once, with little patience.

    Raises ConfigError (no such bucket, no right), StoreError (no answer).
    """
    there = place(uri)
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            found = there.first.get_file_info(pafs.FileSelector(there.root, allow_not_found=True))
            bucket = there.root.split("/")[0]
            if not found and there.objects and there.first.get_file_info(bucket).type == pafs.FileType.NotFound:
                raise ConfigError(f"{there.uri}: no such bucket {bucket!r}; make it first, trawl never makes buckets")
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=ask, daemon=True)  # some filesystems cannot be told when to give up
    thread.start()
    thread.join(_PATIENCE)
    if thread.is_alive():
        raise _unreachable(there.uri, f"no answer within {_PATIENCE:.0f} s")
    if failures:
        error = failures[0]
        raise explained(error, there.uri, "opening it", ConfigError) if isinstance(error, OSError) else error


def explained(error: OSError, where: str, doing: str, asked: type[TrawlError] = StoreError) -> TrawlError:
    """An error of a filesystem as one line. `asked`: its class where the bucket or the credentials are wrong."""
    again = "run the same command again: it goes on where it stood"
    text = _line(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(f"no space left on {where} while {doing}; free space and {again}")
    if error.errno == errno.EFBIG:
        return StoreError(
            f"{where}: a limit on the size of files was met while {doing}; raise it (ulimit -f) and {again}"
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        why = os.strerror(error.errno)
        return StoreError(
            f"{where}: {why} while {doing}; mount it for writing or give this user the right, and {again}"
        )
    if _NO_BUCKET.search(text):
        return asked(f"{where}: no such bucket; make it first, trawl never makes buckets ({doing})")
    if _REFUSED.search(text):
        return asked(f"{where}: access refused while {doing}; check the credentials and the bucket's policy ({text})")
    if _OUT_OF_REACH.search(text):
        return _unreachable(where, text)
    return StoreError(f"{where}: failed while {doing} ({text}); mend that and {again}")


def _unreachable(where: str, why: str) -> StoreError:
    return StoreError(
        f"{where}: cannot be reached ({' '.join(why.split())[:200]}); check endpoint and network, then run again"
    )


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r"\(Request ID: [^)]*\)", "", lines[0]).strip()[:300]
