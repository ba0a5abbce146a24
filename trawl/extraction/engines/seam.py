"""What goes into an engine and what comes out."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """One prompt: as rendered for a language model, and its clipped texts for engines that read only those."""

    digest: str
    prompt: str
    texts: tuple[str, ...]
    text_digests: tuple[str, ...]
    max_tokens: int


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
