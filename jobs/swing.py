"""Mine the positives of a recipe: `ray job submit ... -- python -m jobs.swing RECIPE --store URI`."""

import sys

from trawl.cli import job

if __name__ == "__main__":
    sys.exit(job("swing"))
