# Everything on a fresh machine with Python 3.10-3.12 and make; see README.md.
VENV ?= .venv
PYTHON ?= $(shell for p in python3.11 python3.12 python3.10 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null && { echo $$p; break; }; done)
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
STAMP := $(VENV)/.installed
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup train test test-slow lint bench clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## create .venv with everything installed; trains nothing

$(STAMP): requirements.txt requirements-torch.txt requirements-nodeps.txt requirements-dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.10, 3.11 or 3.12 found. Fix: install one, or make PYTHON=/path/to/python3.11" >&2; exit 2; }
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PIP) --no-deps -r requirements-torch.txt
	$(PIP) -r requirements.txt
	$(PIP) --no-deps -r requirements-nodeps.txt
	$(PIP) -r requirements-dev.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $(STAMP)

train: $(STAMP)  ## train ResNet-18 on the embedded digits (no download but packages)
	$(PY) tools/train.py -c configs/resnet18.yaml $(ARGS)

test: $(STAMP)  ## run the tests
	$(PY) -m pytest -m "not slow" -n logical --maxprocesses 4 --dist loadfile $(ARGS)

test-slow: $(STAMP)  ## run the tests that take minutes
	$(PY) -m pytest -m slow $(ARGS)

lint: $(STAMP)  ## ruff, mypy --strict
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(STAMP)  ## every benchmark; results in outputs/benchmarks
	set -e; for script in benchmarks/[a-z]*.py; do $(PY) $$script; done

clean:  ## remove .venv and caches; keeps runs/
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
