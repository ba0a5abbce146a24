"""The order in which prompts reach the engines: those that begin alike are neighbours.

vLLM keeps the keys and values of what it has read in blocks and uses them again for a prompt with the same beginning
(automatic prefix caching), as long as the two meet in one engine and not too long after each other. Prompts come in
buckets by digest, which says nothing about their beginnings. So they are exchanged once more: each bucket sends its
rows to groups by the first text, each group is sorted by the sequence of its texts. Nobody holds more than a bucket or
a group, and of those no text.

    _work/feeding/<bucket>.arrow      one record batch per group
"""

from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trawl.inputs import Inputs

_HOME = "feeding"
_DIGITS = 12  # of a text's digest: enough to tell neighbours


def order_keys(rows: pa.Table) -> list[str]:
    """What a prompt begins with, so that sorting by it brings equal beginnings together.

    rows: text_digests, kept, digest. How many texts there are stands in the frame before them.
    """
    columns = (rows.column(name).to_pylist() for name in ("text_digests", "kept", "digest"))
    return [
        f"{len(texts):04d}" + "".join(f"/{d[:_DIGITS]}:{k}" for d, k in zip(texts, kept, strict=True)) + f"/{digest}"
        for texts, kept, digest in zip(*columns, strict=True)
    ]


def scatter(rows: pa.Table, inputs: Inputs, bucket: int, groups: int) -> None:
    """Leave the rows of a bucket where their groups find them; a bucket without rows leaves nothing."""
    if not rows.num_rows:
        return
    goal = np.array([_group(texts, groups) for texts in rows.column("text_digests").to_pylist()])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, rows.schema) as writer:
        for group in range(groups):
            for_it = rows.filter(pa.array(goal == group)).combine_chunks()
            batches = for_it.to_batches()
            writer.write_batch(batches[0] if batches else pa.RecordBatch.from_pylist([], schema=rows.schema))
    inputs.store.write_bytes(sink.getvalue(), *inputs.work, _HOME, f"{bucket:05d}.arrow")


def gather(inputs: Inputs, group: int) -> pa.Table | None:
    """The rows of a group, neighbours beginning alike; None where no bucket has any."""
    store, found = inputs.store, []
    for name in store.names(*inputs.work, _HOME):
        with pa.ipc.open_file(store.open_file(*inputs.work, _HOME, name)) as reader:
            found.append(reader.get_batch(group))
    if not found:
        return None
    rows = pa.Table.from_batches(found)
    keys = pa.array(order_keys(rows), pa.large_string())
    return rows.take(pc.sort_indices(keys))


def forget(inputs: Inputs) -> None:
    """Drop what an earlier run left."""
    inputs.store.remove(*inputs.work, _HOME)


def _group(texts: list[str], groups: int) -> int:
    """By the first text: prompts that share it share a group. Prompts without texts all begin alike anyway."""
    return crc32(texts[0].encode()) % groups if texts else 0
