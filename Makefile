# Everything a newcomer, a developer and CI need. `make demo` and `make test` are enough to start.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 4
export UV_PYTHON_DOWNLOADS := never
export NO_MKDOCS_2_WARNING := 1
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)

.PHONY: help install dev demo test check full bench chaos simulate fuzz bench-runs bench-scale bench-lean docs parity lock system clean

help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.tools/bin/uv:
	@$(PYTHON) scripts/get_uv.py .tools

$(VENV)/.installed: requirements/extras.txt pyproject.toml | $(if $(filter .tools/%,$(UV)),.tools/bin/uv)
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	@$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/extras.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

$(VENV)/.developed: $(VENV)/.installed requirements/dev.txt
	@$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@touch $@

install: $(VENV)/.installed ## set Galley up: leaves .venv/bin/galley
	@$(BIN)/python -m compileall -q src

dev: $(VENV)/.developed install ## the same with everything that tests, lint and docs need

demo: install .envs/demo/.installed ## run the flights recipe on real data, then serve it (EXIT=1, BREAK=1)
	@PYTHONPATH=.envs/demo $(BIN)/python examples/flights/demo.py $(if $(EXIT),--exit) $(if $(BREAK),--break) $(if $(PORT),--port $(PORT))

.envs/demo/.installed: requirements/demo.txt | install
	@rm -rf .envs/demo
	@$(UV) pip install --quiet --python $(BIN)/python --target .envs/demo --no-deps --require-hashes -r requirements/demo.txt
	@touch $@

system: ## Debian packages that tests drive (as root; elsewhere it says what is missing)
	@scripts/system_packages.sh

check: dev ## lint, strict types, import contracts, docs without warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/mkdocs build --strict --quiet --site-dir .cache/site

test: dev system check ## everything CI runs
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup -m "not slow"

full: dev system check ## test, and the long chaos, fuzz, simulator and client matrices
	GALLEY_FUZZ_CALLS=50000 GALLEY_CHAOS_KILLS=200 GALLEY_CHAOS_LONG=1 GALLEY_SIM_SEEDS=100000 $(BIN)/pytest -n $(WORKERS) --dist loadgroup --timeout 5400

chaos: dev ## kill the server again and again under load (KILLS=500, SEED=...)
	GALLEY_CHAOS_KILLS=$(or $(KILLS),500) GALLEY_CHAOS_LONG=1 $(if $(SEED),GALLEY_CHAOS_SEED=$(SEED)) $(BIN)/pytest tests/chaos tests/migration -p no:randomly --timeout 5400 -q

simulate: dev ## live through seeded worlds of losses and crashes (SEEDS=100000, SEED=...)
	GALLEY_SIM_SEEDS=$(or $(SEEDS),100000) $(if $(SEED),GALLEY_SIM_SEED=$(SEED)) $(BIN)/pytest tests/simulation -n $(WORKERS) --timeout 20000 -q

PEERS ?= prefect dbos celery dagster
bench-runs: dev ## runs over HTTP on both databases, and the same work by peers (PEERS= for none)
	$(BIN)/python benchmarks/runs.py --peers "$(PEERS)"

bench-scale: dev ## a run of 10,000 steps, and a million ended runs in the ledger (RUNS=1000000)
	$(BIN)/python benchmarks/scale.py --runs $(or $(RUNS),1000000)

bench-lean: dev ## memory, processor time at rest, time to start, against their bars
	$(BIN)/python benchmarks/lean.py

fuzz: dev ## walk every operation with hostile and valid input (CALLS=50000, SEED=...)
	GALLEY_FUZZ_CALLS=$(or $(CALLS),50000) $(if $(SEED),GALLEY_FUZZ_SEED=$(SEED)) $(BIN)/pytest tests/fuzz -n $(WORKERS) --timeout 5400 -q

bench: install ## CPU per step of the executor and of the ledger
	$(BIN)/python benchmarks/executor.py
	$(BIN)/python benchmarks/ledger.py

docs: dev ## build the documentation into site/
	$(BIN)/mkdocs build --strict

parity: install ## write docs/reference/parity.md from the dialects' operations.toml
	$(BIN)/python -m galley.cli.parity

lock: | $(if $(filter .tools/%,$(UV)),.tools/bin/uv) ## resolve all requirement sets again
	scripts/lock.sh

clean: ## remove what the targets above made, the demo's data included
	rm -rf $(VENV) .envs .tools .cache site demo-data
