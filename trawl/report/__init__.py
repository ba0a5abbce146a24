"""What a person looks at: one self-contained HTML page per run, made of the run's record and its published tables."""

from trawl.report import index, page
from trawl.store import Store

__all__ = ["build"]


def build(store: Store, run: str) -> str:
    """Write the page of a run and the index over all runs anew; returns the path of the page.

    Raises AskedWrongly for a run that does not exist, ArtifactError for a table that is broken.
    """
    path = page.build(store, run)
    index.build(store)
    return path
