"""Grounding: the share of what an answer names that stands in what the engine read.

A name counts as read when its words stand in one text in a row; or beside each other, each the same, an initial of the
other, or alike by edit distance (rapidfuzz); so "S. Spielberg", "Spielberg’s", "Tarkovski" and "Visitors, The" are
found. A number counts when it stands there in any form (1,000, 2 million, twelve), a decade or century when a year of
it does. It is no proof of truth: a name that the text gives to somebody else is not noticed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, islice

from rapidfuzz import fuzz, process

from trawl.extraction.mentions import NUMBER, Mention, mentions
from trawl.extraction.wording import NO_WORDING, PARTICLES, ROLES, Wording, amounts, without_case, words_of

# Chosen on half of the films of tests/bench/grounding.py, which prints what it gives on the other half.
CLOSE = 80.0  # smallest similarity (0..100) of two words of a name that are read as one
_FUZZY_LETTERS = 5  # shorter words must be equal
_ALONE_LETTERS = 7  # shorter names of a single word must be equal
_GLUED_LETTERS = 6  # shorter names are not looked for without regard to spaces
_PLACES = 32  # places of a word that are looked at
_REMEMBERED = 4096  # texts kept prepared: popular items stand in many users' prompts
_LISTED = 100  # most unsupported mentions kept of an answer
_SMALL = frozenset(PARTICLES) | {"the", "a", "an", "of", "and"}


@dataclass(frozen=True)
class Grounded:
    """mentions: distinct ones; share: of them that were read, None without any; unsupported: as the answer has them."""

    mentions: int
    share: float | None
    unsupported: tuple[str, ...]


class Passage:
    """One text, prepared once: its words in a row and as a set, where capitals stand, its numbers."""

    def __init__(self, text: str) -> None:
        written = words_of(text)
        self.capital = [word[0].isupper() for word in written]
        self.words = tuple(without_case(word) for word in written)
        self.row = f" {' '.join(self.words)} "
        self.known = frozenset(self.words)
        self.numbers = amounts(text, self.known)

    @cached_property
    def long_words(self) -> list[str]:
        return [word for word in self.known if len(word) >= _FUZZY_LETTERS]

    @cached_property
    def glued(self) -> str:
        return "".join(self.words)

    def spells(self, letters: str) -> bool:
        """Whether some words in a row are these letters: "spiderman" for "Spider-Man"."""
        if letters not in self.glued:
            return False
        for at, word in enumerate(self.words):
            if letters.startswith(word) and "".join(self.words[at : at + len(letters)]).startswith(letters):
                sizes = accumulate(len(word) for word in self.words[at : at + len(letters)])
                if len(letters) in sizes:
                    return True
        return False


class Grounder:
    """Compares answers with what was read. Keeps prepared texts, so make one and use it for many rows."""

    def __init__(self, wording: Wording = NO_WORDING, close: float = CLOSE) -> None:
        self.wording, self.close = wording, close
        self._passage = lru_cache(_REMEMBERED)(Passage)

    def ground(self, answer: str, texts: Sequence[str]) -> Grounded:
        """Of an answer and all that its prompt showed: texts as clipped, titles, profile."""
        first: dict[tuple[bool, tuple[str, ...]], Mention] = {}
        for mention in mentions(answer, self.wording):
            first.setdefault((mention.kind == NUMBER, mention.words), mention)
        if not first:
            return Grounded(0, None, ())
        missing = self.unsupported(list(first.values()), texts)
        listed = tuple(mention.text for mention in missing[:_LISTED])
        return Grounded(len(first), 1 - len(missing) / len(first), listed)

    def unsupported(self, found: Sequence[Mention], texts: Sequence[str]) -> list[Mention]:
        """Those mentions of an answer that stand in none of the texts."""
        passages = [self._passage(text) for text in texts if text]
        return [mention for mention in found if not self._read(mention, passages)]

    def _read(self, mention: Mention, passages: Sequence[Passage]) -> bool:
        if mention.kind == NUMBER:
            return any(mention.words[0] in passage.numbers for passage in passages)
        words = mention.words
        if len(words) > 1 and words[0] in ("the", "a", "an") and not mention.text.startswith("A."):
            words = words[1:]
        if self._named(words, passages):
            return True
        bare = words
        while len(bare) > 1 and bare[0] in ROLES:
            bare = bare[1:]
        return len(bare) < len(words) and self._named(bare, passages)

    def _named(self, words: tuple[str, ...], passages: Sequence[Passage]) -> bool:
        phrase = f" {' '.join(words)} "
        if any(phrase in passage.row for passage in passages):
            return True
        glued = "".join(words)
        if len(glued) >= _GLUED_LETTERS and any(passage.spells(glued) for passage in passages):
            return True
        told = [n for n, word in enumerate(words) if n == 0 or (word not in _SMALL and not _middle_initial(words, n))]
        if len(told) == 1 and len(words[told[0]]) < _ALONE_LETTERS:
            return len(words) > 1 and any(words[told[0]] in passage.known for passage in passages)
        return any(self._near(words, told, passage) for passage in passages)

    def _near(self, words: tuple[str, ...], told: Sequence[int], passage: Passage) -> bool:
        """Whether the words that tell stand near each other in the text, as they are, as initials, or much alike."""
        longest = max(told, key=lambda n: (len(words[n]), n))
        exact = words[longest] in passage.known
        spellings = {words[longest]} if exact else set(self._alike(words[longest], passage))
        if not spellings or len(words[longest]) == 1:
            return False
        found = (at for at, word in enumerate(passage.words) if word in spellings and (exact or passage.capital[at]))
        places = list(islice(found, _PLACES))
        return any(all(self._beside(words[n], n - longest, passage, at) for n in told) for at in places)

    def _beside(self, word: str, steps: int, passage: Passage, at: int) -> bool:
        """Whether a word stands on its side of the place `at`, at most one word further off; or in turned order."""
        if not steps:
            return True
        side = 1 if steps > 0 else -1
        for place in range(at + side, at + steps + 2 * side, side):
            if 0 <= place < len(passage.words) and self._same(word, passage.words[place], passage.capital[place]):
                return True
        first, second = min(at, at - side), max(at, at - side)  # "Lopez, Ana", but not "Bo Lopez, Ana Li"
        if first < 0 or second >= len(passage.words) or passage.words[at - side] != word:
            return False
        return first == 0 or not passage.capital[first - 1]

    def _alike(self, word: str, passage: Passage) -> list[str]:
        if len(word) < _FUZZY_LETTERS or word.isdigit():
            return []
        found = process.extract(word, passage.long_words, scorer=fuzz.ratio, score_cutoff=self.close, limit=3)
        return [other for other, _, _ in found if other[0] == word[0]]

    def _same(self, word: str, other: str, capital: bool) -> bool:
        if word == other:
            return True
        if not capital or word[0] != other[0] or word.isdigit() or other == "i":
            return False
        if len(word) == 1 or len(other) == 1:
            return True
        return min(len(word), len(other)) >= _FUZZY_LETTERS and fuzz.ratio(word, other) >= self.close


def _middle_initial(words: Sequence[str], n: int) -> bool:
    return len(words[n]) == 1 and 0 < n < len(words) - 1
