# Two commands on a fresh machine: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Extra arguments for pytest.
PYTEST_ARGS ?=
# What `make reproduce` runs, and its further arguments.
EXPERIMENT ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test faults bench lint format wheel tables reproduce clean

help:  ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"featx needs Python 3.11 or newer, {sys.executable} is {sys.version.split()[0]}. Run: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing featx and what it needs into $(VENV); torch is large, this takes some minutes."
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

install: $(VENV)/installed  ## Make .venv and install featx into it

demo: $(VENV)/installed  ## Run the main job on data and weights that come with packages
	$(BIN)/featx demo

test: $(VENV)/installed  ## Run the whole test suite
	$(BIN)/python -m pytest $(PYTEST_ARGS)

faults: $(VENV)/installed  ## Break the cache on purpose, some minutes long, and write docs/reliability.md
	$(BIN)/python benchmarks/reliability.py

bench: $(VENV)/installed  ## Measure extraction beside the machine's limit and other tools, about 40 minutes
	$(BIN)/python benchmarks/suite.py
	$(BIN)/python benchmarks/suite.py --write-docs

lint: $(VENV)/installed  ## Check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/installed  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel: $(VENV)/installed  ## Build the wheel into dist/
	$(BIN)/python -m build --wheel --outdir dist .

tables: $(VENV)/installed  ## Render docs/results.md, docs/results-d1.md and the README's tables from the records under reports/
	$(BIN)/python benchmarks/tables.py
	$(BIN)/python benchmarks/results.py

reproduce: $(VENV)/installed  ## Run a published experiment again: EXPERIMENT=d1 (or list), ARGS='--data-dir DIR --dry-run'
	$(BIN)/python benchmarks/reproduce.py $(or $(EXPERIMENT),list) $(ARGS)

clean:  ## Remove what make made
	rm -rf $(VENV) build dist .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
