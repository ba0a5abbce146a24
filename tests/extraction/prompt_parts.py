"""Takes a prompt apart by its delimiters alone, as whoever reads it would: what was frame and what was outside text."""

import re
from dataclasses import dataclass, field

_MARK = re.compile(r"<<<(END )?(TEXT|PROFILE|HISTORY|ITEM)?(?: ?(\d+))?>>>")
_RUN = re.compile(r"[<＜‹«〈⟨《]{3,}|[>＞›»〉⟩》]{3,}")
MENTION = "<<<...>>>"  # the instruction's own word of delimiters


@dataclass
class Parts:
    """The frame with its blocks taken out, and the blocks in order: (name, number, label, body)."""

    frame: str
    blocks: list[tuple[str, int, str, str]] = field(default_factory=list)


def take_apart(prompt: str) -> Parts:
    """Raises AssertionError when a delimiter stands where none may, or a block is not closed by its own end."""
    assert prompt.count(MENTION) == 1
    rest = prompt.replace(MENTION, "", 1)
    marks = list(_MARK.finditer(rest))
    assert len(_RUN.findall(rest)) == 2 * len(marks), "three angle brackets that are no delimiter"
    assert len(marks) % 2 == 0
    parts, at = Parts(""), 0
    for start, end in zip(marks[::2], marks[1::2], strict=True):
        parts.frame += rest[at : start.start()] + "<>"
        name, number = start.group(2), int(start.group(3) or 0)
        text = name == "TEXT"
        assert not start.group(1) and end.group(1), "a block in a block"
        assert (end.group(2), int(end.group(3) or 0)) == ((None, number) if text else (name, 0))
        inside = rest[start.end() : end.start()]
        label, _, body = inside.partition("\n") if text else ("", "", inside)
        parts.blocks.append((name, number, label.strip(" "), body.removesuffix("\n") if text else body.strip(" \n")))
        at = end.end()
    parts.frame += rest[at:]
    return parts
