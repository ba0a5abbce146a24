"""Token counts and clip plans: what of each text goes into a prompt, decided before anything is sent.

A prompt, its answer and the words around the texts share `max_prompt_tokens`. Texts are cut where they are longest:
each keeps at most the same number of tokens, so that short ones stay whole. Of a cut text the beginning and the end
stay, since introductions open with what a thing is and close with how it was received.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np

# The counter of engines without a tokenizer: words of up to 16 letters, single ideographs, single signs.
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
TOKEN = re.compile(rf"[{_CJK}]|[^\W{_CJK}]{{1,16}}|[^\w\s]")
ELISION = "[...]"
ELISION_TOKENS = 5
_HEAD = 2 / 3
_STEP = 16  # a cut text keeps a multiple of it, so that fewer forms of a popular text have to be read


Spans = Sequence[tuple[int, int]]  # first character and the one after the last of each token


def word_spans(text: str) -> Spans:
    """Where the tokens that `count_tokens` counts stand."""
    return [match.span() for match in TOKEN.finditer(text)]


def count_tokens(text: str) -> int:
    """Words (a long one in pieces of 16 letters), ideographs and punctuation signs."""
    return len(TOKEN.findall(text))


def clip_plan(tokens: Sequence[int], room: int, mark: int = ELISION_TOKENS) -> list[int]:
    """Tokens to keep of each text so that, with marks of `mark` tokens, they fit in `room`. Longest first are cut."""
    counts = np.asarray(tokens, dtype=np.int64)
    if counts.sum() <= room:
        return [int(c) for c in counts]
    room = max(0, room - mark * len(counts))
    level, left = 0, room
    for rank, count in enumerate(np.sort(counts)):
        if count * (len(counts) - rank) > left:
            level = left // (len(counts) - rank)
            break
        left -= int(count)
    else:
        level = int(counts.max(initial=0))
    level -= level % _STEP if level > 2 * _STEP else 0
    return [min(int(c), level) for c in counts]


def clip(text: str, keep: int, there: int, spans_of: Callable[[str], Spans] = word_spans) -> str:
    """`keep` of a text's `there` tokens: beginning, mark, end. `spans_of` finds the tokens of whoever counted them."""
    if keep >= there:
        return text
    if keep <= 0:
        return ""
    spans = spans_of(text)
    head = max(1, int(keep * _HEAD))
    tail = keep - head
    end = f" {text[spans[-tail][0] :]}" if tail else ""
    return f"{text[: spans[head - 1][1]]} {ELISION}{end}"
