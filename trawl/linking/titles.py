"""Titles and labels as comparable forms and a year.

"Visitors, The (Les Visiteurs) (1993)" and "The_Visitors_(1993_film)" mean one film. Both are brought to plain forms:
the year in parentheses is taken off and kept, the moved article goes back to the front, a second title in parentheses
becomes a second form, the tail by which an encyclopaedia tells pages apart ("(film)", "(1995 film)") is dropped,
letters are folded to ASCII, "&" is "and", roman numerals after the first word are digits. K eq. 5 compares such forms.
"""

import re
import unicodedata
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import unquote

_ARTICLES = (
    "The|An|A|Le|La|Les|L'|Un|Une|Des|El|Los|Las|Una|Il|Lo|I|Gli|Der|Die|Das|Ein|Eine|De|Het|Een|Det|Den|En|Et|O|Os|As"
)
_MOVED = re.compile(rf"^(?P<rest>.+),\s*(?P<article>{_ARTICLES})$", re.IGNORECASE)
_YEAR = r"(?:1[89]|20)\d\d"
_TAIL = re.compile(r"^(?P<head>.*?)\s*\((?P<inner>[^()]*)\)\s*$", re.DOTALL)
_ONLY_YEAR = re.compile(rf"\s*(?P<year>{_YEAR})(?:\s*[-/–]\s*(?:{_YEAR})?)?\s*")
_KIND = re.compile(
    rf"(?P<year>{_YEAR})?[\w\s,.-]*?\b(?:films?|movies?|serial|mini-?series|(?:tv|television|web)(?: \w+)*|"
    r"film series|documentary|anime|animation|franchise|trilogy|video|ova)\b[\w\s]*",
    re.IGNORECASE,
)
_KNOWN_AS = re.compile(r"^(?:a\.?\s?k\.?\s?a\.?|also known as|or)[\s:]+", re.IGNORECASE)
_LETTERS = str.maketrans(
    {"æ": "ae", "œ": "oe", "ø": "o", "ß": "ss", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "&": " and "}
)
_DROPPED = re.compile(r"['’‘`´ʻʼ]")  # no break in a word: "Schindler's"
_INITIALS = re.compile(r"\b(\w)\.\s*(?=\w\b)")
_OTHER = re.compile(r"[^\w]+|_+")
_ROMAN = {"ii": "2", "iii": "3", "iv": "4", "vi": "6", "vii": "7", "viii": "8", "ix": "9", "xi": "11", "xii": "12"}
_SINGLE = {"i": "1", "v": "5", "x": "10"}  # only after "part": else a letter or a word
_COUNTED = {"one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8"}
_COUNTERS = {"part", "chapter", "episode", "volume", "vol", "book"}


_PIECES = re.compile(r":\s+|\s+[-–—]\s+|\s+or:?\s+(?=[A-Z])|\s+Presents:?\s+", re.IGNORECASE)


@dataclass(frozen=True)
class Title:
    """The forms of one title, the main one first, without repetition, and its year if it names one.

    `pieces`: weaker forms, what stands on one side of a colon or dash.
    """

    forms: tuple[str, ...]
    year: int | None
    pieces: tuple[str, ...] = ()


def parse(text: str, *, decode: bool = False) -> Title:
    """Forms and year of a title or label. A text without any letter or digit keeps itself as its only form.

    `decode`: read %27 and the like as the characters they stand for (twice, as some dumps escape twice).
    """
    rest = unquote(unquote(text)) if decode and "%" in text else text
    rest = rest.replace("_", " ").strip()
    year: int | None = None
    others: list[str] = []
    while found := _TAIL.match(rest):
        inner = found["inner"]
        known = _ONLY_YEAR.fullmatch(inner) or _KIND.fullmatch(inner)
        if not found["head"]:
            break
        if known:
            year = year or (int(known["year"]) if known["year"] else None)
        else:
            others += _alternatives(inner)
        rest = found["head"]
    raw = (rest, *reversed(others))
    names = tuple(dict.fromkeys(form for form in map(normalise, raw) if form)) or (text.casefold().strip(),)
    return Title(names, year, _pieces(raw, names))


def _pieces(raw: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    """What stands between colons and dashes: of at least two words, as one word alone names many films."""
    found = (normalise(piece) for text in raw for piece in _PIECES.split(text))
    return tuple(dict.fromkeys(form for form in found if " " in form and form not in names))


def _alternatives(inner: str) -> list[str]:
    """The titles in a pair of parentheses: one, or after "a.k.a." several between commas."""
    known_as = _KNOWN_AS.match(inner)
    if not known_as:
        return [inner]
    names = _KNOWN_AS.sub("", inner)
    return [names] if _MOVED.match(names.strip()) else [name for name in names.split(",") if name.strip()]


def normalise(text: str) -> str:
    """One title without parentheses as lower-case words of letters and digits, between single spaces."""
    text = text.strip()
    if moved := _MOVED.match(text):
        article = moved["article"]
        text = f"{article}{'' if article.endswith(chr(39)) else ' '}{moved['rest']}"
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text.translate(_LETTERS))
        text = "".join(c for c in text if not unicodedata.combining(c))
    text = text.casefold().translate(_LETTERS)
    text = _INITIALS.sub(r"\1", _DROPPED.sub("", text))
    return " ".join(_numbers(_OTHER.sub(" ", text).split()))


def _numbers(words: list[str]) -> list[str]:
    """Roman numerals, and number words after "part", as digits; the first word is a name and stays."""
    out = words[:1]
    for before, word in pairwise(words):
        counted = {**_COUNTED, **_SINGLE}.get(word) if before in _COUNTERS else None
        out.append(_ROMAN.get(word) or counted or word)
    return out
