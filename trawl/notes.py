"""What each key of a recipe means: the comment that stands beside its field in the code, and the values it may have."""

import inspect
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args, get_origin

from pydantic import BaseModel


@dataclass(frozen=True)
class Note:
    """A dotted key and its text, "" where there is none."""

    key: str
    text: str


def described(section: type[BaseModel], prefix: str = "") -> Iterator[Note]:
    """Every key of a section and of those below it, in the order of the code."""
    comments = _comments(section)
    for name, info in section.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from described(kind, f"{prefix}{name}.")
        else:
            choices = "one of " + ", ".join(map(str, get_args(kind))) if get_origin(kind) is Literal else ""
            yield Note(prefix + name, "; ".join(part for part in (comments.get(name, ""), choices) if part))


def _comments(section: type[BaseModel]) -> dict[str, str]:
    """The comment at the end of each field's line."""
    out: dict[str, str] = {}
    first: tokenize.TokenInfo | None = None  # of the line
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(section)).readline):
        if token.type == tokenize.COMMENT and first is not None and first.string in section.model_fields:
            out[first.string] = token.string.lstrip("# ")
        if token.type in (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
            first = None
        elif first is None and token.type == tokenize.NAME:
            first = token
    return out
