"""Train and score every arm of a recipe: `ray job submit ... -- python -m jobs.train RECIPE --store URI`."""

import sys

from trawl.cli import job

if __name__ == "__main__":
    sys.exit(job("training"))
