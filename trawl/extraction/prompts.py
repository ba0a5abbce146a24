"""Frames of prompts (T Figure 2, K Table 2, R Figure 3): key factors, what is known, outside text between delimiters.

Outside text is data: control characters are stripped, and it stands between delimiters of three angle brackets, of
which no outside text can hold more than two in a row, so it can neither close its block nor open another. The
instruction says so. A prompt is stored as digests and a clip plan, and rendered beside the engine.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trawl.extraction.key_factors import Factor
from trawl.extraction.words import ENGLISH, Words, fill

ITEM_TEMPLATE, USER_TEMPLATE = "trawl-item-1", "trawl-user-2"
KELLMREC_USER, KAR_ITEM, KAR_USER = "kellmrec-user-1", "kar-item-1", "kar-user-1"
_FIELD, _TITLE = 200, 300  # most characters of a profile value and of a title
_VALUES = 50  # most fields of an item, and most values of each, in its description

# C0 and C1 controls but tab and line feed, surrogates, direction marks, zero-width signs, interlinear marks, tags.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U000e0000-\U000e007f]"
)
_OPEN, _CLOSE = re.compile(r"[<＜‹«〈⟨《]{3,}"), re.compile(r"[>＞›»〉⟩》]{3,}")
_LINES = re.compile(r"\n{3,}")


@dataclass(frozen=True)
class Frame:
    """The words around the texts: `head`, one label for each text, `tail`; the tail ends with `ask`.

    `facts`: what the frame itself says of the entity where no text does, for engines that read only texts.
    """

    template: str
    head: str
    labels: tuple[str, ...]
    tail: str
    words: Words = ENGLISH
    facts: tuple[str, ...] = ()
    ask: str = ENGLISH.answer

    def render(self, texts: Sequence[str]) -> str:
        """The whole prompt; `texts` as they were clipped, one for each label, "" where there is none."""
        blocks = []
        for number, (label, text) in enumerate(zip(self.labels, texts, strict=True), start=1):
            body = (fence(text) if text else "") or self.words.no_text
            blocks.append(f"<<<TEXT {number}>>> {label}\n{body}\n<<<END {number}>>>")
        return "\n".join((self.head, *blocks, self.tail))


def clean(text: str) -> str:
    """Without control characters, lone surrogates and direction marks; line ends as line feeds."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    return _LINES.sub("\n\n", _CONTROL.sub("", text)).strip()


def fence(text: str) -> str:
    """Clean text in which nothing looks like a delimiter: of three or more angle brackets in a row two stay."""
    return _CLOSE.sub(">>", _OPEN.sub("<<", clean(text)))


def line(text: str, most: int) -> str:
    """Outside text for a single line of the frame: fenced, without line breaks, of at most `most` characters."""
    return " ".join(fence(text[: 4 * most]).split())[:most]


def title_line(title: str) -> str:
    """A title as it stands in frames."""
    return line(title, _TITLE)


def fields_line(fields: Mapping[str, Sequence[str]]) -> str:
    """Fields and their values in one line, by the fields' names."""
    return "; ".join(f"{line(k, _FIELD)}: {', '.join(line(v, _FIELD) for v in fields[k])}" for k in sorted(fields))


def described(title: str, year: int | None, fields: Mapping[str, Sequence[str]]) -> str:
    """What is known of an item besides texts, in one line: title, year where the title lacks it, fields."""
    name = title_line(title)
    if year is not None and str(year) not in name:
        name = f"{name} ({year})" if name else str(year)
    few = {k: [v for v in fields[k][:_VALUES] if line(v, _FIELD)] for k in sorted(fields)[:_VALUES]}
    told = fields_line({k: values for k, values in few.items() if values and line(k, _FIELD)})
    return "; ".join(part for part in (name, told) if part)


def item_frame(title: str, factors: Sequence[Factor], words: Words = ENGLISH) -> Frame:
    """TRAWL's item prompt: key factors, instruction, the item's text (T Figure 2)."""
    head = fill(words.trawl_item, factors=_listed(factors), rules=words.rules)
    return Frame(ITEM_TEMPLATE, head, (title_line(title),), words.answer, words, ask=words.answer)


