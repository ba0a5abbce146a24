"""Functions called where there is room: in this process, or as Ray tasks whose results stay in the object store.

A **handle** stands for a result that may be somewhere else: on Ray an object's reference, in process the result
itself. Handles are passed on as arguments and arrive as values; on a node, its workers read one copy of a large array
without copying it. Who holds a handle holds no data. What a lost node held is computed again from its arguments.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from trawl.errors import EngineDied, TrawlError

_RETRIES = 5  # of a call whose worker or node died

Handle = Any


class Pool(Protocol):
    """Where functions are called. Functions are module-level; arguments and results are plain data and arrays."""

    def call(self, function: Callable[..., Any], *arguments: Any, returns: int = 1) -> Handle:
        """A handle of the result; with returns > 1, a list of that many handles of the items of a sequence."""
        ...

    def calls(self, function: Callable[..., Any], given: Iterable[Sequence[Any]], returns: int = 1) -> list[Handle]:
        """`call` for each sequence of arguments, with a bounded number of them at work at a time."""
        ...

    def get(self, handle: Handle) -> Any:
        """The value of a handle, in this process. An error of trawl comes back as itself; else EngineDied."""
        ...

    def results(self, function: Callable[..., Any], given: Iterable[Sequence[Any]]) -> Iterator[Any]:
        """The values of such calls as they end, in any order: for small ones."""
        ...

    def capacity(self) -> int:
        """Bytes that the smallest node's shared memory holds."""
        ...

    def keep(self, key: str, make: Callable[[], Any]) -> Any:
        """What `make` gave under this key, made once; one key is kept at a time."""
        ...

    def drop(self) -> None:
        """Let go of what is kept."""
        ...


class _Keeps:
    """One thing that is made once."""

    def __init__(self) -> None:
        self._kept: tuple[str, Any] | None = None

    def keep(self, key: str, make: Callable[[], Any]) -> Any:
        if self._kept is None or self._kept[0] != key:
            self._kept = None  # the one before it is let go first
            self._kept = (key, make())
        return self._kept[1]

    def drop(self) -> None:
        self._kept = None


class InProcess(_Keeps):
    """Calls at once and here."""

    def call(self, function: Callable[..., Any], *arguments: Any, returns: int = 1) -> Handle:
        found = function(*arguments)
        return found if returns == 1 else list(found)

    def calls(self, function: Callable[..., Any], given: Iterable[Sequence[Any]], returns: int = 1) -> list[Handle]:
        return [self.call(function, *arguments, returns=returns) for arguments in given]

    def get(self, handle: Handle) -> Any:
        return handle

    def results(self, function: Callable[..., Any], given: Iterable[Sequence[Any]]) -> Iterator[Any]:
        return (function(*arguments) for arguments in given)

    def capacity(self) -> int:
        return sys.maxsize


class OnRay(_Keeps):
    """Calls as Ray tasks of one CPU, at most `width` at a time; `trawl.connection` has joined the cluster before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def __reduce__(self) -> tuple[Any, ...]:
        return (OnRay, (self.width,))  # in a worker, without what is kept

    def call(self, function: Callable[..., Any], *arguments: Any, returns: int = 1) -> Handle:
        import ray

        remote = ray.remote(num_cpus=1, max_retries=_RETRIES, num_returns=returns)(function)
        return remote.remote(*arguments)

    def calls(self, function: Callable[..., Any], given: Iterable[Sequence[Any]], returns: int = 1) -> list[Handle]:
        import ray

        out: list[Handle] = []
        running: list[Any] = []
        for arguments in given:
            if len(running) >= self.width:
                _, running = ray.wait(running, num_returns=1, fetch_local=False)
            out.append(self.call(function, *arguments, returns=returns))
            running.append(out[-1] if returns == 1 else out[-1][0])
        return out

    def get(self, handle: Handle) -> Any:
        import ray

        try:
            return ray.get(handle)
        except ray.exceptions.RayError as error:
            raise failure(error) from error

    def results(self, function: Callable[..., Any], given: Iterable[Sequence[Any]]) -> Iterator[Any]:
        import ray

        waiting = iter(given)
        running: list[Any] = []
        try:
            while True:
                for arguments in waiting:
                    running.append(self.call(function, *arguments))
                    if len(running) >= self.width:
                        break
                if not running:
                    return
                done, running = ray.wait(running, num_returns=1)
                yield self.get(done[0])
        finally:
            for ref in running if ray.is_initialized() else ():  # after a shutdown it would start a new cluster
                ray.cancel(ref, force=False)

    def capacity(self) -> int:
        import ray

        sizes = [node["Resources"].get("object_store_memory", 0) for node in ray.nodes() if node["Alive"]]
        return int(min((size for size in sizes if size), default=0))


def ours(error: BaseException | None) -> TrawlError | None:
    """The error that trawl raised in a worker, of those that Ray wrapped it in."""
    while error is not None and not isinstance(error, TrawlError):
        error = getattr(error, "cause", None) or error.__cause__
    return error


def failure(error: Exception) -> TrawlError:
    """What to raise for an error of Ray: the one of trawl inside it, or EngineDied with Ray's last line."""
    inner = ours(getattr(error, "cause", None)) or ours(error.__cause__)
    if inner is not None:
        return inner
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return EngineDied(f"a worker failed: {lines[-1].strip() if lines else type(error).__name__}; run again")
