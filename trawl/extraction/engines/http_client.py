"""Asks an OpenAI-compatible endpoint: so many requests at a time, patiently, and each prompt once while all goes well.

A prompt is sent again after 429, 5xx, a timeout or a dropped connection, with waits that double and are drawn apart;
when the endpoint names a time (Retry-After) all requests of this actor wait for it. What the endpoint says of all
prompts ends the run, and what is answered by then is kept: no access, no such model, no money, never reached, or so
many prompts in a row without an answer.
"""

import asyncio
import json
import os
import random
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from trawl.errors import BudgetSpent, ConfigError, EngineDied, TrawlError
from trawl.extraction.engines.http_budget import Budget
from trawl.extraction.engines.http_replies import BODY, Again, Outcome, Reader
from trawl.extraction.engines.seam import Reply, Request, Unfinished
from trawl.sections_http import Http

if TYPE_CHECKING:
    import aiohttp

_FIRST, _MOST = 0.5, 60.0  # seconds before the second try, and before any
_SLOW = 3  # tries of a prompt that is not answered in http.timeout
_UNKNOWN = 4  # tries of a host that has no address and never had one: its name is more likely wrong than away
_BARREN = 20  # prompts in a row without an answer that end the run, at least
_CONNECT = 15.0  # seconds
_PATHS = {"chat": "chat/completions", "completions": "completions"}


class Endpoint:
    """One endpoint as seen from one actor, and what is known of its health."""

    def __init__(self, http: Http, model: str, body: Callable[[Request], dict[str, Any]]) -> None:
        """Raises ConfigError when the key would travel in the clear, is none, or aiohttp is missing."""
        try:
            import aiohttp  # noqa: F401
        except ImportError:
            raise ConfigError("extraction.engine = http needs aiohttp: pip install 'trawl[core]'") from None
        self.http, self.body = http, body
        url = f"{http.base_url.rstrip('/')}/{_PATHS[http.api]}"
        self.reader = Reader(url, model, http.api_key_env, _key(http))
        self.reached = False
        self.barren = 0  # prompts in a row that no answer came to

    def ask(self, requests: Sequence[Request], budget: Budget | None) -> list[Reply]:
        """A reply per request, in order. Raises Unfinished."""
        batch = _Batch(self, requests, budget)
        _run(batch.send_all())
        if batch.stop is not None:
            raise Unfinished(batch.stop, batch.replies)
        return [reply for reply in batch.replies if reply is not None]


