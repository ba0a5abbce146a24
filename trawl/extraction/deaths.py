"""What workers had begun to ask when they died, so that a prompt that kills its engine does not do so for ever."""

from collections.abc import Callable, Sequence

from trawl.extraction.engines import Request
from trawl.extraction.watched import Marks
from trawl.store import digest_json

DEATHS = 2  # of a batch, before its rows are asked one by one
_ROW = "row-"


class Deaths:
    """What workers had begun when they died."""

    def __init__(self, marks: Marks, forgive: Callable[[], None]) -> None:
        """`forgive`: says that a death was this row's, so that the task is not given up for it."""
        self.marks, self.forgive = marks, forgive

    def alone(self) -> set[str]:
        """Digests of the rows with which a worker died alone."""
        names = self.marks.store.names(*self.marks.home)
        return {name.removeprefix(_ROW) for name in names if name.startswith(_ROW)}

    def begin(self, batch: Sequence[Request]) -> int:
        """Mark a batch; returns how often a worker died in it before."""
        deaths = self.marks.begin(_batch_name(batch))
        if deaths:
            self.forgive()  # bounded all the same: a batch dies twice, a row once
        return deaths

    def end(self, batch: Sequence[Request]) -> None:
        self.marks.end(_batch_name(batch))

    def begin_row(self, request: Request) -> None:
        self.marks.begin(f"{_ROW}{request.digest}")

    def end_row(self, request: Request) -> None:
        self.marks.end(f"{_ROW}{request.digest}")


def _batch_name(batch: Sequence[Request]) -> str:
    return f"batch-{digest_json([request.digest for request in batch])}"