def user_frame(
    titles: Sequence[str], profile: Mapping[str, Sequence[str]], factors: Sequence[Factor], words: Words = ENGLISH
) -> Frame:
    """TRAWL's user prompt: key factors, the texts of the last items before the cut-off, oldest first, and the profile.

    What differs between users comes last, so that an engine reads what they share once.
    """
    head = fill(words.trawl_user, count=str(len(titles)), factors=_listed(factors), rules=words.rules)
    tail = _about(profile, words) + words.answer
    return Frame(USER_TEMPLATE, head, tuple(map(title_line, titles)), tail, words, ask=words.answer)


def kellmrec_user_frame(
    titles: Sequence[str],
    marks: Sequence[str],
    profile: Mapping[str, Sequence[str]],
    factors: Sequence[Factor],
    words: Words = ENGLISH,
) -> Frame:
    """KELLMRec's user prompt: key factors, what was extracted of the items, profile, rated history (K Table 2).

    `marks`: what the user thought of each item, in words; both oldest first.
    """
    names = tuple(map(title_line, titles))
    head = fill(words.kellmrec_user, count=str(len(names)), factors=_listed(factors), rules=words.rules)
    tail = _about(profile, words) + _chosen(names, marks, words) + words.answer
    return Frame(KELLMREC_USER, head, names, tail, words, _facts(names, profile), words.answer)


def kar_item_frame(description: str, factors: Sequence[Factor], words: Words = ENGLISH) -> Frame:
    """KAR's item prompt: the item by title and fields, key factors; no text from outside (R Figure 3)."""
    head = fill(words.kar_item, factors=_listed(factors), kar_rules=words.kar_rules)
    tail = fill(words.item, item=f"<<<ITEM>>> {description} <<<END ITEM>>>") + words.kar_answer
    return Frame(KAR_ITEM, head, (), tail, words, (description,) if description else (), words.kar_answer)


def kar_user_frame(
    descriptions: Sequence[str],
    marks: Sequence[str],
    profile: Mapping[str, Sequence[str]],
    factors: Sequence[Factor],
    words: Words = ENGLISH,
) -> Frame:
    """KAR's user prompt: key factors, profile, rated history; no text from outside (R Figure 3)."""
    head = fill(words.kar_user, count=str(len(descriptions)), factors=_listed(factors), kar_rules=words.kar_rules)
    tail = _about(profile, words) + _chosen(descriptions, marks, words) + words.kar_answer
    return Frame(KAR_USER, head, (), tail, words, _facts(descriptions, profile), words.kar_answer)


def _about(profile: Mapping[str, Sequence[str]], words: Words) -> str:
    if not profile:
        return ""
    return fill(words.about, profile=f"<<<PROFILE>>> {fields_line(profile)} <<<END PROFILE>>>")


def _chosen(items: Sequence[str], marks: Sequence[str], words: Words) -> str:
    """One numbered line per item; the user's mark comes first, so that no title can pretend to hold it."""
    rows = [f"{n}. {mark}: {item}" for n, (mark, item) in enumerate(zip(marks, items, strict=True), start=1)]
    return fill(words.chosen, history="\n".join(("<<<HISTORY>>>", *rows, "<<<END HISTORY>>>")))


def _facts(items: Sequence[str], profile: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    return tuple(fact for fact in (fields_line(profile), *items) if fact)


def _listed(factors: Sequence[Factor]) -> str:
    return "\n".join(f"- {factor.name}: {factor.question}" for factor in factors)


def prompt_digest(
    frame: Frame, text_digests: Sequence[str], kept: Sequence[int | str], engine: str, answer_tokens: int
) -> str:
    """Digest of all that an answer depends on: the frame (template, factors, profile, titles), texts, cuts, engine."""
    parts = (
        frame.template,
        frame.head,
        *frame.labels,
        frame.tail,
        *text_digests,
        *map(str, kept),
        engine,
        str(answer_tokens),
        *([frame.words.no_text] if frame.words.no_text != ENGLISH.no_text else []),
    )
    state = hashlib.blake2b(digest_size=16)
    for part in parts:  # with its length before it, so that no two lists run together
        data = part.encode("utf-8", "replace")
        state.update(len(data).to_bytes(8, "little") + data)
    return state.hexdigest()
