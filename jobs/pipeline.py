"""The whole pipeline of a recipe, report included: `ray job submit ... -- python -m jobs.pipeline RECIPE`."""

import sys

from trawl.cli import job

if __name__ == "__main__":
    sys.exit(job())
