"""`http`: a language model behind an OpenAI-compatible endpoint. Here its identity, its token counts and its requests.

What identifies the model is the name that the recipe gives it, `extraction.revision` (a word of the user's, to be
changed when the provider changes the model behind the name), and everything else that a request holds beside the
prompt. The address is left out: the same model behind another address has its answers in the cache.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from trawl import weights
from trawl.config import Config
from trawl.errors import ConfigError
from trawl.extraction.budget import Spans
from trawl.extraction.engines.http_budget import Budget
from trawl.extraction.engines.http_client import Endpoint
from trawl.extraction.engines.http_replies import UNTOLD
from trawl.extraction.engines.pieces import CountsPieces
from trawl.extraction.engines.seam import Reply, Request, Unfinished
from trawl.extraction.tokens import ModelTokens, load_tokens
from trawl.sections import Extraction
from trawl.sections_http import Http
from trawl.store import Store, digest_json

TOKENIZER = "extraction.tokenizer"
KEYS = (
    "extraction.model",
    "extraction.revision",
    "http.api",
    "http.temperature",
    "http.token_limit",
    "http.extra",
)  # the tokenizer counts by its content
_FORM = 1  # of the request around the prompt; raise it when it changes

# What models read as the frame of a conversation. Outside text must not bring its own; a blank breaks it up.
_FRAMING = re.compile(
    r"<(?=[|｜])|(?<=[|｜])>"
    r"|<(?=/?(?:s|bos|eos|pad|unk|think|start_of_turn|end_of_turn|tool_call|tool_response)>)"
    r"|<(?=</?SYS>>)|\[(?=/?(?:INST|SYSTEM_PROMPT|TOOL_CALLS|AVAILABLE_TOOLS|TOOL_RESULTS)\])",
    re.IGNORECASE,
)


def tokenizer_identity(settings: Extraction) -> str:
    """The tokenizer by its files or its commit. Raises ConfigError when there is none."""
    return weights.identity(TOKENIZER, *_named(settings), weights.TOKENIZER)


def _named(settings: Extraction) -> tuple[str, str]:
    name, _, revision = settings.tokenizer.partition("@")
    return name, revision


def refuse_user_text(side: str, cfg: Config) -> None:
    """Raises ConfigError where prompts about users would be sent out and the recipe does not allow it."""
    if side == "user" and cfg.extraction.engine == "http" and not cfg.http.allow_user_text:
        raise ConfigError(
            "http.allow_user_text is false: this recipe would send what users chose, and their profiles, to "
            f"{cfg.http.base_url}; set it to true if you may, or ask about items only (model.side = item)"
        )


def disarmed(prompt: str) -> str:
    """The prompt without anything that an endpoint could read as the frame of a conversation."""
    return _FRAMING.sub(lambda match: " >" if match[0] == ">" else f"{match[0]} ", prompt)


class HttpEngine:
    """An endpoint as one engine. `answer` may be called from any process; nothing is kept open between calls."""

    name = "http"

    def __init__(self, settings: Extraction, http: Http) -> None:
        """Raises ConfigError when a tokenizer is named and missing."""
        self.settings, self.http = settings, http
        counter = tokenizer_identity(settings) if settings.tokenizer else "pieces-1"
        sampling = [http.api, http.temperature, http.token_limit, http.extra]
        self.revision = digest_json([_FORM, settings.model, settings.revision, sampling, counter])[:12]
        self.budget: Budget | None = None

    @cached_property
    def tokens(self) -> ModelTokens | CountsPieces:
        if not self.settings.tokenizer:
            return CountsPieces()
        return load_tokens(TOKENIZER, *_named(self.settings), self.http.api == "chat", weights.TOKENIZER)

    def count(self, text: str) -> int:
        return self.tokens.count(text)

    def spans(self, text: str) -> Spans:
        return self.tokens.spans(text)

    def whole(self, prompt: str) -> int:
        return self.tokens.whole(prompt)

    def count_requests(self, store: Store, run: str) -> None:
        """Hold what is sent against the run's budget, where it has one."""
        self.budget = Budget(store, run, self.http.max_requests) if self.http.max_requests else None

    @cached_property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.http, self.settings.model, self._body)

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """Raises ConfigError, and Unfinished: asked wrongly, the endpoint is gone, the budget is spent."""
        try:
            replies = self.endpoint.ask(requests, self.budget)
        except Unfinished as cut:
            pairs = zip(requests, cut.replies, strict=True)
            raise Unfinished(cut.error, [reply and self._counted(request, reply) for request, reply in pairs]) from cut
        return [self._counted(request, reply) for request, reply in zip(requests, replies, strict=True)]

    def _counted(self, request: Request, reply: Reply) -> Reply:
        """With our own counts where the endpoint gave none."""
        read = self.whole(request.prompt) if reply.tokens_in == UNTOLD else reply.tokens_in
        written = self.count(reply.text) if reply.tokens_out == UNTOLD else reply.tokens_out
        return replace(reply, tokens_in=read, tokens_out=written)

    def _body(self, request: Request) -> dict[str, Any]:
        prompt = disarmed(request.prompt)
        asked: dict[str, Any] = (
            {"messages": [{"role": "user", "content": prompt}]} if self.http.api == "chat" else {"prompt": prompt}
        )
        heat = {} if self.http.temperature == "none" else {"temperature": self.http.temperature}
        limit: dict[str, int] = {self.http.token_limit: request.max_tokens}
        return {"model": self.settings.model, **asked, **heat, **limit, **self.http.extra}
