"""Scripts that put no spaces between words (Chinese, Japanese): how the extractive engine finds things in them.

There a cue counts wherever its characters stand, and each character is a word. Lists of key factors without such
characters are read as before, whatever stands in the texts.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from trawl.extraction.key_factors import Factor

_SIGNS = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_SIGN = re.compile(f"[{_SIGNS}]")
WORDS = re.compile(rf"[{_SIGNS}]|[^\W_{_SIGNS}]+(?:['’-][^\W_{_SIGNS}]+)*")
ENDS = ("。", "！", "？")
_CLOSING = "”’」』）)\"'"
# A name: two to four signs, foreign ones in parts with dots between; no particle begins one, and what follows one is
# no sign, or a word that often stands behind names.
_NAME = (
    r"(?![在的是于和与及也曾将对从向为等这那其一不有并还都已])[\u4e00-\u9fff]{2,4}?(?:·[\u4e00-\u9fff]{1,8})*"
    r"(?=[^\u4e00-\u9fff·]|$|和|与|及|等|表示|说|指出|认为|介绍|告诉|称|在|的|于|是|为|也|曾|将|对|从|向|担任|主演|执导|编剧|"
    r"撰写|报道|通过|发布|宣布|所著|著)"
)
_AND = r"(?:、|和|与|及|以及)"


def has(text: str) -> bool:
    """Whether a text holds signs of such a script."""
    return bool(_SIGN.search(text))


def needed(factors: Iterable[Factor]) -> bool:
    """Whether a list of key factors looks for such signs."""
    return any(has(cue) for f in factors for cue in (*f.values, *f.patterns, *f.after, *f.before, *f.cues))


def goes_on(phrase: str, following: str) -> bool:
    """Whether a phrase is only the beginning of a longer word."""
    return following.isalnum() and not has(following) and not has(phrase[-1])


def tidy(sentence: str) -> str:
    """A sentence without the quotation marks that closed the one before it."""
    return sentence.lstrip(_CLOSING)


def bigrams(sentence: str) -> set[str]:
    """Pairs of neighbouring signs: what stands for words when sentences are compared."""
    return {a + b for a, b in pairwise(sentence) if has(a) and has(b)}


class Names:
    """Proper names after cues ("作者：张三、李四"), or before them at the beginning of a clause ("李安执导")."""

    def __init__(self, after: Sequence[str], before: Sequence[str]) -> None:
        self._patterns = [_compiled(rf"(?:{{}})[:：]?\s*({_NAME}(?:{_AND}{_NAME})*)", after)]
        self._patterns += [_compiled(rf"(?<![\u4e00-\u9fff])({_NAME})(?:{{}})", before)]

    def __call__(self, text: str) -> Iterator[str]:
        for pattern in self._patterns:
            for found in pattern.finditer(text) if pattern else ():
                yield from re.split(_AND, found.group(1))


def _compiled(pattern: str, cues: Sequence[str]) -> re.Pattern[str] | None:
    mine = sorted((cue for cue in cues if has(cue)), key=lambda cue: (-len(cue), cue))
    return re.compile(pattern.replace("{}", "|".join(map(re.escape, mine)))) if mine else None
