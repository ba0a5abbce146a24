"""The form of an answer: lines as the prompt asks for them, or JSON that an engine holds to a schema.

JSON becomes the same `Factor: text` lines before it is judged and stored, so that nothing behind it branches. What was
cut at the token limit is read as far as it goes.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic_core import from_json

from trawl.errors import ConfigError
from trawl.extraction.engines.seam import Reply
from trawl.extraction.key_factors import Factor
from trawl.extraction.prompts import Frame, clean
from trawl.extraction.words import fill
from trawl.sections import Extraction

_NAME = 100  # most characters of a factor's name as a key


def schema_of(factors: Sequence[Factor]) -> dict[str, Any]:
    """JSON schema of an answer: a list of strings where a factor is answered by names or values, else a string.

    Raises ConfigError for names that cannot be keys.
    """
    names = [factor.name for factor in factors]
    for name in names:
        if not name.strip() or len(name) > _NAME or clean(name) != name or "\n" in name or ":" in name:
            raise ConfigError(
                f"extraction.output = json: the key factor {name!r} cannot be a key; give it a name of one line "
                f"without a colon and of at most {_NAME} characters"
            )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"extraction.output = json: the key factor {twice[0]!r} stands twice in the domain")
    return {
        "type": "object",
        "properties": {factor.name: _property(factor) for factor in factors},
        "required": names,
        "additionalProperties": False,
    }


def _property(factor: Factor) -> dict[str, Any]:
    if factor.kind == "sentences":
        return {"type": "string"}
    return {"type": "array", "items": {"type": "string"}, "maxItems": factor.limit}


def in_form(frame: Frame, factors: Sequence[Factor], cfg: Extraction) -> Frame:
    """The frame asking for the form that the recipe wants; `lines` is what every frame asks for by itself."""
    if cfg.output == "lines":
        return frame
    blank = {f.name: "..." if f.kind == "sentences" else ["...", "..."] for f in factors}
    ask = fill(frame.words.json_answer, blank=json.dumps(blank, ensure_ascii=False))
    return replace(frame, template=f"{frame.template}-json", tail=frame.tail.removesuffix(frame.ask) + ask, ask=ask)


def as_lines(reply: Reply, factors: Sequence[Factor]) -> Reply:
    """The reply with its JSON as `Factor: text` lines; one that is not what was asked for becomes an error.

    Of a reply that stopped at the token limit, what is whole is kept, and of its last string the beginning.
    """
    if reply.error or not reply.text.strip():
        return reply
    try:
        return replace(reply, text=_lines(_parsed(reply), factors, reply.finished))
    except (ValueError, TypeError) as error:
        why = " ".join(str(error).split())[:150]
        return replace(reply, text="", error=f"not the JSON that was asked for: {why}" if reply.finished else "")


def _parsed(reply: Reply) -> Any:
    if reply.finished:
        return json.loads(reply.text)  # reads lone surrogates, which are taken out below
    return from_json(reply.text, allow_partial="trailing-strings")


def _lines(tree: Any, factors: Sequence[Factor], whole: bool) -> str:
    """Raises ValueError, TypeError naming what does not fit the schema."""
    if not isinstance(tree, dict):
        raise TypeError(f"a {type(tree).__name__} and no object")
    names = {factor.name for factor in factors}
    if unknown := sorted(tree.keys() - names):
        raise ValueError(f"unknown key {unknown[0]!r}")
    if whole and (missing := sorted(names - tree.keys())):
        raise ValueError(f"key {missing[0]!r} is missing")
    told = ((factor.name, _told(tree[factor.name], factor)) for factor in factors if factor.name in tree)
    return "\n".join(f"{name}: {text}" for name, text in told if text)


def _told(value: Any, factor: Factor) -> str:
    """A factor's answer on one line."""
    parts = [value] if factor.kind == "sentences" else value
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise TypeError(f"{factor.name!r} is a {type(value).__name__} that does not fit")
    tidy = (" ".join(clean(part).split()) for part in parts)
    return ", ".join(dict.fromkeys(part for part in tidy if part))
