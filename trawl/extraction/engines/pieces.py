"""Token counts for a model whose tokenizer is not at hand: more than it would count, for nearly every text.

Tokenizers in use today hold about four Latin letters in a token, fewer of other scripts, and some read digits one by
one. A prompt that is too long after all comes back from the endpoint as a row of status too_long.
"""

import re

from trawl.extraction.budget import Spans

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
# Latin letters by four, accented, Greek and Cyrillic ones by two; ideographs, other letters, digits, signs alone.
_PIECE = re.compile(rf"[A-Za-z]{{1,4}}|[\u00c0-\u052f]{{1,2}}|[{_CJK}]|\w|[^\w\s]|\n+")
_FRAME = 32  # what a chat template may put around a prompt


class CountsPieces:
    """Counts pieces of words as tokens."""

    def count(self, text: str) -> int:
        return len(_PIECE.findall(text))

    def spans(self, text: str) -> Spans:
        return [match.span() for match in _PIECE.finditer(text)]

    def whole(self, prompt: str) -> int:
        return self.count(prompt) + _FRAME
