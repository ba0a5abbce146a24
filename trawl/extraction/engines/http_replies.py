"""What an endpoint's answer means: a reply, a reason to ask again, or an error that ends the run.

All that comes back is untrusted: bodies are parsed with care, what is told of them is short and plain, and the key is
taken out of everything, should the endpoint repeat it.
"""

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from trawl.errors import ConfigError, EngineDied, TrawlError
from trawl.extraction.engines.seam import Reply
from trawl.extraction.prompts import clean

BODY = 8 << 20  # bytes of an answer that are read
_LONGEST = 600.0  # seconds that an endpoint may ask to wait for
_TOLD = 200  # characters of a message that are repeated
_SECRET = 12  # characters of the shortest key that is taken out
_TOKENS = 10**9  # more than any endpoint counts in earnest
UNTOLD = -1  # tokens that the endpoint did not count
_TOO_LONG = re.compile(
    r"context[_ ]length|context window|maximum context|max_model_len|too many (?:input )?tokens"
    r"|(?:prompt|input|request)(?: length)? (?:is )?too (?:long|large)|reduce the length",
    re.IGNORECASE,
)
_FILTERED = re.compile(
    r"content[_ ]?(?:filter|policy|management)|moderation|safety system|data_?inspection|responsible ?ai", re.IGNORECASE
)
_UNPAID = re.compile(r"insufficient_quota|billing|exceeded your current quota|insufficient (?:balance|credit)", re.I)
_KEYS = re.compile(r"\b(?:sk|pk|gsk|hf|xai|Bearer)[-_ ][\w\-*.]{8,}")


@dataclass(frozen=True)
class Again:
    """No answer this time. `wait`: seconds that the endpoint asks for; `lost`: it could not be reached at all;
    `unknown`: its name has no address; `slow`: it took all the time there is.
    """

    reason: str
    wait: float = 0.0
    lost: bool = False
    unknown: bool = False
    slow: bool = False


Outcome = Reply | Again | TrawlError


