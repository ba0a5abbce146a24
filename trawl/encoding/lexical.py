"""`lexical`: an encoder without weights. Hashed words, word pairs and character n-grams under a fixed projection.

Every feature is hashed to 64 bits, and the hash itself says the feature's direction: d random signs drawn from it.
Nothing is fitted and nothing is kept between texts, so that any number of workers agree. The price: there is no
measure of how rare a word is in the corpus (IDF). In its stead, from the text alone: repeated words count
sublinearly (1 + ln tf), the commonest English words count almost nothing, and capitalised words count more, as names
are what texts about the same thing share.

    text = sum over words of weight * (word + _NGRAMS * its character 3..5-grams) + _PAIRS * neighbouring words

each part of unit length. Shapes: n texts, m words or features, d dimension.
"""

import hashlib
import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from trawl.checks import mix

Hashes = npt.NDArray[np.uint64]
Signs = npt.NDArray[np.int8]
Vectors = npt.NDArray[np.float32]

_WORD = re.compile(r"\w{1,32}")  # longer runs (scripts without spaces, garbage) are read in pieces
_NGRAMS, _PAIRS = 0.8, 0.25
_NAME, _STOP = 2.5, 0.02  # halves of the same article find each other best at about these values
_CACHE_BYTES = 64 << 20
_TEXTS = 128  # read at once

_STOP_TEXT = """
a about above after again against all also although am among an and another any are around as at be became because
become been before being below between both but by can could did do does doing down during each either else even
ever every few first for from further get had has have having he her here hers herself him himself his how however
i if in into is it its itself just last later least less like made make many may me might more most much must my
myself neither never new no nor not now of off often on once one only or other others our ours out over own per
quite rather same several she should since so some such than that the their theirs them then there these they this
those three through thus to together too toward towards two under until up upon us use used using very was we well
were what when where whether which while who whom whose why will with within without would yet you your yours s t
"""
_STOP_WORDS = frozenset(_STOP_TEXT.split())


