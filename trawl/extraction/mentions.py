"""What an answer names: people, places and other names, titles, numbers, each with where it stands.

No model and no dictionary: names are runs of capitalised words; titles stand in quotation or book-title marks or before
a year in parentheses; numbers are written in digits. Chinese has no capitals: there names have a middle dot
(史蒂文·斯皮尔伯格) or follow a role (导演：张艺谋、巩俐). A single capitalised word that begins a sentence or an entry
of a list is no name, since any word would stand there with a capital; single names in such places are missed.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from trawl.extraction.wording import AMOUNT, CJK, NO_WORDING, OPENERS, PARTICLES, SHORT_YEAR, Wording, amount, fold

NAME, NUMBER, TITLE = "name", "number", "title"

_QUOTED = re.compile(
    r"""(?<!\w)["“„](?=\S)([^"“”„\n]{1,100})(?<=\S)["”](?!\w)|«([^«»\n]{1,100})»|《([^《》\n]{1,100})》|〈([^〈〉\n]{1,100})〉"""
    r"""|[「『]([^「」『』\n]{1,100})[」』]|(?<![\w’'])[‘']([A-Z0-9](?:[^‘’'\n]|[’'](?=\w)){0,80})[’'](?!\w)"""
)
_WITH_YEAR = re.compile(r"\s*[(（]\s*(?:1[5-9]|20)\d\ds?\s*[)）][.,\s]*$|[.,\s]+$")
_LONGEST_TITLE = 12  # words; a longer quotation is a sentence

_BULLET = re.compile(r"[\s*•·#>|\-–—]*(?:\(?\d{1,2}[.)]\s+)?[\s*_]*")
_LABEL = re.compile(r"([^:：\n]{1,60}?)[\s*_]*[:：][\s*_]*")
_PART = re.compile(r"(?<!\w)[^\W\d_]\.|\b(?:Jr|Sr|Dr|Mr|Mrs|Ms|St)\.|[^\W_]+(?:['’][^\W\d_]+)*")
_PARTICLES = frozenset(PARTICLES) | {"of", "the"}
_JOINS = re.compile(r"[ \u00a0]|[-\u2010\u2011]|")
_ENDS = re.compile(r"[.!?:;。！？：；\n•*|–—…\"“”]")  # what a capital need not mean anything after
_ENTRY = re.compile(r"\s*[,;/]\s*|\s*$|\.(?=\s|$)|\s+and\s+|\s+&\s+")
_IS_A = re.compile(  # after a single word that opens a sentence: it is a title, or a surname
    r",\s+(?:also |best |both )?(?:who|whose|known|recogni[sz]ed|remembered|famous|noted|in (?:his|her))\b|"
    r"\s+(?:is|was) (?:a|an|the)(?: [\w’'/-]+){0,8}? (?:film|movie|novel|book|series|documentary|story|sequel|play)\b"
    r"|\s*[(（](?:1[5-9]|20)\d\ds?[)）]"
)
_YEAR_AFTER = re.compile(r"\s*[(（](?:1[5-9]|20)\d\ds?[)）]")
_SHORTEST = 3  # letters of a single name; TV and US are none

_DOTTED = re.compile(rf"[{CJK}A-Za-z]{{1,10}}(?:[·・•‧][{CJK}A-Za-z]{{1,10}})+")
_ROLE = re.compile(
    "(?:导演|執導|执导|主演|演员|演員|编剧|編劇|作者|记者|記者|歌手|球员|主角|制片人|监制|作曲)(?:[：:]|是|为|為|有|包括)\\s*"
)
_LISTED = re.compile("([\u4e00-\u9fff]{2,4})(?:[、，,/和与及 ]+|(?=[。；;\n])|$)")


@dataclass(frozen=True)
class Mention:
    """`words`: what is looked for, folded; of a number its one form. `begin`, `end`: characters in the answer."""

    kind: str
    text: str
    words: tuple[str, ...]
    begin: int
    end: int


def mentions(text: str, wording: Wording = NO_WORDING) -> list[Mention]:
    """All mentions by place; none lies in another. Of JSON the values, with places in a rendering `key: value`."""
    found = []
    at = 0
    for line in _plain(text).split("\n"):
        found += [replace(m, begin=m.begin + at, end=m.end + at) for m in _Line(line, wording).mentions()]
        at += len(line) + 1
    return found


def _plain(text: str) -> str:
    """An answer that is a JSON object or list as lines; any other as it is."""
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        return "\n".join(_lines(json.loads(text), ""))
    except (ValueError, RecursionError):
        return text


def _lines(tree: Any, label: str) -> Iterator[str]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _lines(value, str(key))
    elif isinstance(tree, list):
        simple = [str(value) for value in tree if not isinstance(value, dict | list)]
        yield from _lines(", ".join(simple), label)
        for value in tree:
            if isinstance(value, dict | list):
                yield from _lines(value, label)
    elif tree is not None and tree != "":
        yield f"{label}: {tree}" if label else str(tree)


