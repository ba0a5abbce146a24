"""Picks from the texts what answers each key factor. No weights, no language model: words, names, years, sentences.

It stands at the seam of the language models, so that the whole pipeline runs where there is no model. It cannot infer
or rephrase; what it says stands in the texts. For one text (an item) a factor's answers come in the order in which the
text gives them; for several (a user) the ones in most texts come first, ties to the earlier text. Factors take turns,
so that the token limit costs each about as much. Texts that are answers themselves are read by their lines.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from itertools import zip_longest

from trawl.extraction.budget import ELISION, count_tokens
from trawl.extraction.engines import unspaced
from trawl.extraction.engines.finders import Found, Text, finder, short_form, split_sentences
from trawl.extraction.engines.seam import CountsWords, Reply, Request
from trawl.extraction.key_factors import Factor
from trawl.store import digest_json

_LONGEST = 40_000  # characters of a text that are searched; a page's introduction has far fewer
_WORD = re.compile(r"[^\W\d_]{4,}")
_ENDS = (".", "!", "?", "...")  # of a sentence among the answers
_LINE = re.compile(r"^[\s\-*•\d.、]*\**([^:：]{1,80}?)\**\s*[:：]\**\s*(.*)$")  # "- **Factor**: what is said"
_ENTRY_TOKENS = 8  # of a value or name in an answer; what is longer is prose
_ALGORITHM = "1"
_FIRST_LIST = "29d309eec729"  # digest of the list of films whose answers are kept under the algorithm's number alone
_SAID = 0.5  # score of a sentence in an answer, beside those found by their cues


def _revision(factors: Sequence[Factor]) -> str:
    """Of the algorithm, and of the list: cues stand in no prompt, so a prompt's digest would not tell of them."""
    mark = digest_json([asdict(factor) for factor in factors])[:12]
    return _ALGORITHM if mark == _FIRST_LIST else f"{_ALGORITHM}-{mark}"


class ExtractiveEngine(CountsWords):
    """The CPU stand-in for a language model: an extractor, not a generator."""

    name = "extractive"

    def __init__(self, factors: Sequence[Factor], remembered: int = 20_000) -> None:
        """`remembered`: texts whose findings are kept, since users share the texts of popular items."""
        self.factors = tuple(factors)
        self.revision = _revision(self.factors)
        self.signs = unspaced.needed(self.factors)
        self._finders = [finder(factor) for factor in self.factors]
        self._numbers = {factor.name.casefold(): number for number, factor in enumerate(self.factors)}
        self._read = lru_cache(remembered)(self._read_text)
        self._read_extracted = lru_cache(remembered)(self._read_answer)

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Reply:
        if request.merges:
            ranked = _united(self.factors, request.texts)
        else:
            read = self._read_extracted if request.extracted else self._read
            found = [read(text) for text in request.texts if text]
            ranked = [
                _ranked(factor, [per_text[number] for per_text in found], self.signs)
                for number, factor in enumerate(self.factors)
            ]
        ends = (*_ENDS, *unspaced.ENDS) if self.signs else _ENDS
        text = _within([factor.name for factor in self.factors], ranked, request.max_tokens, ends)
        return Reply(text, count_tokens(request.prompt), count_tokens(text))

    def _read_text(self, text: str) -> tuple[Found, ...]:
        read = Text(text[:_LONGEST], self.signs)
        return tuple(find(read) for find in self._finders)

    def _read_answer(self, text: str) -> tuple[Found, ...]:
        """An answer about one item: each line under its factor; what is under none is read like any text."""
        said: dict[int, str] = {}
        rest = []
        for row in text[:_LONGEST].splitlines():
            parts = _LINE.match(row)
            number = self._numbers.get(parts.group(1).strip().casefold()) if parts else None
            if parts and number is not None:
                said[number] = f"{said[number]} {parts.group(2)}" if number in said else parts.group(2)
            else:
                rest.append(row)
        other = self._read_text("\n".join(rest))
        return tuple(self._said(n, said[n]) if n in said else found for n, found in enumerate(other))

    def _said(self, number: int, text: str) -> Found:
        factor = self.factors[number]
        if factor.kind == "sentences":
            sentences = split_sentences(text)[: factor.limit]
            return Found(tuple(short_form(s, self.signs) for s in sentences), (_SAID,) * len(sentences))
        found = self._finders[number](Text(text, self.signs)) if factor.kind == "values" else Found(())
        entries = [entry.strip(" .。") for entry in re.split(r"[,;，；、]", text)]
        short = [entry for entry in entries if 0 < count_tokens(entry) <= _ENTRY_TOKENS]
        return found if found.answers else Found(tuple(dict.fromkeys(short))[: factor.limit])


def _ranked(factor: Factor, found: Sequence[Found], signs: bool) -> list[str]:
    """A factor's answers over all texts, best first."""
    if len(found) == 1:
        return list(found[0].answers)
    if factor.kind == "sentences":
        return _representative(found, signs)
    votes = Counter(answer for one in found for answer in one.answers)  # insertion order: oldest text first
    return [answer for answer, _ in sorted(votes.items(), key=lambda vote: -vote[1])][: 2 * factor.limit]


def _representative(found: Sequence[Found], signs: bool) -> list[str]:
    """Of each text the best sentence; those whose words the other texts' sentences share come first."""
    best = [(one.answers[0], one.scores[0]) for one in found if one.answers]
    words = [set(_words(sentence)) | (unspaced.bigrams(sentence) if signs else set()) for sentence, _ in best]
    shared = Counter(word for each in words for word in each)
    central = [sum(shared[w] - 1 for w in each) / (1 + len(each)) for each in words]
    order = sorted(range(len(best)), key=lambda n: (-central[n] - best[n][1], n))
    return list(dict.fromkeys(best[n][0] for n in order))


@lru_cache(50_000)
def _words(sentence: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _WORD.findall(sentence))


def _united(factors: Sequence[Factor], answers: Sequence[str]) -> list[list[str]]:
    """Each factor's answers over several answers of this engine: each once, those that most of them give first.

    Of those that as many give, the first of each answer come before the second ones.
    """
    lines = [dict(line.split(": ", 1) for line in _lines(answer)) for answer in answers]
    out = []
    for factor in factors:
        listed = [_listed(factor, of.get(factor.name, "")) for of in lines]
        votes = Counter(said for turn in zip_longest(*listed) for said in turn if said)
        out.append([said for said, _ in sorted(votes.items(), key=lambda vote: -vote[1])])
    return out


def _lines(answer: str) -> list[str]:
    """Lines that name a factor; what is left of one behind the mark of a cut names none."""
    return [line for line in answer.replace(ELISION, "\n").splitlines() if ": " in line]


def _listed(factor: Factor, said: str) -> list[str]:
    parts = split_sentences(said) if factor.kind == "sentences" else said.split(", ")
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _within(names: Sequence[str], ranked: Sequence[Sequence[str]], room: int, ends: tuple[str, ...]) -> str:
    """One line per factor that has answers; factors take turns until no further answer fits into the room."""
    taken: list[list[str]] = [[] for _ in names]
    for turn in zip_longest(*ranked):
        for number, answer in enumerate(turn):
            if answer is None:
                continue
            cost = count_tokens(answer) + (1 if taken[number] else count_tokens(names[number]) + 1)
            if cost <= room:
                taken[number].append(answer)
                room -= cost
    return "\n".join(
        f"{name}: {(' ' if answers[0].endswith(ends) else ', ').join(answers)}"
        for name, answers in zip(names, taken, strict=True)
        if answers
    )
