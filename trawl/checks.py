"""A part against its contract: columns, nulls, key, allowed values; a whole artifact against the index it covers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trawl.errors import ArtifactError
from trawl.schemas import Contract
from trawl.store import Part


def conform(contract: Contract, table: pa.Table, where: str) -> pa.Table:
    """The table in the contract's columns, types and key order. Raises ArtifactError naming column and key."""
    missing = [name for name in contract.schema.names if name not in table.column_names]
    extra = [name for name in table.column_names if name not in contract.schema.names]
    if missing or extra:
        raise ArtifactError(f"{where}: columns missing {missing}, not in the contract {extra}")
    try:
        table = table.select(contract.schema.names).cast(contract.schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise ArtifactError(f"{where}: does not fit the contract: {error}") from None
    table = table.take(pc.sort_indices(table, [(k, "ascending") for k in contract.key])) if table.num_rows else table
    _check_values(contract, table, where)
    _check_key(contract, table, where)
    return table.combine_chunks()


def _check_values(contract: Contract, table: pa.Table, where: str) -> None:
    for name in contract.schema.names:
        column = table.column(name)
        if column.null_count and name not in contract.nullable:
            row = pc.index(pc.is_null(column), True).as_py()
            raise ArtifactError(f"{where}: {name} is null at {_key_of(contract, table, row)}")
        allowed = contract.values.get(name)
        if allowed:
            wrong = pc.index(pc.is_in(column, pa.array(allowed, column.type)), False).as_py()
            if wrong >= 0:
                raise ArtifactError(
                    f"{where}: {name} = {column[wrong]} at {_key_of(contract, table, wrong)}; allowed: {allowed}"
                )


def _check_key(contract: Contract, table: pa.Table, where: str) -> None:
    """Sorted rows: a key twice stands in neighbouring rows; an index is at least 1."""
    if not table.num_rows:
        return
    same = np.ones(table.num_rows - 1, dtype=bool)
    for name in contract.key:
        values = table.column(name).to_numpy()
        same &= values[1:] == values[:-1]
    if same.any():
        raise ArtifactError(f"{where}: twice the key {_key_of(contract, table, int(same.argmax()))}")
    if table.column(contract.key[0])[0].as_py() < 1:
        raise ArtifactError(f"{where}: {contract.key[0]} below 1; 0 means unknown and is no key")


def _key_of(contract: Contract, table: pa.Table, row: int) -> str:
    return ", ".join(f"{k} = {table.column(k)[row]}" for k in contract.key)


def describe(contract: Contract, table: pa.Table) -> Part:
    """Rows, distinct first keys with the sum of their hashes, and the counts by status."""
    keys = np.unique(table.column(contract.key[0]).to_numpy())
    statuses: dict[str, int] = {}
    if contract.status:
        for entry in table.column(contract.status).value_counts().to_pylist():
            statuses[str(entry["values"])] = int(entry["counts"])
    return Part(
        path="",
        rows=table.num_rows,
        bytes=0,
        digest="",
        entities=len(keys),
        keys=int(mix(keys).sum(dtype=np.uint64)) if len(keys) else 0,
        statuses=statuses,
        first=int(keys[0]) if len(keys) else 0,
        last=int(keys[-1]) if len(keys) else 0,
    )


def complete(artifact: str, parts: Sequence[Part], cover: Sequence[Part] | None) -> None:
    """Each index of the covered table has its rows here, in one part, and no other index has any.

    Proved by count and by the sum of 64-bit hashes, so in constant memory. Raises ArtifactError.
    """
    if cover is None:
        return
    have = (sum(p.entities for p in parts), sum(p.keys for p in parts) % 2**64)
    want = (sum(p.entities for p in cover), sum(p.keys for p in cover) % 2**64)
    if have != want:
        raise ArtifactError(
            f"{artifact}: rows for {have[0]} indexes where {want[0]} are due"
            + ("" if have[0] != want[0] else ", and not the same ones")
            + "; nothing was published"
        )


def mix(values: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """splitmix64 of integers: a stable, machine-independent 64-bit hash."""
    with np.errstate(over="ignore"):
        z = np.asarray(values).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)))
