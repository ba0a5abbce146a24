"""The recipe's section `http`: which endpoint is asked, how, and how patiently."""

import json
import re
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from trawl.sections import Positive, Section


class Http(Section):
    """An OpenAI-compatible endpoint, asked where extraction.engine = http.

    The model and its revision stand under `extraction`. `WHERE` names the keys that only say where and how fast: they
    change no answer and no fingerprint, so that another endpoint of the same model pays for nothing again.
    """

    WHERE: ClassVar[tuple[str, ...]] = (
        *("base_url", "api_key_env", "allow_user_text", "allow_plain"),
        *("concurrency", "timeout", "retries", "max_requests"),
    )

    base_url: str = ""  # as for OpenAI's own clients: https://HOST/v1
    api_key_env: str = "OPENAI_API_KEY"  # the environment variable, on every node, that holds the key; empty: no key
    allow_user_text: bool = False  # send prompts about users (what they chose, their profile) out
    allow_plain: bool = False  # send the key over http:// to another machine
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 16  # requests at a time of each of resources.actors actors
    timeout: Positive = 180.0  # seconds of one request, answer included
    retries: Annotated[int, Field(ge=0, le=20)] = 8  # of a request, after waits that double from half a second on
    max_requests: Annotated[int, Field(ge=0)] = 0  # that a run of one name may send in all, retries too; 0: any number
    api: Literal["chat", "completions"] = "chat"  # completions: the bare prompt, for base models
    temperature: Annotated[float, Field(ge=0)] | Literal["none"] = 0.0  # none: not sent; some models take no other
    token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"  # what the endpoint calls the limit
    extra: dict[str, Any] = Field(default_factory=dict)  # further parameters of each request, as {top_p = 0.9}

    @model_validator(mode="after")
    def _sendable(self) -> Self:
        # No message repeats a value: a key may have been put where it does not belong.
        if not re.fullmatch(r"([A-Z_][A-Z0-9_]*)?", self.api_key_env):
            raise ValueError(
                "http.api_key_env is the name of an environment variable, in capitals, and never the key itself"
            )
        _check_url(self.base_url)
        taken = {"model", "messages", "prompt", "stream", "n", "best_of", "echo", "temperature", "max_tokens"}
        taken |= {"max_completion_tokens", "api_key", "authorization"}
        if wrong := sorted(key for key in self.extra if key.lower() in taken):
            raise ValueError(f"http.extra may not hold {', '.join(wrong)}; keys of their own set what can be set")
        try:
            json.dumps(self.extra, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("http.extra: only text, finite numbers, true and false, lists and tables") from None
        return self


def _check_url(url: str) -> None:
    """Raises ValueError for what is no base URL, or holds what could be a secret."""
    if not url:
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("http.base_url must be as https://HOST/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("http.base_url takes no name, key or parameters; the key stands in the environment")
    if parts.path.rstrip("/").endswith("/completions"):
        raise ValueError("http.base_url ends before /chat/completions, as https://HOST/v1")
