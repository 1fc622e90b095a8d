# `make demo` and `make test` need Python 3.11+ and make, nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
ARGS   ?=
# Long runs that need the machine for themselves.
ALONE  := tests/line tests/soak tests/cli
.DEFAULT_GOAL := help

.PHONY: help setup setup-dev demo flows test test-models test-flows soak soak-flows lint bench docs clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Linegate needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)

# A stamp for each set of packages: a repeated set-up does nothing.
$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing Linegate into $(VENV): about a minute"
	@$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing Linegate and its development tools into $(VENV): about a minute"
	@$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $(VENV)/.demo $@

setup: $(VENV)/.demo ## a virtual environment with what the demo needs

setup-dev: $(VENV)/.dev ## the same with the tools for tests

demo: setup ## the whole simulated line: make demo ARGS="--parts 50"
	@$(BIN)/linegate demo $(ARGS)

flows: setup ## Node-RED with all flows and the operator's dashboard beside the demo; needs Node 20
	@$(BIN)/python -P -m simulators.flows $(ARGS)

test: setup-dev ## the tests, at most 8 minutes
	@$(BIN)/python -m pytest -m "realtime and not soak and not flows and not models" $(ARGS) || [ $$? -eq 5 ]
	@$(BIN)/python -m pytest -m "not realtime and not soak and not flows and not models" --numprocesses 3 --dist loadfile $(ARGS) || [ $$? -eq 5 ]

test-models: setup-dev ## teaching, measuring and signing models, at most 10 minutes
	@$(BIN)/python -m pytest -m "models and not soak" tests/models --numprocesses 2 --dist loadfile $(ARGS)

test-flows: setup-dev ## the Node-RED flows in a real Node-RED, at most 10 minutes; needs Node 20
	@$(BIN)/python -m pytest -m "flows and not soak" tests/flows --numprocesses 2 --dist loadfile $(ARGS)

soak-flows: setup-dev ## 10,000 verdicts through each flow, at most 10 minutes; needs Node 20
	@$(BIN)/python -m pytest -m "flows and soak" tests/flows --numprocesses 3 $(ARGS)

soak: setup-dev ## long runs: the whole line, kills, fuzzing; at most 20 minutes
	@$(BIN)/python -m pytest -m "soak and not flows" $(ALONE) $(ARGS) || [ $$? -eq 5 ]
	@$(BIN)/python -m pytest -m "soak and not flows" $(ALONE:%=--ignore=%) --numprocesses 3 --dist loadfile $(ARGS) || [ $$? -eq 5 ]

lint: setup-dev ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup-dev ## ratios to the direct script and the gate's firing error, into benchmarks/results.md
	@$(BIN)/python -P -m benchmarks.run $(ARGS)

docs: setup-dev ## the README's tables and its picture of the demo, from the code
	@$(BIN)/python -m tests.docs.write_tables
	@$(BIN)/python -m tests.docs.draw_demo

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
