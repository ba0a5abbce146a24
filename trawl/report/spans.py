"""Which parts of a text an answer took over: the longest runs of words that stand in both.

A run counts when it is long enough to be no chance: four words; three of at least 15 letters; two that begin with
capitals in both texts (names); or any number of words that are the whole of an entry in a list ("Genre: war, comedy").
Words are compared without case. The source is indexed by one, two and three words; at each word of the answer at most
`_CANDIDATES` places are tried, those of most equal words first, so the work grows with the length of the texts, which
is bounded.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST = 20_000  # characters of a text that are compared
_CANDIDATES = 32
_LONG, _SHORT, _LETTERS, _FEWEST = 4, 3, 15, 3
# Scripts without spaces between words: each character is a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
_BEGIN, _END = re.compile(r"[:,;\n•*-]"), re.compile(r"[,;\n.]")
_SENTENCE = re.compile(r"[.!?。！？]\s|\n")
_AROUND = 160  # characters left on each side of a stretch that is not shown in full


@dataclass(frozen=True)
class Piece:
    """A stretch of a text; `used`: it stands in the other text too."""

    text: str
    used: bool


@dataclass(frozen=True)
class Compared:
    """The sources and the answer in pieces, in order; `found` of the answer's `words` stand in a run."""

    sources: tuple[tuple[Piece, ...], ...]
    answer: tuple[Piece, ...]
    words: int
    found: int


@dataclass(frozen=True)
class _Word:
    plain: str
    begin: int
    end: int
    low: str


def _words(text: str) -> list[_Word]:
    return [_Word(m.group(), m.start(), m.end(), m.group().casefold()) for m in _WORD.finditer(text)]


def compare(sources: Sequence[str], answer: str) -> Compared:
    """Of each text the first LONGEST characters are compared; what follows is the last piece, not used."""
    there: list[_Word | None] = []  # of all sources, None between two
    of: list[int] = []
    for number, source in enumerate(sources):
        found = _words(source[:LONGEST])
        there += [*found, None]
        of += [number] * (len(found) + 1)
    places = _index(there)
    text = answer[:LONGEST]
    mine = _words(text)
    used: list[list[tuple[int, int]]] = [[] for _ in sources]
    runs: list[tuple[int, int]] = []
    at = words = 0
    while at < len(mine):
        length, place = _longest(mine, at, there, places)
        length = _counting(text, mine, at, there, place, length)
        if length:
            first, last = there[place], there[place + length - 1]
            assert first and last
            used[of[place]].append((first.begin, last.end))
            runs.append((mine[at].begin, mine[at + length - 1].end))
            words += length
        at += length or 1
    pieces = tuple(_pieces(source, spans) for source, spans in zip(sources, used, strict=True))
    return Compared(pieces, _pieces(answer, runs), len(mine), words)


def _index(there: Sequence[_Word | None]) -> dict[tuple[str, ...], list[int]]:
    """Where each sequence of one to _SHORT words begins, the first _CANDIDATES of them."""
    places: dict[tuple[str, ...], list[int]] = {}
    for place in range(len(there)):
        key: tuple[str, ...] = ()
        for word in there[place : place + _SHORT]:
            if word is None:
                break
            key = (*key, word.low)
            if len(known := places.setdefault(key, [])) < _CANDIDATES:
                known.append(place)
    return places


def _longest(
    mine: Sequence[_Word], at: int, there: Sequence[_Word | None], places: dict[tuple[str, ...], list[int]]
) -> tuple[int, int]:
    """Words of the longest run from `at`, and where it begins among the sources' words."""
    best = (0, 0)
    key = tuple(word.low for word in mine[at : at + _SHORT])
    while key and key not in places:
        key = key[:-1]
    for place in places.get(key, ()):
        length = 0
        while at + length < len(mine) and (word := there[place + length]) and word.low == mine[at + length].low:
            length += 1
        if length > best[0]:
            best = (length, place)
    return best


def _counting(
    text: str, mine: Sequence[_Word], at: int, there: Sequence[_Word | None], place: int, longest: int
) -> int:
    """The most words of a run that count; 0 when it may be chance."""
    for length in range(longest, 0, -1):
        run = mine[at : at + length]
        letters = sum(len(word.low) for word in run)
        if length >= _LONG or (length == _SHORT and letters >= _LETTERS):
            return length - _begun(text, run)
        other = [word for word in there[place : place + length] if word]
        if length > 1 and all(word.plain[0].isupper() for word in (*run, *other)):
            return length
        if letters >= _FEWEST and _entry(text, mine, at, length):
            return length
    return 0


def _begun(text: str, run: Sequence[_Word]) -> int:
    """Words at the end of a run that only begin the next sentence: equal by chance, or part of a longer run."""
    for words in (1, 2):
        if len(run) - words >= _SHORT and _SENTENCE.search(text[run[-words - 1].end : run[-words].begin]):
            return words
    return 0


def _entry(text: str, mine: Sequence[_Word], at: int, length: int) -> bool:
    """The run is the whole of an entry: between a colon, a comma or a line's end and the next of these."""
    last = at + length - 1
    before = text[mine[at - 1].end : mine[at].begin] if at else "\n"
    after = text[mine[last].end : mine[last + 1].begin] if last + 1 < len(mine) else "\n"
    return bool(_BEGIN.search(before)) and bool(_END.search(after)) and not after.lstrip().startswith(":")


def _pieces(text: str, spans: Sequence[tuple[int, int]]) -> tuple[Piece, ...]:
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    out: list[Piece] = []
    done = 0
    for begin, end in merged:
        if begin > done:
            out.append(Piece(text[done:begin], False))
        out.append(Piece(text[begin:end], True))
        done = end
    return (*out, Piece(text[done:], False)) if done < len(text) else tuple(out)


def condense(pieces: Sequence[Piece], limit: int) -> tuple[Piece, ...]:
    """The same pieces in at most `limit` characters: long unused stretches lose their middle, then the end goes."""
    if sum(len(piece.text) for piece in pieces) <= limit:
        return tuple(pieces)
    out: list[Piece] = []
    room = limit
    for piece in pieces:
        text = piece.text
        if not piece.used and len(text) > 2 * _AROUND:
            text = f"{text[:_AROUND]} […] {text[-_AROUND:]}"
        if len(text) > room:
            out.append(Piece(f"{text[: max(room, 1) - 1]}…", piece.used))
            break
        out.append(Piece(text, piece.used))
        room -= len(text)
    return tuple(out)
