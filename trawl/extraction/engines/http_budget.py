"""A run's budget of requests, counted over all its actors in files of the store.

    <store>/runs/<run>/requests/<writer>     how many requests one actor has sent or may be sending

An actor writes down what it is about to send before it reads what the others have: of two that write at once, each
sees the other, so together they never send more than the budget, on any store. What an actor reserved and did not send
is given back at the end of a batch; one that is killed leaves its reservation as sent.
"""

import random
import time
import uuid

from trawl.store import Store

_TRIES = 8
_PATIENCE = 0.2  # seconds, at most, before a reservation that two actors made at once is tried again


class Budget:
    """One actor's share."""

    def __init__(self, store: Store, run: str, most: int) -> None:
        self.store, self.most = store, most
        self.home = ("runs", run, "requests")
        self.writer = uuid.uuid4().hex
        self.sent = 0
        self.left = 0  # reserved and not sent

    def reserve(self, wanted: int) -> int:
        """Room for up to `wanted` requests beside what is left; 0 when the budget is spent. Returns what is left."""
        for trial in range(_TRIES):
            asked = min(wanted, max(1, self.most >> trial))
            self._write(self.sent + self.left + asked)
            over = max(0, self._all() - self.most)
            if over < asked:
                self.left += asked - over
                self._write(self.sent + self.left)
                break
            self._write(self.sent + self.left)
            if self._all() >= self.most:
                break
            time.sleep(random.uniform(0, _PATIENCE))
        return self.left

    def take(self) -> bool:
        """Count one request as sent; False when nothing is left of the reservation."""
        if not self.left:
            return False
        self.left, self.sent = self.left - 1, self.sent + 1
        return True

    def give_back(self) -> None:
        if self.left:
            self.left = 0
            self._write(self.sent)

    def _write(self, count: int) -> None:
        self.store.write_text(str(count), *self.home, self.writer)

    def _all(self) -> int:
        names = [name for name in self.store.names(*self.home) if not name.startswith(".")]
        return sum(int(self.store.find_text(*self.home, name) or 0) for name in names)
