# Each target does its own set-up; a machine needs git, make and Python 3.11 to 3.13, nothing more.
#   make demo   deblur a sample clip with the bundled model
#   make test   pass the tests
#   make lint   ruff and mypy
#   make slow   the tests that take minutes
# PYTHON=... chooses the interpreter, VENV=... the folder of the environment.

SUPPORTED = import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13; do \
	$$p -c "$(SUPPORTED)" 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN = $(VENV)/bin
DEMO = pavilion
# The environments are made anew when the dependencies change.
RUN = $(VENV)/.installed-run
DEV = $(VENV)/.installed-dev

.PHONY: demo test lint slow clean

demo: $(RUN)
	$(BIN)/streamdeblur samples/$(DEMO).mp4 -o $(DEMO).deblurred.mp4 --overwrite
	@echo "before: samples/$(DEMO).mp4    after: $(DEMO).deblurred.mp4"

test: $(DEV)
	$(BIN)/python -m pytest

slow: $(DEV)
	$(BIN)/python -m pytest -m slow

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 to 3.13 with venv found (Debian: python3-venv); set PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(RUN): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e ".[train,export,dev]"
	@touch $@ $(RUN)

clean:
	rm -rf $(VENV) build *.egg-info
