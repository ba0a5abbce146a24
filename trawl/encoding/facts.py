"""Facts of items -> vectors, without anything to fit.

A fact (relation, value) is a direction: d random signs drawn from the hash of both, so that any number of workers
agree. An item is the sum of its facts, where each of its relations weighs the same however many values it has: one
director counts as much as twenty actors together. The cosine of two items is then the share of what they have in
common, up to noise of about d^-1/2.
"""

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scipy.sparse as sp

from trawl.checks import mix

_ORDER = [("entity", "ascending"), ("relation", "ascending"), ("value", "ascending")]


def encode(
    entity: npt.NDArray[np.int64], facts: pa.Table, dimension: int, seed: int = 0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """(n, dimension) unit rows, zero for entities without a fact; (n,) how many facts each has.

    `entity`: ascending; `facts`: entity (among those), relation, value, each once.
    """
    facts = facts.sort_by(_ORDER)  # sums do not depend on the order of the rows
    row = np.searchsorted(entity, facts["entity"].to_numpy())
    relation, number = (_numbers(facts[name]) for name in ("relation", "value"))
    _, group, many = np.unique(np.stack([row, relation]), axis=1, return_inverse=True, return_counts=True)
    weight = many[group.reshape(-1)] ** -0.5
    pairs, place = np.unique(np.stack([relation, number]), axis=1, return_inverse=True)
    names = [facts[name].combine_chunks().dictionary_encode().dictionary for name in ("relation", "value")]
    words = [column.take(pa.array(part)).to_pylist() for column, part in zip(names, pairs, strict=True)]
    hashes = np.array([_hash(*pair) for pair in zip(*words, strict=True)], dtype=np.uint64)
    shape = (len(entity), len(hashes))
    sums = sp.csr_array((weight, (row, place.reshape(-1))), shape=shape) @ _signs(hashes, dimension, seed)
    length = np.linalg.norm(sums, axis=1, keepdims=True)
    unit = np.divide(sums, length, out=np.zeros_like(sums), where=length > 0)
    return unit.astype(np.float32), np.bincount(row, minlength=len(entity))


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """The number of each value among the distinct ones."""
    indices = column.combine_chunks().dictionary_encode().indices
    return np.asarray(indices.to_numpy(zero_copy_only=False), dtype=np.int64)


def _hash(relation: str, value: str) -> int:
    pair = f"{len(relation)} {relation} {value}".encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(pair, digest_size=8).digest(), "little")


def _signs(hashes: npt.NDArray[np.uint64], dimension: int, seed: int) -> npt.NDArray[np.float64]:
    """(m, dimension) of -1 and 1, drawn from each hash and the seed."""
    draws = np.arange(1, -(-dimension // 64) + 1, dtype=np.uint64) * np.uint64(0xD1342543DE82EF95)
    bits = mix((hashes ^ mix(np.array([seed]))[0])[:, None] + draws).astype("<u8").view(np.uint8)
    return np.unpackbits(bits, axis=1, count=dimension).astype(np.float64) * 2 - 1
