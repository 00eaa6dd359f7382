# Needs Python 3.11 or newer and nothing else. PYTHON picks the one that makes .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet -c constraints.txt
WORKERS ?= 2

.PHONY: demo test lint format types layers docs bench ci clean
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PRECIOUS: $(VENV)/.%

demo: $(VENV)/.all
	$(BIN)/gatewise demo --out demo-report

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.lint
	$(BIN)/mypy

layers: $(VENV)/.lint
	$(BIN)/lint-imports --no-cache --no-logo

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

ci:
	.ci/run

clean:
	rm -rf $(VENV) docs/_build demo-report

# Installing an extra leaves a stamp, so that a second `make` does nothing; new pins or
# dependencies renew it. A .venv that is there already is used as it is.
$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Gatewise needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.%: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e ".[all,$*]"
	@touch $@
