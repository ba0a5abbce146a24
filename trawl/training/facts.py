"""Positives by shared facts: items of the same director, series, ... (K promises them in 1 and 3.4, and defines none).

A value that hardly two items share says most. One that very many share (a genre) says little and would make hubs of
whoever is drawn, so values with more items than a cap are left out; how many is told.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from trawl.errors import InputError
from trawl.model.lexicon import Array, Ints, ranges

Bools = npt.NDArray[np.bool_]


class Facts:
    """Which entities share a value. Memory: 16 bytes per fact."""

    def __init__(self, entity: Array, value: Array, count: int, cap: int, usable: Array) -> None:
        """`entity` and `value` (a code) of each fact, `usable`: (count + 1,) bool, who may be drawn."""
        pairs = np.unique(np.stack([value, entity])[:, usable[entity]].astype(np.int64), axis=1)
        _, codes, sizes = np.unique(pairs[0], return_inverse=True, return_counts=True)
        keep = (sizes >= 2) & (sizes <= cap)  # two make a pair
        self.cap, self.left_out = cap, int((sizes > cap).sum())
        place = np.cumsum(keep) - 1  # new code of each kept value
        rows = keep[codes]
        self.member, codes = pairs[1][rows], place[codes[rows]]
        self.members = sizes[keep]  # of each value
        self.first = np.cumsum(self.members) - self.members
        order = np.argsort(self.member, kind="stable")
        self.value = codes[order]  # by entity
        self.size = np.bincount(self.member, minlength=count + 1)
        self.start = np.cumsum(self.size) - self.size
        self.able: Bools = self.size > 0

    def told(self) -> dict[str, int]:
        """How many values make pairs, and of how many entities; how many more than `cap` entities have."""
        return {
            "values": len(self.members),
            "entities": int(self.able.sum()),
            "left_out": self.left_out,
            "cap": self.cap,
        }

    def draw(self, entities: Ints, rng: np.random.Generator) -> Ints:
        """Another entity with one of the same values: a value of each at random, then any other of its members."""
        if not len(entities):
            return entities
        value = self.value[self.start[entities] + rng.integers(0, self.size[entities])]
        place = self.first[value] + rng.integers(0, self.members[value] - 1)
        members = self.member[place]
        own = members >= entities  # members ascend, so the entity itself is stepped over
        return np.asarray(np.where(own, self.member[place + own], members), dtype=np.int64)

    def shared(self, one_A: Ints, other_B: Ints) -> Bools:
        """(A, B) bool: the two have a value in common."""
        return np.asarray((self._matrix(one_A) @ self._matrix(other_B).T).toarray() > 0)

    def _matrix(self, entities: Ints) -> sparse.csr_array:
        sizes = self.size[entities]
        values = self.value[ranges(self.start[entities], sizes)]
        there = np.ones(len(values), dtype=np.float32)
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        return sparse.csr_array((there, values, bounds), shape=(len(entities), len(self.members)))


def facts_of(tables: Iterable[pa.Table], relations: Sequence[str], count: int, cap: int, usable: Array) -> Facts:
    """Facts of some relations from the parts of a table (entity, relation, value).

    Raises InputError for a relation that no entity has, naming those that there are.
    """
    owners, met = [np.zeros(0, dtype=np.int64)], set()
    values: list[pa.Array] = []
    for table in tables:
        met |= set(pc.unique(table["relation"]).to_pylist())
        rows = table.filter(pc.is_in(table["relation"], pa.array(list(relations), table["relation"].type)))
        owners.append(rows["entity"].to_numpy())
        named = pc.binary_join_element_wise(rows["relation"], rows["value"], pa.scalar("\x00", rows["value"].type))
        values += named.chunks
    for wanted in relations:
        if wanted not in met:
            known = ", ".join(sorted(met)) or "there are none"
            raise InputError(
                f"training.fact_positives: no item has a fact {wanted!r}; there are {known} (facts.table adds others)"
            )
    codes = pa.chunked_array(values, pa.large_string()).combine_chunks().dictionary_encode().indices.to_numpy()
    return Facts(np.concatenate(owners), codes, count, cap, usable)
