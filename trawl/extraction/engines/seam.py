"""What goes into an engine and what comes out, and the counter of engines without a tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass

from trawl.errors import TrawlError
from trawl.extraction.budget import Spans, count_tokens, word_spans


@dataclass(frozen=True)
class Request:
    """One prompt: as rendered for a language model, and its clipped texts for engines that read only those.

    `extracted`: the texts are answers about items, a line per key factor, and not texts from outside.
    `merges`: the texts are answers to the chunks of one entity, to be united into one.
    facts: what of outside the prompt shows beside the texts: titles, the user's profile.
    """

    digest: str
    prompt: str
    texts: tuple[str, ...]
    text_digests: tuple[str, ...]
    max_tokens: int
    extracted: bool = False
    merges: bool = False
    facts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reply:
    """`finished` is False when the answer stopped at the token limit. `error`: why there is no answer.

    `status`: what became of it when there is an error. `verbatim`: the text is a source's own and not judged as an
    answer; a page may well begin with "Sorry". `attempts`: how often it was sent. `seconds`: None is its share of the
    batch.
    """

    text: str
    tokens_in: int = 0
    tokens_out: int = 0
    finished: bool = True
    error: str = ""
    verbatim: bool = False
    status: str = "failed"
    attempts: int = 1
    seconds: float | None = None


class Unfinished(TrawlError):  # noqa: N818
    """An engine stops in the middle of a batch: `error` says why, `replies` hold what it has, None for the rest."""

    def __init__(self, error: TrawlError, replies: Sequence[Reply | None]) -> None:
        super().__init__(str(error))
        self.error, self.replies = error, replies


class CountsWords:
    """The token counts of an engine that has no tokenizer."""

    def count(self, text: str) -> int:
        return count_tokens(text)

    def spans(self, text: str) -> Spans:
        return word_spans(text)

    def whole(self, prompt: str) -> int:
        return count_tokens(prompt)