class _Batch:
    """The requests of one call and how they stand."""

    def __init__(self, to: Endpoint, requests: Sequence[Request], budget: Budget | None) -> None:
        self.to, self.http, self.reader, self.budget = to, to.http, to.reader, budget
        self.waiting: Iterator[tuple[int, Request]] = iter(enumerate(requests))
        self.replies: list[Reply | None] = [None] * len(requests)
        self.stop: TrawlError | None = None
        self.quiet_until = 0.0

    async def send_all(self) -> None:
        """Until each has a reply or `stop` says why not."""
        self.over, self.reserving = asyncio.Event(), asyncio.Lock()
        try:
            if self.budget:
                await asyncio.to_thread(self.budget.reserve, len(self.replies))
            async with self._opened() as self.session:
                many = min(self.http.concurrency, len(self.replies))
                await asyncio.gather(*(self._work() for _ in range(many)))
            if self.budget:
                await asyncio.to_thread(self.budget.give_back)
        except TrawlError as error:  # the store, where the budget is counted; the replies are here all the same
            self._end(error)

    def _opened(self) -> "aiohttp.ClientSession":
        import aiohttp

        headers = {"Accept-Encoding": "identity", "Content-Type": "application/json", "User-Agent": "trawl"}
        if self.reader.key:
            headers["Authorization"] = f"Bearer {self.reader.key}"
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.http.concurrency),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self.http.timeout, sock_connect=min(_CONNECT, self.http.timeout)),
            headers=headers,
            auto_decompress=False,
            proxy=_proxy(self.reader.url),
        )

    async def _work(self) -> None:
        for at, request in self.waiting:
            if self.stop is not None:
                return
            try:
                self.replies[at] = await self._one(request)
            except TrawlError as error:  # the store, where the budget is counted
                self._end(error)
            except Exception as error:  # a fault of ours costs one row, not a batch that is paid for
                self.replies[at] = Reply("", error=self.reader.short(f"{type(error).__name__}: {error}"))

    async def _one(self, request: Request) -> Reply | None:
        """The reply; None when the run ended before there was one."""
        started, tries = time.monotonic(), 0
        data = json.dumps(self.to.body(request), ensure_ascii=False).encode("utf-8", "replace")
        while True:
            await self._pause(tries)
            if self.stop is not None or not await self._allowed():
                return None
            outcome = await self._sent(data)
            tries += 1
            if not isinstance(outcome, Again):
                break
            self.quiet_until = max(self.quiet_until, time.monotonic() + outcome.wait if outcome.wait else 0.0)
            most = 1 + self.http.retries
            most = min(most, _SLOW) if outcome.slow else most
            most = min(most, _UNKNOWN) if outcome.unknown and not self.to.reached else most
            if tries >= most:
                break
        return self._settled(outcome, tries, time.monotonic() - started)

    def _settled(self, outcome: Outcome, tries: int, seconds: float) -> Reply | None:
        """What the last outcome makes of a prompt, and of the run."""
        if isinstance(outcome, Again):
            if self.stop is not None:
                return None
            if outcome.lost:
                outcome = EngineDied(
                    f"{self.reader.url}: cannot be reached ({outcome.reason}), tried {tries} times in {seconds:.0f} s; "
                    "what is answered is kept: run again when it is up"
                )
            else:
                outcome = Reply("", error=outcome.reason)
        if isinstance(outcome, TrawlError):
            self._end(outcome)
            return None
        self.to.barren = self.to.barren + 1 if outcome.error and outcome.status == "failed" else 0
        most = max(_BARREN, 2 * self.http.concurrency)
        if self.to.barren >= most:
            self._end(
                EngineDied(
                    f"{self.reader.url}: no answer to {self.to.barren} prompts in a row, the last time because "
                    f"{outcome.error}; mend the cause and run again: what is answered is kept"
                )
            )
        return replace(outcome, attempts=tries, seconds=seconds)

    def _end(self, error: TrawlError) -> None:
        """Nothing more is sent; what is under way may still be answered."""
        self.stop = self.stop or error
        self.over.set()

    async def _pause(self, tries: int) -> None:
        """Wait before a try: on our own behalf, and for as long as the endpoint asked everyone to."""
        own = min(_MOST, _FIRST * 2 ** (tries - 1)) * random.uniform(0.5, 1.0) if tries else 0.0
        while (wait := max(own, self.quiet_until - time.monotonic())) > 0 and self.stop is None:
            own = 0.0
            try:
                await asyncio.wait_for(self.over.wait(), wait + random.uniform(0, 0.1) * wait)
            except TimeoutError:
                continue

    async def _allowed(self) -> bool:
        """Whether the budget has room for one more request."""
        if self.budget is None or self.budget.take():
            return True
        async with self.reserving:
            if not self.budget.left:
                await asyncio.to_thread(self.budget.reserve, 1)
            if self.budget.take():
                return True
        self._end(
            BudgetSpent(
                f"http.max_requests = {self.budget.most} are sent, retries counted, by run {self.budget.home[1]!r}; "
                "what is answered is kept: raise the key and run again, and only the rest is asked"
            )
        )
        return False

    async def _sent(self, data: bytes) -> Outcome:
        """One request."""
        import aiohttp

        try:
            async with self.session.post(self.reader.url, data=data, allow_redirects=False) as response:
                body = bytearray()
                async for chunk in response.content.iter_chunked(1 << 16):
                    body += chunk
                    if len(body) > BODY:
                        break
                self.to.reached = True
                return self.reader.read(response.status, response.headers, bytes(body))
        except aiohttp.ClientConnectorCertificateError as error:
            why = self.reader.short(str(error.certificate_error))
            return ConfigError(
                f"{self.reader.url}: its certificate is not trusted ({why}); "
                "name your own authority's file in SSL_CERT_FILE where the workers run"
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return Again(self._why(error), lost=True, unknown=isinstance(error, aiohttp.ClientConnectorDNSError))
        except TimeoutError:
            self.to.reached = True
            return Again(f"the endpoint did not answer in {self.http.timeout:g} s (http.timeout)", slow=True)
        except (aiohttp.ClientError, OSError) as error:
            self.to.reached = True
            return Again(f"the endpoint dropped the connection: {self._why(error)}")

    def _why(self, error: Exception) -> str:
        return self.reader.short(f"{error}" or type(error).__name__)


def _key(http: Http) -> str:
    """The key, from the environment of this process. Raises ConfigError; no message holds the key."""
    key = os.environ.get(http.api_key_env, "").strip() if http.api_key_env else ""
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(f"http.api_key_env = {http.api_key_env}: the variable holds signs that no key has")
    parts = urlsplit(http.base_url)
    if key and parts.scheme == "http" and not _here(parts.hostname or "") and not http.allow_plain:
        raise ConfigError(
            f"http.base_url = {http.base_url}: the key in {http.api_key_env} would travel in the clear; use https://, "
            "set http.api_key_env to an empty text to send none, or http.allow_plain to true inside a network you trust"
        )
    return key


def _here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for this address."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)


def _run(work: Coroutine[Any, Any, None]) -> None:
    """To the end, in this thread, or beside it where a loop runs in it already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work)
        return
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()
