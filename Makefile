# Everything is run through here. `make` alone lists it.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
INSTALLED := $(VENV)/.installed
TOOLS := $(VENV)/.tools
BENCH := $(VENV)/bench
NODE := tests/node_modules/.installed
# Suites that measure, and want the machine for themselves. The others mostly wait: three run at
# once.
ALONE := tests/bench tests/endurance
LOCK := $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate \
	--custom-compile-command 'make lock'

# The first Python 3.11 or newer; another one: make install PYTHON=/path/to/python
PYTHON = $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)

.DEFAULT_GOAL := help
.PHONY: help install test lint audit demo subscribers endurance chaos bench scaling schema dashboard lock clean

help: ## Show what there is to make
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' Makefile | awk -F ': ' '{ printf "  make %-11s %s\n", $$1, $$2 }'

install: $(INSTALLED) ## Install router-worker into .venv, every file by its hash

test: lint audit $(NODE) ## Check everything; ARGS='-k retry' goes to pytest
	$(BIN)/python -m pytest --numprocesses 3 --dist loadgroup $(ALONE:%=--ignore %) $(ARGS)
	$(BIN)/python -m pytest $(ALONE) $(ARGS) || [ $$? -eq 5 ]    # 5: ARGS leave none of them

lint: $(TOOLS) ## Check style, types, who imports whom, and for what is often unsafe
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml api_contracts worker

audit: $(TOOLS) ## Ask whether what we install has known holes
	@$(BIN)/python -m tests.audit

demo: $(INSTALLED) ## See it all work on this machine; ARGS=--keep leaves it running
	$(BIN)/router-worker demo $(ARGS)

subscribers: $(TOOLS) $(NODE) ## Follow 1,000 runs with 64 subscribers each (5 minutes)
	SUBSCRIBER_RUNS=1000 $(BIN)/python -m pytest --timeout 1800 --durations 1 tests/client/test_subscribers.py

endurance: $(TOOLS) $(NODE) ## Send 100,000 tasks through one worker, and look what stays (15 minutes)
	ENDURANCE_TASKS=100000 $(BIN)/python -m pytest -s tests/endurance

chaos: $(TOOLS) $(NODE) ## Break everything under load, and print what held (an hour); ARGS='kills --times 100'
	$(BIN)/python -m tests.chaos $(ARGS)

bench: $(BENCH)/.installed ## Measure it beside other queues (half an hour); ARGS='--repeat 5'
	$(BENCH)/bin/python -m tests.bench $(ARGS)

scaling: $(BENCH)/.installed ## Measure what it costs as its work grows (4 minutes)
	$(BENCH)/bin/python -m tests.bench.scaling

schema: $(INSTALLED) ## Write JSON Schema and AsyncAPI from the contracts
	$(BIN)/python -m api_contracts.schema

dashboard: $(TOOLS) ## Write the Grafana dashboard from deploy/grafana/dashboard.py
	$(BIN)/python -m deploy.grafana.dashboard

lock: $(TOOLS) ## Rebuild the lock files from pyproject.toml, keeping versions that still fit
	$(LOCK) pyproject.toml --extra demo --extra crypto --extra otel --group build \
		--output-file requirements.lock
	$(LOCK) --group test --constraint requirements.lock --output-file tests/requirements.lock
	$(LOCK) pyproject.toml --extra demo --group bench --constraint requirements.lock \
		--override tests/bench/overrides.txt --output-file tests/bench/requirements.lock
	npm install --prefix tests --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved

clean: ## Remove what was installed and cached
	rm -rf $(VENV) tests/node_modules build dist
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml requirements.lock
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or newer is needed' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes --requirement requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(TOOLS): $(INSTALLED) tests/requirements.lock
	$(PIP) install --require-hashes --requirement tests/requirements.lock
	@touch $@

# The lock is whole, and one of its packages asks for less than is there (tests/bench/overrides.txt).
$(BENCH)/.installed: tests/bench/requirements.lock
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or newer is needed' >&2; exit 1; }
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip --disable-pip-version-check --quiet --quiet install \
		--require-hashes --no-deps --requirement tests/bench/requirements.lock
	@touch $@

# Without Node, the tests that need it are skipped and say so (with CI=true they fail).
$(NODE): tests/package-lock.json
	@if command -v npm >/dev/null; then \
		npm ci --prefix tests --ignore-scripts --no-audit --no-fund && touch $@; \
	else \
		echo 'npm is not installed: tests that need Node will be skipped'; \
	fi
