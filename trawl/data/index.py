"""The entity index: raw ids (strings) -> buckets by a stable hash -> numbers by bucket and id.

No process ever holds all ids: rows go to hash buckets, a bucket is sorted by id, and its first number is one more than
the rows of the buckets before it.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trawl.checks import mix

_STEP = np.uint64(0x100000001B3)  # any odd number: powers modulo 2^64 never vanish


def hash_ids(ids: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.uint64]:
    """(n,) stable 64-bit hash of the UTF-8 bytes of each id: a polynomial modulo 2^64, then splitmix64."""
    whole = pa.chunked_array([ids]) if isinstance(ids, pa.Array) else ids
    array = whole.cast(pa.large_string()).combine_chunks()
    if not len(array):
        return np.zeros(0, np.uint64)
    _, offset_buffer, data = array.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
    codes = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]] if data else np.zeros(0, np.uint8)
    lengths = np.diff(offsets)
    powers = np.ones(max(int(lengths.max()), 1), np.uint64)
    powers[1:] = _STEP
    with np.errstate(over="ignore"):
        powers = np.cumprod(powers, dtype=np.uint64)
        place = np.arange(len(codes)) - np.repeat(offsets[:-1] - offsets[0], lengths)
        sums = np.concatenate([[np.uint64(0)], np.cumsum((codes + np.uint64(1)) * powers[place], dtype=np.uint64)])
        return mix(sums[offsets[1:] - offsets[0]] - sums[offsets[:-1] - offsets[0]])


def bucket_of(ids: pa.ChunkedArray | pa.Array, buckets: int) -> npt.NDArray[np.int64]:
    """(n,) the bucket 0..buckets-1 of each id."""
    return (hash_ids(ids) % np.uint64(buckets)).astype(np.int64)


def kept(ids: pa.ChunkedArray | pa.Array, share: float) -> npt.NDArray[np.bool_]:
    """(n,) which ids belong to a share < 1 of all: always the same ones, and among those of any larger share.

    By another hash than `bucket_of`, so that the buckets stay even.
    """
    kept: npt.NDArray[np.bool_] = mix(hash_ids(ids)) < np.uint64(int(share * 2**53) << 11)
    return kept


def scatter(rows: pa.Table, bucket: npt.NDArray[np.int64], buckets: int) -> Iterator[tuple[int, pa.Table]]:
    """(bucket, its rows in their order), at least one table so that the schema travels."""
    order = np.argsort(bucket, kind="stable")
    ends = np.cumsum(np.bincount(bucket, minlength=buckets))
    sorted_rows = rows.take(pa.array(order))
    yield 0, sorted_rows.slice(0, int(ends[0]))
    for number in range(1, buckets):
        if ends[number] > ends[number - 1]:
            yield number, sorted_rows.slice(int(ends[number - 1]), int(ends[number] - ends[number - 1]))


def number(rows: pa.Table, key: str, index: str, counts: Sequence[int], bucket: int) -> pa.Table:
    """The rows of a bucket sorted by raw id with their numbers as column `index`; `counts`: rows of all buckets."""
    rows = rows.take(pc.sort_indices(rows, [(key, "ascending"), ("at", "ascending")]))
    first = 1 + sum(counts[:bucket])
    return rows.append_column(index, pa.array(np.arange(first, first + rows.num_rows)))


def repeated(rows: pa.Table, key: str) -> int:
    """Row of the first id that equals the one before it, in rows sorted by id; -1 when all differ."""
    column = rows.column(key).combine_chunks()
    if len(column) < 2:
        return -1
    found: int = pc.index(pc.equal(column.slice(1), column.slice(0, len(column) - 1)), True).as_py()
    return found + 1 if found >= 0 else -1


def places(ids: pa.ChunkedArray, known: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """(n,) position of each id among the known ones, -1 where it is none of them."""
    found = pc.index_in(ids.cast(pa.large_string()), value_set=known.cast(pa.large_string()))
    out: npt.NDArray[np.int64] = pc.fill_null(found, -1).to_numpy().astype(np.int64)
    return out


def fields(columns: dict[str, pa.Array]) -> pa.Array:
    """Columns of lists of strings as one map column: name -> values; an empty or null list makes no entry."""
    count = len(next(iter(columns.values())))
    lists = pa.concat_arrays([c.cast(pa.list_(pa.string())) for c in columns.values()])
    full = pc.fill_null(pc.greater(pc.list_value_length(lists), 0), False).to_numpy(zero_copy_only=False)
    by_row = full.reshape(len(columns), count).T  # (rows, names)
    row, name = np.nonzero(by_row)
    keys = pa.array(list(columns), pa.string()).take(pa.array(name))
    offsets = np.concatenate([[0], np.cumsum(by_row.sum(axis=1))]).astype(np.int32)
    return pa.MapArray.from_arrays(pa.array(offsets), keys, lists.take(pa.array(name * count + row)))
