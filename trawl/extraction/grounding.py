"""Grounding: the share of what an answer names that stands in what the engine read.

A name counts as read when its words stand in one text in a row; or near each other, each the same, an initial of the other,
or alike by edit distance (rapidfuzz); so "S. Spielberg", "Spielberg’s", "Tarkovski" and "Visitors, The" are found. A number
counts when it stands there in any form (1,000, 2 million, twelve), a decade or century when a year of it does. It is no
proof of truth: a name that the text gives to somebody else is not noticed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from rapidfuzz import fuzz, process

from trawl.extraction.mentions import NUMBER, Mention, mentions
from trawl.extraction.wording import NO_WORDING, ROLES, Wording, amounts, without_case, words_of

# Chosen on half of the films of tests/bench/grounding.py, which prints what it gives on the other half.
CLOSE = 80.0  # smallest similarity (0..100) of two words of a name that are read as one
_FUZZY_LETTERS = 5  # shorter words must be equal
_ALONE_LETTERS = 7  # shorter names of a single word must be equal
_GLUED_LETTERS = 6  # shorter names are not looked for without regard to spaces
_APART = 2  # other words that may stand between those of a name
_PLACES = 32  # places of a word that are looked at
_REMEMBERED = 4096  # texts kept prepared: popular items stand in many users' prompts
_LISTED = 100  # most unsupported mentions kept of an answer
_SMALL = frozenset(
    "the a an of de del della di da du des van von der den la le los las el al bin ibn and y dos".split()
)


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
        while len(words) > 1 and words[0] in ("the", "a", "an"):
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
        if len(glued) >= _GLUED_LETTERS and any(glued in passage.glued for passage in passages):
            return True
        essential = (words[0], *(word for word in words[1:] if word not in _SMALL))
        if len(essential) == 1 and len(essential[0]) < _ALONE_LETTERS:
            return len(words) > 1 and any(essential[0] in passage.known for passage in passages)
        return any(self._near(essential, passage) for passage in passages)

    def _near(self, words: tuple[str, ...], passage: Passage) -> bool:
        """Whether the words stand near each other in the text, each as itself, as an initial, or much alike."""
        anchor = max(words, key=lambda word: (len(word), word))
        spellings = {anchor} & passage.known or set(self._alike(anchor, passage))
        if not spellings or len(anchor) == 1:
            return False
        places = [n for n, word in enumerate(passage.words) if word in spellings][:_PLACES]
        reach = len(words) + _APART
        return any(self._around(words, passage, range(max(0, at - reach + 1), at + reach)) for at in places)

    def _alike(self, word: str, passage: Passage) -> list[str]:
        if len(word) < _FUZZY_LETTERS or word.isdigit():
            return []
        found = process.extract(word, passage.long_words, scorer=fuzz.ratio, score_cutoff=self.close, limit=3)
        return [other for other, _, _ in found]

    def _around(self, words: tuple[str, ...], passage: Passage, window: range) -> bool:
        places = [at for at in window if at < len(passage.words)]
        return all(any(self._same(word, passage.words[at], passage.capital[at]) for at in places) for word in words)

    def _same(self, word: str, other: str, capital: bool) -> bool:
        if word == other:
            return True
        if not capital or word[0] != other[0] or word.isdigit() or other == "i":
            return False
        if len(word) == 1 or len(other) == 1:
            return True
        return min(len(word), len(other)) >= _FUZZY_LETTERS and fuzz.ratio(word, other) >= self.close
