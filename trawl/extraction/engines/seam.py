"""What goes into an engine and what comes out, and the counter of engines without a tokenizer."""

from dataclasses import dataclass

from trawl.extraction.budget import Spans, count_tokens, word_spans


@dataclass(frozen=True)
class Request:
    """One prompt: as rendered for a language model, and its clipped texts for engines that read only those.

    facts: what of outside the prompt shows beside the texts: titles, the user's profile.
    """

    digest: str
    prompt: str
    texts: tuple[str, ...]
    text_digests: tuple[str, ...]
    max_tokens: int
    facts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reply:
    """`finished` is False when the answer stopped at the token limit. `error`: why there is no answer.

    `verbatim`: the text is a source's own and not judged as an answer; a page may well begin with "Sorry".
    """

    text: str
    tokens_in: int = 0
    tokens_out: int = 0
    finished: bool = True
    error: str = ""
    verbatim: bool = False


class CountsWords:
    """The token counts of an engine that has no tokenizer."""

    def count(self, text: str) -> int:
        return count_tokens(text)

    def spans(self, text: str) -> Spans:
        return word_spans(text)

    def whole(self, prompt: str) -> int:
        return count_tokens(prompt)
