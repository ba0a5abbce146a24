"""Read the raw behaviour and texts of a recipe: `ray job submit ... -- python -m jobs.data RECIPE --store URI`."""

import sys

from trawl.cli import job

if __name__ == "__main__":
    sys.exit(job("data"))
