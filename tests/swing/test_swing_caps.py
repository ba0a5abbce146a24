"""Which entries a cap keeps: few enough, the same everywhere, and a fair sample."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from trawl.swing.caps import cap_lists, hash_pairs, id_keys, scaled_up


def draw(seed=0, lists=60, entries=200):
    """Lists of many lengths, some empty, ascending and without repeats."""
    rng = np.random.default_rng(seed)
    found = [np.sort(rng.choice(entries, rng.integers(0, entries), replace=False)) for _ in range(lists)]
    found[3] = found[3][:0]
    ptr = np.concatenate([[0], np.cumsum([len(f) for f in found])]).astype(np.int64)
    return ptr, np.concatenate(found).astype(np.int32)


def lists_of(ptr, idx):
    return [idx[a:b].tolist() for a, b in pairwise(ptr.tolist())]


def capped(ptr, idx, cap, **options):
    options = {"owner": "item"} | options
    out, kept = cap_lists(ptr, idx, cap, **options)
    return lists_of(out, idx[kept])


def by_hand(ptr, idx, cap, owner, seed):
    """The same by sorting."""
    out = []
    for number, entries in enumerate(lists_of(ptr, idx)):
        mine, others = np.full(len(entries), number), np.array(entries, dtype=np.int64)
        pair = (mine, others) if owner == "user" else (others, mine)
        order = np.argsort(hash_pairs(seed, *pair), kind="stable")[:cap]
        out.append(sorted(np.array(entries)[order].tolist()))
    return out


@pytest.mark.parametrize("owner", ["user", "item"])
@pytest.mark.parametrize("cap", [1, 7, 1000])
def test_the_entries_of_the_smallest_hash_stay_in_their_order(owner, cap):
    ptr, idx = draw()
    assert capped(ptr, idx, cap, owner=owner, seed=5) == by_hand(ptr, idx, cap, owner, 5)


def mixed(x):
    """splitmix64 in whole numbers of any size."""
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def test_the_hash_is_splitmix64_of_seed_user_and_item():
    assert mixed(0) == 0xE220A8397B1DCDAF  # the generator's published first number
    pairs = [(0, 0), (1, 5), (2**40, 3), (2**63 + 9, 2**64 - 1)]
    users, items = (np.array(some, dtype=np.uint64) for some in zip(*pairs, strict=True))
    expected = [mixed(mixed(mixed(7) ^ u) ^ i) for u, i in pairs]
    assert hash_pairs(7, users, items).tolist() == expected


def test_a_pair_has_one_hash_whichever_side_lists_it_and_a_seed_gives_another():
    ptr, idx = np.array([0, 50], dtype=np.int64), np.arange(50, dtype=np.int32)
    assert capped(ptr, idx, 9, owner="user", seed=1) != capped(ptr, idx, 9, owner="item", seed=1)
    assert capped(ptr, idx, 9, seed=1) != capped(ptr, idx, 9, seed=2)
    assert hash_pairs(1, np.array([4]), np.array([9])) != hash_pairs(1, np.array([9]), np.array([4]))


def test_partitions_and_pieces_change_nothing():
    ptr, idx = draw(1)
    whole = capped(ptr, idx, 20, seed=3)
    first = 25  # a partition of the lists 25.. knows their numbers
    part = capped(ptr[first:] - ptr[first], idx[ptr[first] :], 20, seed=3, owner_keys=np.arange(first, len(ptr) - 1))
    assert part == whole[first:]
    even = idx % 2 == 0  # two pieces, capped apart, put together, capped again
    pieces = []
    for keep in (even, ~even):
        own = np.concatenate([[0], np.cumsum(keep)])[ptr]
        pieces.append(capped(own, idx[keep], 20, seed=3))
    joined = [sorted(a + b) for a, b in zip(*pieces, strict=True)]
    again = np.concatenate([[0], np.cumsum([len(j) for j in joined])]).astype(np.int64)
    assert capped(again, np.array([v for j in joined for v in j], dtype=np.int32), 20, seed=3) == whole


def test_samples_are_nested_and_an_added_entry_changes_at_most_one():
    ptr, idx = draw(2)
    small, large = capped(ptr, idx, 5), capped(ptr, idx, 30)
    assert all(set(a) <= set(b) for a, b in zip(small, large, strict=True))
    for extra in range(200, 240):
        one = np.append(idx[: ptr[1]], extra).astype(np.int32)
        changed = capped(np.array([0, len(one)], dtype=np.int64), one, 30)[0]
        assert len(set(large[0]) - set(changed)) <= 1


def test_the_sample_is_even():
    users = 400
    idx = np.tile(np.arange(users, dtype=np.int32), 500)
    ptr = np.arange(501, dtype=np.int64) * users
    times = np.bincount(np.concatenate(capped(ptr, idx, 40)), minlength=users)  # expected 50, deviation 6.7
    assert times.sum() == 500 * 40 and times.min() > 20 and times.max() < 80
    assert abs(times.std() - 6.7) < 1.5


def test_keys_of_ids_do_not_depend_on_their_numbers():
    ids = pa.array(["zoe", "ann", "", "Ünal", "ann"])
    keys = id_keys(ids)
    assert keys[1] == keys[4] and len(set(keys.tolist())) == 4
    assert id_keys(ids.slice(1, 2)).tolist() == keys[1:3].tolist()
    assert len(id_keys(ids.slice(0, 0))) == 0
    order = np.array([3, 0, 2, 1])
    names = ids.take(pa.array(order))
    ptr, idx = np.array([0, 4], dtype=np.int64), np.arange(4, dtype=np.int32)
    kept = [
        sorted(some.take(pa.array(capped(ptr, idx, 2, entry_keys=id_keys(some))[0])).to_pylist())
        for some in (ids.slice(0, 4), names)
    ]
    assert kept[0] == kept[1]


def test_no_lists_and_read_only_arrays():
    assert capped(np.zeros(1, np.int64), np.empty(0, np.int32), 3) == []
    ptr, idx = draw()
    ptr.flags.writeable = idx.flags.writeable = False
    assert len(capped(ptr, idx, 3)) == 60


def test_self_scores_of_samples_are_scaled_to_whole_rows():
    rng = np.random.default_rng(0)
    weights = rng.random((30, 30))
    weights = weights + weights.T
    found = []
    for _ in range(4000):
        some = rng.choice(30, 10, replace=False)
        table = weights[np.ix_(some, some)]
        pairs = table.sum() - np.trace(table)
        found.append(scaled_up(np.array([table.sum()]), np.array([pairs]), np.array([10]), np.array([30]))[0])
    assert np.mean(found) == pytest.approx(weights.sum(), rel=0.01)
    one = scaled_up(np.array([0.5]), np.array([0.0]), np.array([1]), np.array([4]))
    assert one.tolist() == [2.0]
