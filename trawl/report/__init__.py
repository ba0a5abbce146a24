"""What a person looks at: one self-contained HTML page per run, made of the run's record and its published tables."""

from trawl.report.page import build

__all__ = ["build"]
