"""Where a text may be cut, by the tokens of whoever counted them: sections with a heading, paragraphs, sentences.

Everything is given back as places in the text's characters, so that whoever renders a cut text needs no tokenizer. A
cut never halves a character, though a tokenizer may spell one in several tokens.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from trawl.extraction.budget import ELISION, Spans

Ints = npt.NDArray[np.int64]
_HEADING = re.compile(r"^(?:#{1,6}\s+\S.*|={2,}\s*\S.*?={2,}\s*)$", re.MULTILINE)  # Markdown's and the wikis'
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
_SENTENCE = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])[」』”’）]*\s*|\n+")
_WORD = re.compile(r"\s+")
_TITLE = 80  # characters of a line that may be a heading though nothing marks it as one
_LEAST = (32, 16, 8, 4, 2, 1)  # tokens of each section before shares are given out
_ENDS = (".", "!", "?", ":", ";", ",", "。", "！", "？", "…", '"', "”")


@dataclass(frozen=True)
class Passage:
    """A stretch of a text: its tokens, and its characters from `begin` up to `end`."""

    tokens: int
    begin: int
    end: int


def section_starts(text: str) -> list[int]:
    """First characters of the sections: at headings and after blank lines; a heading opens what follows it."""
    starts = {0, *(m.end() for m in _PARAGRAPH.finditer(text)), *(m.start() for m in _HEADING.finditer(text))}
    ordered = sorted(start for start in starts if start < len(text) or not start)
    pieces = [text[a:b].strip() for a, b in zip(ordered, [*ordered[1:], len(text)], strict=True)]
    headed = [_is_heading(piece) for piece in pieces]
    opened = [n > 0 and headed[n - 1] and not headed[n] for n in range(len(pieces))]
    return [start for start, inside in zip(ordered, opened, strict=True) if not inside]


def _is_heading(piece: str) -> bool:
    if "\n" in piece:
        return False
    return bool(_HEADING.match(piece)) or (0 < len(piece) <= _TITLE and not piece.endswith(_ENDS))


def spread(lengths: Sequence[int], budget: int, cost: int) -> list[int]:
    """Tokens that each section keeps so that, with a mark of `cost` tokens each, they stay within `budget`.

    A sentence's worth of each where there is room for it, else less, and of what is longer a share in proportion. Where
    there is no room for one token of each with its mark, the first sections that have room share it.
    """
    there = np.asarray(lengths, dtype=np.int64)
    if there.sum() <= budget:
        return [int(n) for n in there]
    filled = np.flatnonzero(there)
    if budget - cost * len(filled) < len(filled):
        filled = filled[: max(0, budget // (cost + 1))]
    kept, length, room = np.zeros_like(there), there[filled], budget - cost * len(filled)
    least = next((n for n in _LEAST if np.minimum(length, n).sum() <= room), 0)
    sure = np.minimum(length, least)
    rest = length - sure
    more = min(int(rest.sum()), room - int(sure.sum()))
    kept[filled] = sure + more * rest // max(1, int(rest.sum()))
    return [int(n) for n in kept]


def sections(text: str, spans: Spans, budget: int, cost: int) -> list[Passage]:
    """The beginning of each section, as `spread` gives them room; neighbours that nothing parts are one passage."""
    begins = np.array([begin for begin, _ in spans], dtype=np.int64)
    first = [int(n) for n in np.searchsorted(begins, section_starts(text))]
    last = [*first[1:], len(spans)]
    out: list[Passage] = []
    joins = False
    for at, end, kept in zip(
        first, last, spread([b - a for a, b in zip(first, last, strict=True)], budget, cost), strict=True
    ):
        stop = _whole_letters(spans, at, at + kept)
        if stop > at:
            if joins:
                out[-1] = Passage(out[-1].tokens + stop - at, out[-1].begin, spans[stop - 1][1])
            else:
                out.append(Passage(stop - at, spans[at][0], spans[stop - 1][1]))
        joins = bool(out) and stop == end
    return out


def chunks(text: str, spans: Spans, room: int) -> list[Passage]:
    """The whole text as passages of at most `room` tokens and of about the same length.

    They end at the end of a paragraph where one is near, else of a sentence, else of a word.
    """
    begins = np.array([begin for begin, _ in spans], dtype=np.int64)
    places = [_after(pattern, text, begins) for pattern in (_PARAGRAPH, _SENTENCE, _WORD)]
    out: list[Passage] = []
    at, total, room = 0, len(spans), max(1, room)
    while at < total:
        end = total if total - at <= room else _chunk_end(places, spans, at, room)
        out.append(Passage(end - at, spans[at][0], spans[end - 1][1]))
        at = end
    return out


def _after(pattern: re.Pattern[str], text: str, begins: Ints) -> Ints:
    """The tokens that begin behind each match."""
    found: Ints = np.searchsorted(begins, [match.end() for match in pattern.finditer(text)])
    return np.unique(found)


def _chunk_end(places: Sequence[Ints], spans: Spans, at: int, room: int) -> int:
    left = len(spans) - at
    goal = at + ceil(left / ceil(left / room))
    low, high = max(at + 1, goal - room // 4), at + room
    for known in places:
        near = known[np.searchsorted(known, low) : np.searchsorted(known, high, side="right")]
        if len(near):
            return int(near[np.abs(near - goal).argmin()])
    end = _whole_letters(spans, at, goal)
    while end <= at or (end < len(spans) and spans[end][0] < spans[end - 1][1]):
        end += 1  # a letter of more tokens than there is room for
    return end


def _whole_letters(spans: Spans, at: int, end: int) -> int:
    """The nearest end at or before `end` that stands between two characters."""
    while at < end < len(spans) and spans[end][0] < spans[end - 1][1]:
        end -= 1
    return end


def shown(text: str, ranges: Sequence[int], marked: bool) -> str:
    """The passages of a text, `ranges` their first and last characters by turns; `marked`: a mark where one is cut."""
    out = []
    pairs = list(zip(ranges[::2], ranges[1::2], strict=True))
    for (begin, end), follows in zip(pairs, [*(b for b, _ in pairs[1:]), len(text)], strict=True):
        cut = marked and text[end:follows].strip() != ""
        out.append(f"{text[begin:end].strip()} {ELISION}" if cut else text[begin:end].strip())
    return "\n\n".join(out)
