"""Content digests."""

import hashlib
import json
from typing import Any

import pyarrow as pa


def digest_bytes(data: bytes | memoryview | pa.Buffer) -> str:
    """Content digest of bytes, as hex."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_json(value: Any) -> str:
    """Digest of plain data, independent of the order of keys."""
    return digest_bytes(json.dumps(value, sort_keys=True, ensure_ascii=False).encode())
