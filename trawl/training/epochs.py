"""Who hears of each epoch of a training in this process: a search, which may stop it there. Nobody, unless told.

A training that is stopped by an error of its listener leaves nothing: its files reach the store after the last epoch.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

Listener = Callable[[Mapping[str, Any]], None]

_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Trainings of this thread tell `listener` each epoch's record: epoch, loss, rec, uu, ii, validation, seconds."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def tell(record: Mapping[str, Any]) -> None:
    """An epoch of a training has ended."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(record)
