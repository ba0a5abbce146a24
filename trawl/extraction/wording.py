"""How words are compared and how answers are worded: folding, numbers, words that are no names though capitalised."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{CJK}]|[^\W_{CJK}]+")
_ACCENTS = re.compile("[\u0300-\u036f]+")
_LETTERS = {"ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th"}
_PLAIN = str.maketrans(_LETTERS | {k.upper(): v.capitalize() for k, v in _LETTERS.items()} | {"ı": "i", "&": " and "})
_POSSESSIVE = re.compile(r"(?<=\w)['’ʼ`´][sS]\b")
_APOSTROPHE = re.compile(r"['’ʼ`´‘]")
_ROMAN = {"ii": "2", "iii": "3", "iv": "4", "vi": "6", "vii": "7", "viii": "8", "ix": "9"}

_LETTER = "A-Za-z\u00c0-\u024f"
AMOUNT = re.compile(
    rf"(?<![{_LETTER}\d.,])(?P<digits>\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|\d+(?:\.\d+)?)(?P<ending>st|nd|rd|th|s)?(?![{_LETTER}\d])"
    r"(?:[\s-]+(?P<unit>century|centuries|thousand|million|billion))?",
    re.IGNORECASE,
)
SHORT_YEAR = re.compile(r"(?<!\d)((?:1[5-9]|20)\d\d)(?P<rest>[-–—/](\d\d))(?!\d)")  # 1939-45
_CHINESE_YEAR = re.compile(r"[〇零一二三四五六七八九]{4}(?=年)")
_CHINESE_DIGITS = str.maketrans("〇零一二三四五六七八九", "00123456789")
_SHORT_DECADE = re.compile(r"[1-9]0s")
_UNITS = {"thousand": 1e3, "million": 1e6, "billion": 1e9}
_COUNTS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen"),
)
_ORDINALS = (
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
)
_CENTURIES = {"eighteenth": "18", "nineteenth": "19", "twentieth": "20"}
_SPELLED = (
    {word: str(n) for n, word in enumerate(_COUNTS)}
    | {word: str(n) for n, word in enumerate(_ORDINALS, start=1)}
    | {"twenty": "20", "thirty": "30", "forty": "40", "fifty": "50", "hundred": "100"}
    | {sign: str(n) for n, sign in enumerate("一二三四五六七八九十", start=1)}
)


def fold(text: str) -> tuple[str, ...]:
    """The words of a text: unicode NFKC, without case, accents, possessives, apostrophes and hyphens.

    Each ideograph is a word. Roman numerals from II on are digits.
    """
    return tuple(without_case(word) for word in words_of(text))


def words_of(text: str) -> list[str]:
    """The same words with their capitals."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _ACCENTS.sub("", unicodedata.normalize("NFKD", text))).translate(_PLAIN)
    elif "&" in text:
        text = text.replace("&", " and ")
    return _WORD.findall(_APOSTROPHE.sub("", _POSSESSIVE.sub("", text)))


def without_case(word: str) -> str:
    low = word.casefold()
    return _ROMAN.get(low, low)


def amount(match: re.Match[str]) -> str:
    """A number in one form: 1,000 is 1000, 2 million 2000000, the 1990s 1990s, the 19th century 19c."""
    digits, ending, unit = (
        match["digits"].replace(",", ""),
        (match["ending"] or "").lower(),
        (match["unit"] or "").lower(),
    )
    if unit in _UNITS:
        return f"{float(digits) * _UNITS[unit]:.0f}"
    if unit:
        return f"{digits}c"
    if ending == "s":
        return f"{digits}s"
    return (digits.rstrip("0").rstrip(".") if "." in digits else digits).lstrip("0") or "0"


def amounts(text: str, words: Iterable[str]) -> frozenset[str]:
    """The numbers of a source in the forms of `amount`, with what they stand for: decades and centuries of years.

    words: the text's words, folded; a spelled number counts as its digits.
    """
    matches = list(AMOUNT.finditer(unicodedata.normalize("NFKC", text)))
    found = {amount(match) for match in matches} | {match["digits"] for match in matches if match["unit"]}
    found |= {match[1][:2] + match[3] for match in SHORT_YEAR.finditer(text)}
    found |= {match.group().translate(_CHINESE_DIGITS) for match in _CHINESE_YEAR.finditer(text)}
    found |= {_SPELLED[word] for word in words if word in _SPELLED}
    found |= {f"{_CENTURIES[word]}c" for word in words if word in _CENTURIES}
    found |= {f"19{number}" for number in found if _SHORT_DECADE.fullmatch(number)}
    years = [number[:4] for number in found if is_year(number[:4])]
    for year in years:
        found |= {f"{year[:3]}0s", f"{year[2]}0s", f"{int(year[:2]) + 1}c"}
    return frozenset(found)


def is_year(number: str) -> bool:
    return len(number) == 4 and number.isdigit() and "1500" <= number < "2100"


@dataclass(frozen=True)
class Wording:
    """How answers of a domain are worded. labels: key factors as words -> their kind (names, values, sentences).

    ordinary: words of the domain that are no names though an answer may give them capitals: genres, roles, nations.
    """

    labels: Mapping[tuple[str, ...], str]
    ordinary: frozenset[str]


NO_WORDING = Wording({}, frozenset())

# Small words inside names.
PARTICLES = (
    *("de", "del", "della", "di", "da", "du", "des", "van", "von", "der", "den", "la", "le", "los", "las", "el"),
    *("al", "bin", "ibn", "y", "dos"),
)
# Of people: an answer may write "Director Ana Lopez" where the text has "Ana Lopez".
_ROLES = """
actor actress author captain composer detective director doctor dr filmmaker general king lady lord miss mr mrs ms
novelist oscar president prince princess producer professor queen screenwriter sir star stars writer
"""
ROLES = frozenset(_ROLES.split())
# Words that open a sentence or an entry in capitals and belong to no name.
_OPENERS = """
a about above after all along also although among an and another any are as at based because before being best both
but by can classic close co come contemporary created despite directed due during each early either especially even
ever every everyone explore explores expect fans featured features featuring few film films finally first follow
following follows for four from given had has have having he her here hers him his how however i if in inspired
instead into is it its just known last late later led less like likely likes loves made many may meanwhile modern more
most movie movies much my next no none nor not nothing notable now of off often on once one only or original other
others our out over overall partly people perhaps played plus portrayed prefers produced released same second see seen
set several she shot similar since so some soon starred starring stars still such text than that the their them then
there these they this those three through throughout to together too two under unlike until up upon user users us
various viewers was we well were what when where whether which while who whose why will winner with within without won
would written yet you your
"""
OPENERS = frozenset(_OPENERS.split())
