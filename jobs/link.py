"""Link the items of a recipe to the knowledge base: `ray job submit ... -- python -m jobs.link RECIPE --store URI`."""

import sys

from trawl.cli import job

if __name__ == "__main__":
    sys.exit(job("linking"))
