# Each target does its own set-up into .venv (requirements/setup.sh); a second run spends no time on it.
# Variables: PYTHON (a Python 3.11 or 3.12), STORE (where the demo's tables and report go).
.POSIX:
.NOTPARALLEL:
.PHONY: demo test drills bench lint clean requirements setup-core setup-vllm setup-dev

STORE = out/store
BIN = .venv/bin
# No word to Ray's statistics, no token files: for everything that is started from here.
QUIET = RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=disabled

demo: setup-core
	@$(QUIET) $(BIN)/trawl run demo --store $(STORE) --name demo

test: lint
	@$(QUIET) $(BIN)/python -m pytest -q -m "not slow" --ignore=tests/drills --ignore=tests/bench

# Each drill once per state of the code; FORCE=1 runs all again, DRILLS="kill node" those whose names hold a word.
drills: setup-dev
	@$(QUIET) $(BIN)/python tests/drills/run.py $(DRILLS)

# Those that need no data and no vLLM; figures as JSON under out/bench. The others say at their top how they are called.
BENCHES = swing swing_scale training training_peers training_scale backbones detach ledger

bench: setup-dev
	@mkdir -p out/bench
	@set -e; for name in $(BENCHES); do echo "$$name"; \
	  $(QUIET) $(BIN)/python tests/bench/$$name.py --out out/bench/$$name.json; done

lint: setup-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# Results stay: out/ may hold answers that were paid for.
clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build trawl.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The pins of requirements/*.txt, anew from pyproject.toml.
requirements: setup-dev
	@sh requirements/export.sh

setup-core:
	@PYTHON="$(PYTHON)" sh requirements/setup.sh core

# core and vLLM: its CPU build on a machine without a GPU
setup-vllm:
	@PYTHON="$(PYTHON)" sh requirements/setup.sh vllm

setup-dev:
	@PYTHON="$(PYTHON)" sh requirements/setup.sh dev
