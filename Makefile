# Trimtab: every command prints what it does. `make help` lists them.
# make VENV=DIR, PYTHON=PATH, PULP=3|4 and TRIMTAB_TORCH=auto|cpu|index change where and from what it is set up.

VENV ?= .venv
PULP ?= 3
SETS ?= dev runtime peers
PYTEST_ARGS ?=
BIN := $(VENV)/bin
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in $(BIN)/python python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c '$(SUPPORTED)' 2>/dev/null && { command -v $$p; break; }; done)
CODE := trimtab planner scheduler workers tools tests benchmarks examples

.DEFAULT_GOAL := help
.PHONY: help python env env-base env-demo demo demo-plan fmt lint types test sim bench docs e2e long lock ci

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*  ## /\1\t/' | \
		awk -F '\t' '{printf "  make %-10s %s\n", $$1, $$2}'

python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "No Python 3.11, 3.12 or 3.13 found on the path. On Debian: apt install python3 python3-venv."; \
		echo "Elsewhere name one: make env PYTHON=/path/to/python3.11"; exit 1; fi

env: python  ## make .venv with all that tests and benchmarks need (SETS="dev" leaves torch out, "dev runtime" other trainers)
	@$(PYTHON) tools/setup_env.py --venv $(VENV) --pulp $(PULP) --sets $(SETS)

env-base: python
	@$(PYTHON) tools/setup_env.py --venv $(VENV) --pulp $(PULP) --sets base

env-demo: python
	@$(PYTHON) tools/setup_env.py --venv $(VENV) --pulp $(PULP) --sets base runtime

demo: env-demo  ## train two real models on this machine, planned, run and watched by Trimtab
	@echo "demo 1 of 2: a decoder language model on the source of the Python standard library"
	$(BIN)/trimtab run examples/stdlib-lm/job.yaml
	@echo "demo 2 of 2: an encoder-decoder on a parallel corpus made by a seeded grammar"
	$(BIN)/trimtab run examples/translation/job.yaml

demo-plan: env-base  ## the plan of a known model on a known inventory; no torch, nothing is started
	$(BIN)/trimtab plan examples/known-model/job.yaml --inventory examples/known-model/inventory.yaml

fmt: env  ## format the code
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix-only --quiet $(CODE)

lint: env  ## ruff, formatting, import contracts, spelling
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/lint-imports
	$(BIN)/codespell

types: env  ## mypy --strict over the product
	$(BIN)/mypy

test: env  ## set everything up and run the tests; lists what was left out and why
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

sim: env  ## the seeded simulations and the property tests
	$(BIN)/python -m pytest tests/simulation tests/property $(PYTEST_ARGS)

bench: env  ## every benchmark in full; tables here, figures in .out/bench/*.json
	$(BIN)/python tools/bench.py

docs: env  ## regenerate the pages made from the code, then check every link and anchor
	@for writer in tools/write_*.py; do echo "$(BIN)/python $$writer"; $(BIN)/python $$writer || exit 1; done
	$(BIN)/python tools/docs.py

e2e: env  ## the tests that start the real control process
	$(BIN)/python -m pytest tests/e2e $(PYTEST_ARGS)

long: env  ## the long suites; the log with commit, seeds and results goes to docs/long-run.log
	$(BIN)/python tools/long.py $(SUITES)

lock: env  ## regenerate the hash-locked requirements from requirements/*.in
	$(BIN)/python tools/lock.py

ci:  ## what CI runs, from the environment to the last check
	bash .ci/run
