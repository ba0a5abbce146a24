"""A first draft of a domain's key factors, asked of a language model for a person to edit (R 4.2.1).

The model sees a few items between delimiters and answers with lines. What it says is outside text like any other: it is
cleaned, parsed, and written as TOML strings or, where it cannot be parsed, as comments.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from trawl.extraction.budget import clip, word_spans
from trawl.extraction.engines import Engine, Request
from trawl.extraction.prompts import clean, fence, line, title_line
from trawl.extraction.words import Words, fill
from trawl.store import digest_json

TEMPLATE = "suggest-1"
_NAME, _QUESTION, _FACTORS = 60, 200, 20  # most characters of a name and of a question, most factors
_TEXT_TOKENS = 200  # of each item's text
_SHOWN = 200  # lines of an answer that are kept as comments
_LINE = re.compile(r"^[\s>#\-*•–]*(?:\(?\d{1,2}[.)、:]\s*)?[\s*_`\"“]*([^:：]+?)[*_`\"”\s]*[:：][*_`\s]*(.+)$")
_CUE = re.compile(r"[^\W\d_]{4,}|[\u4e00-\u9fff]{2,}")
_NO_CUES = {"and", "with", "from", "that", "their", "which", "what", "overall", "level", "type"}


@dataclass(frozen=True)
class Sample:
    """An item as it is shown to the model."""

    title: str
    text: str


def suggestion_request(samples: Sequence[Sample], words: Words, engine: Engine, room: int, most: int) -> Request | None:
    """The prompt about as many of the samples as fit into `room` tokens; None when not even one does.

    `most`: tokens of the answer.
    """
    for count in range(len(samples), 0, -1):
        prompt = _prompt(samples[:count], words)
        if engine.whole(prompt) <= room:
            texts = tuple(sample.text for sample in samples[:count])
            return Request(digest_json([TEMPLATE, prompt, most])[:32], prompt, texts, (), most)
    return None


def _prompt(samples: Sequence[Sample], words: Words) -> str:
    blocks = []
    for number, sample in enumerate(samples, start=1):
        there = len(word_spans(sample.text))
        body = fence(clip(sample.text, _TEXT_TOKENS, there)) or words.no_text
        blocks.append(f"<<<TEXT {number}>>> {title_line(sample.title)}\n{body}\n<<<END {number}>>>")
    return "\n".join((fill(words.suggest, count=str(len(samples))), *blocks, words.suggest_answer))


def parse_suggestion(answer: str) -> list[tuple[str, str]]:
    """(name, question) of each line that reads as a factor; the first of a name counts."""
    found: dict[str, tuple[str, str]] = {}
    for row in clean(answer).splitlines():
        parts = _LINE.match(row)
        if not parts:
            continue
        name, question = line(parts.group(1), 2 * _NAME), line(parts.group(2), _QUESTION)
        if 0 < len(name) <= _NAME and len(name.split()) <= 6 and question:
            found.setdefault(name.casefold(), (name, question))
    return list(found.values())[:_FACTORS]


def draft(answer: str, language: str, model: str) -> tuple[str, int]:
    """The draft as TOML, and how many factors it holds; with none the answer stands in it as comments."""
    factors = parse_suggestion(answer)
    if not factors:
        head = [
            "# The model's answer could not be read as a list of factors; it stands below as it came.",
            "# Write a [[factor]] for each that you want, as in trawl/extraction/domains/movies.toml, or ask again.",
        ]
        rows = [f"# {line(row, 500)}".rstrip() for row in clean(answer).splitlines()[:_SHOWN]]
        return "\n".join([*head, "#", *rows, ""]), 0
    head = [
        f"# Key factors drafted by {line(model, 200)}: edit before use, then set extraction.domain to this file.",
        "# Keep what a person who recommends such items would want to know; one list serves items and users.",
        "# kind and cues are read by the extractive engine alone: see trawl/extraction/domains/movies.toml.",
        f"language = {_string(language)}",
    ]
    rows = [row for name, question in factors for row in _factor(name, question)]
    return "\n".join([*head, *rows, ""]), len(factors)


def _factor(name: str, question: str) -> list[str]:
    words = _CUE.findall(f"{name} {question}".lower())
    cues = [word for word in dict.fromkeys(words) if word not in _NO_CUES][:12]
    return [
        "",
        "[[factor]]",
        f"name = {_string(name)}",
        f"question = {_string(question)}",
        'kind = "sentences"',
        f"cues = [{', '.join(map(_string, cues))}]",
    ]


def _string(text: str) -> str:
    """A TOML basic string: its escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)
