"""Export vectors and neighbours of a recipe: `ray job submit ... -- python -m jobs.export RECIPE --store URI`."""

import sys

from trawl.cli import job

if __name__ == "__main__":
    sys.exit(job("export"))