@dataclass(frozen=True)
class Reader:
    """Reads the answers of one endpoint."""

    url: str
    model: str
    key_env: str
    key: str

    def read(self, status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
        """`body`: at most BODY + 1 bytes of it."""
        if 200 <= status < 300:
            return self._answer(body)
        code, told = self._message(body)
        said = f"{status}{f': {told}' if told else ''}"
        if 300 <= status < 400:
            host = urlsplit(headers.get("Location", "")).netloc or "another address"
            return ConfigError(
                f"{self.url} redirects to {self.short(host)}, which is not followed with the key; correct http.base_url"
            )
        if status == 402 or (status in (403, 429) and _UNPAID.search(f"{code} {told}")):
            return EngineDied(
                f"{self.url} answers {said}; top up the account, then run again: what is answered is kept"
            )
        if status in (408, 409, 425, 429) or status >= 500:
            return self._later(said, headers)
        return self._refused(status, code, told, said)

    def _refused(self, status: int, code: str, told: str, said: str) -> Outcome:
        """The other answers of 400 and more: of the row, or of the way in which all are asked."""
        if status in (400, 403, 422) and _FILTERED.search(f"{code} {told}"):
            return Reply("", error=f"the endpoint's filter: {said}", status="refused")
        if status == 413 or (status in (400, 422) and _TOO_LONG.search(f"{code} {told}")):
            return Reply("", error=f"too long for the endpoint: {said}", status="too_long")
        if status in (401, 403, 407):
            where = f"the key in {self.key_env}" if self.key_env else "http.api_key_env, which names no key,"
            why = "is not set where the workers run" if self.key_env and not self.key else "does not open it"
            return ConfigError(f"{self.url} answers {said}; {where} {why}")
        if status in (404, 405, 410):
            return ConfigError(f"{self.url} answers {said}; check http.base_url and extraction.model = {self.model!r}")
        return Reply("", error=f"the endpoint answers {said}")

    def _later(self, said: str, headers: Mapping[str, str]) -> Outcome:
        wait = _asked_wait(headers)
        if wait > _LONGEST:
            return EngineDied(
                f"{self.url} answers {said} and asks to wait {wait:.0f} s; run again then: what is answered is kept"
            )
        return Again(f"the endpoint answers {said}", wait)

    def _answer(self, body: bytes) -> Reply:
        if len(body) > BODY:
            return Reply("", error=f"the endpoint's answer has more than {BODY >> 20} MiB")
        tree = _parsed(body)
        choices = tree.get("choices") if isinstance(tree, dict) else None
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            what = "no choices" if isinstance(tree, dict) else "no JSON object"
            return Reply("", error=f"the endpoint's answer has {what} in it: {self.short(_text(body))}")
        ended, message = choices[0].get("finish_reason"), choices[0].get("message", choices[0])
        used = tree.get("usage")
        read, written = (_count(used, name) for name in ("prompt_tokens", "completion_tokens"))
        refusal = message.get("refusal") if isinstance(message, dict) else None
        if ended == "content_filter" or (isinstance(refusal, str) and refusal.strip()):
            why = self.short(refusal) if isinstance(refusal, str) and refusal.strip() else "content_filter"
            return Reply("", read, written, error=f"the endpoint's filter: {why}", status="refused")
        text = _written(message)
        if text is None:
            return Reply("", read, written, error="the endpoint's answer has no text in its message")
        return Reply(self.redacted(clean(text)), read, written, finished=ended != "length")

    def _message(self, body: bytes) -> tuple[str, str]:
        """(code, message) of an error's body, whatever its form."""
        tree = _parsed(body)
        inner = tree.get("error", tree) if isinstance(tree, dict) else tree
        if isinstance(inner, dict):
            code = " ".join(str(inner.get(k)) for k in ("code", "type") if isinstance(inner.get(k), str | int))
            text = next((inner[k] for k in ("message", "detail", "msg") if inner.get(k)), "")
            return self.redacted(code)[:_TOLD], self.short(text if isinstance(text, str) else json.dumps(text))
        return "", self.short(inner if isinstance(inner, str) else re.sub(r"<[^<>]{0,200}>", " ", _text(body)))

    def redacted(self, text: str) -> str:
        """Without the key, or anything that begins as it does. One as short as EMPTY is a word and no secret."""
        if len(self.key) < _SECRET:
            return text
        return re.sub(re.escape(self.key[:8]) + r"\S*", "[key]", text.replace(self.key, "[key]"))

    def short(self, text: str) -> str:
        """An outside message for a line of ours."""
        plain = " ".join(clean(text[: 1 << 16]).split())
        plain = _KEYS.sub("[key]", self.redacted(plain))
        return plain if len(plain) <= _TOLD else f"{plain[:_TOLD]}..."


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _text(body: bytes) -> str:
    return body[: 1 << 16].decode("utf-8", "replace")


def _written(message: Any) -> str | None:
    """The text of a chat's message, whole or in parts, or of a completion; "" for a null."""
    if not isinstance(message, dict):
        return None
    found = message.get("content", message.get("text"))
    if isinstance(found, list):
        parts = [part.get("text") for part in found if isinstance(part, dict)]
        found = "".join(part for part in parts if isinstance(part, str))
    if found is None and ("content" in message or "text" in message):
        return ""
    return found if isinstance(found, str) else None


def _count(used: Any, name: str) -> int:
    """Tokens that the endpoint counted; UNTOLD when it did not say or made no sense."""
    found = used.get(name) if isinstance(used, dict) else None
    return found if type(found) is int and 0 <= found < _TOKENS else UNTOLD


def _asked_wait(headers: Mapping[str, str]) -> float:
    """Seconds from Retry-After: a number, or a date (RFC 9110, 10.2.3); 0 when there is none."""
    text = headers.get("Retry-After", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
