"""What each key of a recipe means: the comments above and beside its field in the code, and the values it may have."""

import inspect
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel


@dataclass(frozen=True)
class Note:
    """A dotted key and its text, "" where there is none."""

    key: str
    text: str


def described(section: type[BaseModel], prefix: str = "") -> Iterator[Note]:
    """Every key of a section and of those below it, in the order of the code."""
    bases = [base for base in section.__mro__ if issubclass(base, BaseModel) and base is not BaseModel]
    comments = {name: text for base in bases for name, text in _comments(base).items()}
    for name, info in section.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from described(kind, f"{prefix}{name}.")
        else:
            among = "of " if get_origin(kind) is tuple else "one of "
            choices = among + ", ".join(named) if (named := list(_choices(kind))) else ""
            yield Note(prefix + name, "; ".join(part for part in (comments.get(name, ""), choices) if part))


def _choices(kind: Any) -> Iterator[str]:
    """The words that a type names, also those within a list of them or beside another type."""
    if get_origin(kind) is Literal:
        yield from map(str, get_args(kind))
    else:
        for part in get_args(kind):
            yield from _choices(part)


def _comments(section: type[BaseModel]) -> dict[str, str]:
    """The comments on the lines above each field, and at the end of its own."""
    out: dict[str, list[str]] = {}
    above: list[str] = []
    first: str | None = None  # name of the line
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(section)).readline):
        if token.type == tokenize.COMMENT:
            (above if first is None else out.setdefault(first, [])).append(token.string.lstrip("# "))
        elif token.type in (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
            first = None
        elif first is None and token.type == tokenize.NAME:
            first, above, out[token.string] = token.string, [], above
    return {name: " ".join(parts).rstrip(".") for name, parts in out.items()}
