"""Few candidates for each title, without ever holding titles x labels.

Label forms are numbered once. Equal forms are found in a hash of the forms; similar ones in an inverted index of
character trigrams: the cosine of idf-weighted trigram sets ranks the forms, and the best `count` are measured by edit
distance afterwards. Trigrams that stand in very many labels ("the") say little and cost most; they are left out.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

_BITS = 18  # trigrams are numbered by a hash of so many bits; a clash only costs a needless comparison
_COMMON = 0.02  # a trigram in a larger share of the labels is left out ...
_COMMON_LEAST = 500  # ... unless the labels are few
_CELLS = 6_000_000  # most scores held at once


class TrigramIndex:
    """Numbered texts, to be asked for equal and for similar ones."""

    def __init__(self, texts: Sequence[str]) -> None:
        """`texts`: distinct; a text's number is its place."""
        self.texts = pa.array(texts, pa.large_string())
        rows = _trigrams(texts)
        seen = np.asarray(rows.sum(axis=0)).ravel()
        weight = np.log1p(len(texts) / np.maximum(seen, 1))
        weight[seen > max(_COMMON_LEAST, _COMMON * len(texts))] = 0
        self._weight = weight.astype(np.float32)
        self._by_trigram = self._weighted(rows).T.tocsr()

    def equal(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """The number of the same text, or -1; shape of `texts`."""
        found = pc.index_in(pa.array(texts, pa.large_string()), value_set=self.texts)
        return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), dtype=np.int64)

    def similar(self, texts: Sequence[str], count: int) -> Iterator[npt.NDArray[np.int64]]:
        """For each text the numbers of at most `count` similar ones, best first, ties to the smaller number."""
        chunk = max(1, _CELLS // max(1, len(self.texts)))
        for start in range(0, len(texts), chunk):
            asked = self._weighted(_trigrams(texts[start : start + chunk]))
            scores = (asked @ self._by_trigram).tocsr()
            for row in range(scores.shape[0]):
                span = slice(scores.indptr[row], scores.indptr[row + 1])
                yield _best(scores.indices[span], scores.data[span], count)

    def _weighted(self, rows: Any) -> Any:
        out = sparse.csr_matrix(rows.multiply(self._weight))
        out.eliminate_zeros()
        norm = np.sqrt(np.asarray(out.multiply(out).sum(axis=1)).ravel())
        return sparse.diags(1 / np.maximum(norm, 1e-9)).astype(np.float32) @ out


def _best(numbers: npt.NDArray[np.int32], scores: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:
    if len(scores) > count:  # keep all that tie with the last one, then cut in a fixed order
        least = np.partition(scores, len(scores) - count)[len(scores) - count]
        numbers, scores = numbers[scores >= least], scores[scores >= least]
    best: npt.NDArray[np.int64] = numbers[np.lexsort((numbers, -scores))][:count].astype(np.int64)
    return best


def _trigrams(texts: Sequence[str]) -> Any:
    """(texts, 2**_BITS) of 0 and 1: which trigrams of " text " each text has."""
    padded = [f" {text} " for text in texts]
    lengths = np.fromiter(map(len, padded), dtype=np.int64, count=len(padded))
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    row: Any = np.repeat(np.arange(len(padded)), lengths)
    shape: Any = (len(padded), 2**_BITS)
    if len(codes) < 3:
        return sparse.csr_matrix(shape, dtype=np.float32)
    with np.errstate(over="ignore"):
        mixed = (codes[:-2] * np.uint64(0x9E3779B97F4A7C15)) ^ (codes[1:-1] * np.uint64(0xC2B2AE3D27D4EB4F))
        mixed = (mixed ^ codes[2:]) * np.uint64(0x165667B19E3779F9)
    inside = row[:-2] == row[2:]
    columns: Any = (mixed >> np.uint64(64 - _BITS)).astype(np.int64)[inside]
    ones: Any = np.ones(len(columns), dtype=np.float32)
    coordinates: Any = (ones, (row[:-2][inside], columns))
    out: Any = sparse.csr_matrix(coordinates, shape=shape)
    out.data[:] = 1  # a trigram twice in a text was summed to 2
    return out