class Lexical:
    """See the module. `dimension` d >= 1; reads the first `max_tokens` words of a text; `seed` turns all signs."""

    def __init__(self, dimension: int, max_tokens: int, seed: int = 0) -> None:
        self.dimension = dimension
        self.max_tokens = max_tokens
        self.seed = mix(np.array([seed]))[0]
        self._most = max(1024, _CACHE_BYTES // (4 * dimension))
        self._forget()

    def count(self, texts: Sequence[str]) -> list[int]:
        """Words of each text."""
        return [len(_WORD.findall(text)) for text in texts]

    def encode(self, texts: Sequence[str]) -> Vectors:
        """(n, d) float32 of unit length; zero for a text without a word."""
        out = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for start in range(0, len(texts), _TEXTS):
            out[start : start + _TEXTS] = self._encode(texts[start : start + _TEXTS])
        return out

    def _encode(self, texts: Sequence[str]) -> Vectors:
        words = [_WORD.findall(text)[: self.max_tokens] for text in texts]
        self._learn(dict.fromkeys(word for some in words for word in some))
        total = self._words(words) + np.float32(_PAIRS) * self._pairs(words)
        length = np.linalg.norm(total, axis=1, keepdims=True)
        return np.asarray(np.divide(total, length, out=np.zeros_like(total), where=length > 0), dtype=np.float32)

    def _words(self, words: Sequence[list[str]]) -> Vectors:
        """(n, d) the words' part. Columns stand in the order of the text, so that sums do not depend on the cache."""
        counts = [Counter(some) for some in words]
        rows = np.cumsum([0, *(len(c) for c in counts)])
        ids = np.array([self._ids[word] for c in counts for word in c], dtype=np.int64)
        damp = np.array([1 + math.log(tf) for c in counts for tf in c.values()], dtype=np.float32)
        matrix = sp.csr_array((damp * self._weights[ids], ids, rows), shape=(len(words), len(self._weights)))
        return np.asarray(matrix @ self._vectors, dtype=np.float32)

    def _pairs(self, words: Sequence[list[str]]) -> Vectors:
        """(n, d) the neighbouring words' part, over words that are not stop words; every pair of unit length."""
        out = np.zeros((len(words), self.dimension), dtype=np.float32)
        ids = np.array([self._ids[word] for some in words for word in some], dtype=np.int64)
        text = np.repeat(np.arange(len(words)), [len(some) for some in words])
        kept = self._weights[ids] > _STOP
        ids, text = ids[kept], text[kept]
        together = np.flatnonzero(text[1:] == text[:-1])
        if len(together):
            hashes, text = self._hashes[ids], text[together]
            with np.errstate(over="ignore"):
                pairs = mix(hashes[together]) * np.uint64(3) + hashes[together + 1]
            starts = np.flatnonzero(np.diff(text, prepend=-1))
            out[text[starts]] = np.add.reduceat(self._signs(pairs), starts, axis=0, dtype=np.int32)
        return out / np.float32(math.sqrt(self.dimension))

    def _forget(self) -> None:
        self._ids: dict[str, int] = {}
        self._hashes: Hashes = np.empty(0, dtype=np.uint64)
        self._weights: Vectors = np.empty(0, dtype=np.float32)
        self._vectors: Vectors = np.empty((0, self.dimension), dtype=np.float32)

    def _learn(self, words: dict[str, None]) -> None:
        """Put the words into the cache; a full cache is emptied first."""
        new = [word for word in words if word not in self._ids]
        if len(self._ids) + len(new) > self._most:
            self._forget()
            new = list(words)
        if not new:
            return
        self._ids |= {word: len(self._ids) + i for i, word in enumerate(new)}
        lowered = [word.lower() for word in new]
        hashes = np.array([_hash(word) for word in lowered], dtype=np.uint64)
        weights = [_weight(word, low) for word, low in zip(new, lowered, strict=True)]
        vectors = self._signs(hashes) + np.float32(_NGRAMS) * self._ngrams(lowered)
        self._hashes = np.concatenate([self._hashes, hashes])
        self._weights = np.concatenate([self._weights, np.array(weights, dtype=np.float32)])
        self._vectors = np.concatenate([self._vectors, vectors / np.float32(math.sqrt(self.dimension))])

    def _ngrams(self, words: Sequence[str]) -> Vectors:
        """(m, d) sums of the signs of each word's character 3..5-grams, brought to length sqrt(d)."""
        grams = [_grams(word) for word in words]
        hashes = np.array([zlib.crc32(gram.encode("utf-8", "replace")) for some in grams for gram in some])
        starts = np.cumsum([0, *(len(some) for some in grams)])[:-1]
        sums = np.add.reduceat(self._signs(mix(hashes)), starts, axis=0, dtype=np.int32).astype(np.float32)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        unit = np.divide(sums, length, out=np.zeros_like(sums), where=length > 0)
        return np.asarray(unit * np.float32(math.sqrt(self.dimension)), dtype=np.float32)

    def _signs(self, hashes: Hashes) -> Signs:
        """(m, d) of -1 and 1, drawn from each hash and the seed."""
        draws = np.arange(1, -(-self.dimension // 64) + 1, dtype=np.uint64) * np.uint64(0xD1342543DE82EF95)
        bits = mix((hashes ^ self.seed)[:, None] + draws).astype("<u8").view(np.uint8)
        return np.unpackbits(bits, axis=1, count=self.dimension).view(np.int8) * np.int8(2) - np.int8(1)


def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def _weight(word: str, lowered: str) -> float:
    if lowered in _STOP_WORDS:
        return _STOP
    return _NAME if word[0] != lowered[0] else 1.0


def _grams(word: str) -> list[str]:
    """Character 3..5-grams of the word between marks of its ends; of a word of one letter, the marked word."""
    marked = f"<{word}>"
    return [marked[i : i + n] for n in (3, 4, 5) for i in range(len(marked) - n + 1)]