class _Line:
    """One line of an answer: the label of a key factor is taken off, then titles, names, numbers are taken out."""

    def __init__(self, line: str, wording: Wording) -> None:
        self.line, self.wording, self.kind = line, wording, ""
        bullet = _BULLET.match(line)
        self.start: int = bullet.end() if bullet else 0
        label = _LABEL.match(line, self.start)
        if label and (kind := wording.labels.get(fold(label[1]))):
            self.start, self.kind = label.end(), kind
        self.left = list(line)  # what is taken out becomes a sign that is no word

    def mentions(self) -> list[Mention]:
        found = [*self._titles(), *self._chinese(), *self._names(), *self._numbers()]
        return sorted(found, key=lambda m: m.begin)

    def _take(self, kind: str, begin: int, end: int, words: tuple[str, ...]) -> Mention:
        self.left[begin:end] = "\x01" * (end - begin)
        return Mention(kind, self.line[begin:end], words, begin, end)

    def _titles(self) -> Iterator[Mention]:
        for match in _QUOTED.finditer(self.line, self.start):
            group = match.lastindex or 1
            inside = _WITH_YEAR.sub("", match[group])
            begin = match.start(group)
            words = fold(inside)
            named = inside[:1].isupper() or inside[:1].isdigit() or not inside[:1].isalnum() or not inside[:1].isascii()
            if named and 0 < len(words) <= _LONGEST_TITLE:
                yield self._take(TITLE, begin, begin + len(inside), words)

    def _chinese(self) -> Iterator[Mention]:
        rest = "".join(self.left)
        if rest.isascii():
            return
        for match in _DOTTED.finditer(rest, self.start):
            yield self._take(NAME, *match.span(), fold(match.group()))
        for role in _ROLE.finditer(rest):
            at = role.end()
            while listed := _LISTED.match(rest, at):
                if self.left[listed.start(1)] != "\x01":
                    yield self._take(NAME, *listed.span(1), fold(listed[1]))
                at = listed.end()
                if listed.end() == listed.end(1):
                    break

    def _names(self) -> Iterator[Mention]:
        rest = "".join(self.left)
        for run in _runs(rest, self.start):
            opens = not rest[self.start : run[0][0]].strip() or bool(_ENDS.search(rest[: run[0][0]][-2:]))
            kept = self._trimmed(rest, run, opens)
            if not kept:
                continue
            begin, end = kept[0][0], kept[-1][1]
            words = fold(rest[begin:end])
            if self._is_name(rest, words, (begin, end), opens and len(kept) == len(run)):
                yield self._take(TITLE if _YEAR_AFTER.match(rest, end) else NAME, begin, end, words)

    def _trimmed(self, rest: str, run: list[tuple[int, int]], opens: bool) -> list[tuple[int, int]]:
        """The run without the words that only open a sentence."""
        at = 0
        while opens and at < len(run) and rest[slice(*run[at])].lower() in OPENERS:
            at += 1
        return run[at:]

    def _is_name(self, rest: str, words: tuple[str, ...], span: tuple[int, int], opens: bool) -> bool:
        ordinary = [word in self.wording.ordinary for word in words]
        if not words or all(ordinary) or (self.kind == "values" and any(ordinary)):
            return False
        if len(words) > 1:
            return any(len(word) > 1 and not word.isdigit() for word in words)
        if len(words[0]) < _SHORTEST or words[0] in OPENERS:
            return False
        if self.kind == "names":
            return True
        listed = bool(self.kind) and rest[: span[0]].rstrip()[-1:] in (",", ";", "/") and _ENTRY.match(rest, span[1])
        return not (opens or listed) or bool(_IS_A.match(rest, span[1]))

    def _numbers(self) -> Iterator[Mention]:
        rest = "".join(self.left)
        for short in SHORT_YEAR.finditer(rest):
            rest = rest[: short.start("rest")] + " " * len(short["rest"]) + rest[short.end("rest") :]
        for match in AMOUNT.finditer(rest, self.start):
            yield Mention(NUMBER, self.line[slice(*match.span())], (amount(match),), *match.span())


def _runs(text: str, start: int) -> Iterator[list[tuple[int, int]]]:
    """Spans of words that form a name: capitals, particles between them, numbers after them ("Rocky 2")."""
    run: list[tuple[int, int]] = []
    between: list[tuple[int, int]] = []
    last = start
    for part in _PART.finditer(text, start):
        word, span = part.group(), part.span()
        joined = bool(run) and bool(_JOINS.fullmatch(text, last, span[0]))
        joined = joined and not (text[last - 1] == "." and word.lower() in OPENERS)  # "Ana Lopez Jr. It is"
        last = span[1]
        capital = word[0].isupper() or (joined and not between and word[0].isdigit() and not _is_year(word))
        if capital and joined and not (len(between) == 1 and text[slice(*between[0])] == "the"):
            run += [*between, span]
            between = []
        elif joined and word in _PARTICLES:
            between.append(span)
        else:
            if run:
                yield run
            run, between = ([span], []) if capital and not word[0].isdigit() else ([], [])
    if run:
        yield run


def _is_year(word: str) -> bool:
    return bool(re.match(r"(?:1[5-9]|20)\d\d", word))
