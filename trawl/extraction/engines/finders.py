"""What one text says about a key factor: listed words, names behind a phrase, sentences with cue words."""

import re
from dataclasses import dataclass

from trawl.extraction.budget import TOKEN
from trawl.extraction.engines import unspaced
from trawl.extraction.key_factors import Factor

_SENTENCE = re.compile(r"(?<=[.!?。！？])[\"'”’)]*\s+(?=[\"'“‘(]?[A-Z0-9À-Þ])|\n+|(?<=[。！？])")
_NOT_AN_END = re.compile(r"(?:\b(?:[A-Z]|Mr|Mrs|Ms|Dr|Jr|Sr|St|vs|No|Prof|Capt|Lt|Sgt|Gen|Col|Vol|Pt))\.$")
_PART = r"(?:(?:[A-ZÀ-Þ]\.)+|(?:Jr|Sr|St|Dr)\.|[A-ZÀ-Þ][\w'’-]*)"
_NAME = rf"{_PART}(?:\s+(?:(?:de|del|della|di|da|du|van|von|der|den|la|le|of the|bin|al)\s+){{0,2}}{_PART}){{1,3}}"
_NAMES = re.compile(rf"[\s,:]*(?:(?:and|&|the|actors?|actress(?:es)?|[A-ZÀ-Þ][\w'’-]+,)\s+)*({_NAME})")
_SENTENCE_TOKENS = 40
_ENDINGS = ("", "s", "es", "ed", "d", "ing", "al", "er", "ers", "ion", "ions", "ation")  # of a cue word in a sentence
_WORDS = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_NO_NAME = re.compile(r"\b(?:Best|Awards?|Academy|Pictures|Studios?|Department|Festival|Films?)\b")


@dataclass(frozen=True)
class Found:
    """What one text says about one factor: answers in order, and for sentences their scores."""

    answers: tuple[str, ...]
    scores: tuple[float, ...] = ()


class Text:
    """One text, taken apart once for all factors. words: (place, lower-case word); sentences: (as is, lower, words).

    `signs`: each sign of a script without spaces is a word.
    """

    def __init__(self, text: str, signs: bool = False) -> None:
        self.plain, self.signs = text, signs
        self.lower = text.lower() if len(text.lower()) == len(text) else text
        words = unspaced.WORDS if signs else _WORDS
        self.words = [(match.start(), match.group()) for match in words.finditer(self.lower)]
        sentences = [unspaced.tidy(s) if signs else s for s in split_sentences(text)]
        self.sentences = [(s, low := s.lower(), words.findall(low)) for s in sentences if s]


def split_sentences(text: str) -> list[str]:
    """Sentences of a text; initials and titles ("J. R.", "Dr.") end none."""
    out: list[str] = []
    start = 0
    for gap in _SENTENCE.finditer(text):
        if _NOT_AN_END.search(text[max(start, gap.start() - 12) : gap.start()]) and "\n" not in gap.group():
            continue
        out.append(" ".join(text[start : gap.end()].split()))
        start = gap.end()
    out.append(" ".join(text[start:].split()))
    return [sentence for sentence in out if sentence]


class Values:
    """Listed words and patterns, as they stand in the text, each once, in the order of the text."""

    def __init__(self, factor: Factor) -> None:
        self.phrases: dict[str, list[str]] = {}  # by first word, the longest first: "romantic comedy" before "romantic"
        for value in sorted(factor.values, key=lambda v: (-len(v), v)):
            self.phrases.setdefault(unspaced.WORDS.findall(value.lower())[0], []).append(value.lower())
        self.pattern = re.compile("|".join(factor.patterns), re.IGNORECASE) if factor.patterns else None
        self.limit = factor.limit

    def __call__(self, text: Text) -> Found:
        hits: list[tuple[int, str]] = []
        end = 0
        for at, word in text.words:
            for phrase in self.phrases.get(word, ()) if at >= end else ():
                following = text.lower[at + len(phrase) : at + len(phrase) + 1]
                longer = unspaced.goes_on(phrase, following) if text.signs else following.isalnum()
                if text.lower.startswith(phrase, at) and not longer:
                    hits.append((at, phrase))
                    end = at + len(phrase)
                    break
        if self.pattern:
            hits += [(match.start(), match.group()) for match in self.pattern.finditer(text.lower)]
        return Found(tuple(dict.fromkeys(hit for _, hit in sorted(hits)))[: self.limit])


class Names:
    """Proper names after or before a phrase: "directed by Ana Lopez and Bo Li"."""

    def __init__(self, factor: Factor) -> None:
        phrases = sorted(factor.after, key=lambda v: (-len(v), v))
        self.after = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, phrases))})(?=[\s:,])") if phrases else None
        words = "|".join(map(re.escape, factor.before))
        self.before = re.compile(rf"({_NAME})\s+(?:{words})\b") if words else None
        self.unspaced = unspaced.Names(factor.after, factor.before)
        self.limit = factor.limit

    def __call__(self, text: Text) -> Found:
        names: dict[str, None] = dict.fromkeys(self.unspaced(text.plain))
        for cue in self.after.finditer(text.lower) if self.after else ():
            at = cue.end()
            while listed := _NAMES.match(text.plain, at):
                names.setdefault(_plain(listed.group(1)))
                at = listed.end()
        for cue in self.before.finditer(text.plain) if self.before else ():
            names.setdefault(_plain(cue.group(1)))
        return Found(tuple(name for name in names if not _NO_NAME.search(name))[: self.limit])


def _plain(name: str) -> str:
    name = " ".join(name.split())
    name = name[:-1] if name.endswith(".") and not re.search(r"\b(?:Jr|Sr|[A-Z])\.$", name) else name
    return re.sub(r"['’]s$", "", name)


class Sentences:
    """The sentences with most cue words for their length; of equal ones the earlier."""

    def __init__(self, factor: Factor) -> None:
        cues = [cue.lower() for cue in factor.cues]
        phrases = [cue for cue in cues if " " in cue or unspaced.has(cue)]
        self.words = {cue + ending: cue for cue in cues if cue not in phrases for ending in _ENDINGS}
        self.phrases = tuple(phrases)
        self.limit = factor.limit

    def __call__(self, text: Text) -> Found:
        scored = []
        for place, (sentence, lower, words) in enumerate(text.sentences):
            hits = len({self.words[word] for word in words if word in self.words})
            hits += sum(phrase in lower for phrase in self.phrases)
            if hits:
                scored.append((-hits / (6 + len(words)) ** 0.5, place, sentence))
        best = sorted(scored)[: self.limit]
        return Found(tuple(short_form(s, text.signs) for _, _, s in best), tuple(-score for score, _, _ in best))


def short_form(sentence: str, signs: bool) -> str:
    """The sentence, cut where it is long; `signs` as in Text."""
    spans = [match.end() for match in TOKEN.finditer(sentence)]
    most = 2 * _SENTENCE_TOKENS if signs else _SENTENCE_TOKENS  # a sign says about half of what a word does
    return sentence if len(spans) <= most else f"{sentence[: spans[most - 1]]} ..."


_FINDERS: dict[str, type[Values] | type[Names] | type[Sentences]] = {
    "values": Values,
    "names": Names,
    "sentences": Sentences,
}


def finder(factor: Factor) -> Values | Names | Sentences:
    """What reads a text for this factor, by the factor's kind."""
    return _FINDERS[factor.kind](factor)
