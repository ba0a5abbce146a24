"""The order of prompts: equal beginnings in one group, neighbours in it, nothing lost."""

from itertools import pairwise
from pathlib import Path

import pyarrow as pa

from trawl.extraction import prefixes
from trawl.inputs import Inputs
from trawl.store import Store

SCHEMA = pa.schema({"digest": pa.string(), "text_digests": pa.list_(pa.string()), "kept": pa.list_(pa.int64())}.items())


def rows(*beginnings: str) -> pa.Table:
    """A prompt for each word; its letters are its texts."""
    found = [
        {"digest": f"{n:032x}", "text_digests": [letter * 32 for letter in word], "kept": [9] * len(word)}
        for n, word in enumerate(beginnings)
    ]
    return pa.Table.from_pylist(found, schema=SCHEMA)


def words(table: pa.Table | None) -> list[str]:
    return [] if table is None else ["".join(d[0] for d in texts) for texts in table.column("text_digests").to_pylist()]


def inputs(folder: Path) -> Inputs:
    return Inputs(Store(str(folder)), {}, {}, ("user_answers", "f", "_work"))


def test_equal_beginnings_meet_across_buckets_and_are_neighbours(tmp_path: Path) -> None:
    here, asked = inputs(tmp_path), ["abc", "bcd", "abd", "xyz", "bca", "abe", "xyw", "bcd", ""]
    for bucket in range(3):
        prefixes.scatter(rows(*asked[bucket::3]), here, bucket, 4)
    groups = [words(prefixes.gather(here, group)) for group in range(4)]
    assert sorted(word for group in groups for word in group) == sorted(asked)
    for group in groups:
        assert sum(a[:2] != b[:2] for a, b in pairwise(group)) == max(0, len({w[:2] for w in group}) - 1)
    for letter in "abx":
        assert sum(any(word.startswith(letter) for word in group) for group in groups) == 1


def test_what_was_cut_to_another_length_is_no_equal_beginning() -> None:
    table = rows("ab", "ab", "ab")
    table = table.set_column(2, "kept", pa.array([[9, 9], [3, 9], [9, 9]], SCHEMA.field("kept").type))
    keys = prefixes.order_keys(table)
    assert keys[0][:-32] == keys[2][:-32] != keys[1][:-32]


def test_nothing_missing_leaves_nothing(tmp_path: Path) -> None:
    here = inputs(tmp_path)
    prefixes.scatter(rows(), here, 0, 2)
    assert prefixes.gather(here, 0) is None


def test_what_an_earlier_run_left_is_forgotten(tmp_path: Path) -> None:
    here = inputs(tmp_path)
    prefixes.scatter(rows("ab"), here, 0, 1)
    prefixes.forget(here)
    assert prefixes.gather(here, 0) is None
