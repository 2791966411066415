# `make demo` and `make test` set up everything they need; `make` alone lists the words.
# `make setup PYTHON=/path/to/python3.12` chooses the interpreter.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-oldest check format coverage docs figures cards pictures

VENV := .venv
OLDEST := .venv-oldest
WORKERS ?= 2
ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1

# one torch thread in each test process; nothing asks a hub, wandb's server or albumentations' release page
TESTS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 WANDB_MODE=offline WANDB_SILENT=true HF_HUB_OFFLINE=1 \
	NO_ALBUMENTATIONS_UPDATE=1 MPLBACKEND=Agg
PYTEST := python -m pytest -n $(WORKERS) --dist loadfile
FAST := not slow and not gpu and not network
SLOW := slow and not gpu and not network

# $(call find_python): the first interpreter that is new enough, as $$python
find_python = python=; for p in "$(PYTHON)" python3 python3.13 python3.12 python3.11; do \
	  if [ -n "$$p" ] && "$$p" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	  then python=$$p; break; fi; done; \
	if [ -z "$$python" ]; then \
	  echo "visattn needs Python 3.11 or newer with its venv module; none found: make setup PYTHON=/path/to/python3.11" >&2; \
	  exit 2; fi

# $(call make_venv,FOLDER): an environment that runs, made anew when it is absent or broken
make_venv = if ! $(1)/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  $(find_python); echo "Creating $(1) with $$("$$python" --version)"; "$$python" -m venv --clear $(1); fi; \
	$(1)/bin/python -m pip --version >/dev/null 2>&1 || $(1)/bin/python -m ensurepip --upgrade >/dev/null

# pip's large downloads and its last step, a line each; errors pass through stderr
brief = awk '/Downloading .* MB\)|Using cached .* MB\)/ { print "  " $$1 " " $$(NF-2) " " $$(NF-1) " " $$NF; fflush() } \
	/^Installing collected/ { print "  Installing " NF - 3 " packages"; fflush() }'

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.visattn  ## .venv with visattn and everything for work on it (again only if pyproject.toml changed)

$(VENV)/.visattn: pyproject.toml
	@$(call make_venv,$(VENV))
	@echo "Installing visattn and its tools into $(VENV) (the first time some GB: torch comes with its CUDA libraries)"
	@set -o pipefail; $(VENV)/bin/python -m pip install --progress-bar off -e '.[dev,export]' | $(brief)
	@touch $@
	@echo "Ready: $(VENV)/bin/visattn"

demo: setup  ## compare a CNN with and without attention: runs/demo/report.html in some minutes
	@$(VENV)/bin/visattn demo $(ARGS)

test: setup  ## the fast tests and the examples in docstrings (ARGS="tests/ops -x" for less)
	@$(TESTS) $(VENV)/bin/$(PYTEST) -m "$(FAST)" $(ARGS)

test-slow: setup  ## the long tests: whole runs, two processes, the wheel
	@$(TESTS) $(VENV)/bin/$(PYTEST) -m "$(SLOW)" $(ARGS)

test-oldest: $(OLDEST)/.visattn  ## the fast tests on the lowest versions pyproject.toml states
	@$(TESTS) $(OLDEST)/bin/$(PYTEST) -m "$(FAST)" $(ARGS)

$(OLDEST)/.visattn: pyproject.toml constraints-oldest.txt
	@$(call make_venv,$(OLDEST))
	@echo "Installing the oldest versions into $(OLDEST) (some GB)"
	@set -o pipefail; $(OLDEST)/bin/python -m pip install --progress-bar off -c constraints-oldest.txt -e '.[test,export]' | $(brief)
	@touch $@

check: setup  ## format, lint, types, layers, spelling; changes nothing
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy visattn $(wildcard scripts)
	@$(VENV)/bin/lint-imports
	@$(VENV)/bin/codespell

format: setup  ## let ruff format and sort what it can
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

coverage: setup  ## the fast tests with branch coverage
	@$(TESTS) $(VENV)/bin/$(PYTEST) -m "$(FAST)" --cov --cov-report=term $(ARGS)

figures: setup  ## measure every block anew (minutes, on a quiet machine): the figures that ship with the package
	@$(VENV)/bin/visattn bench blocks --out visattn/attention/figures.json
	@$(VENV)/bin/python docs/_blocks.py

cards: setup  ## docs/blocks/ and the README's table from docstrings and figures
	@$(VENV)/bin/python docs/_blocks.py

pictures: setup  ## train every block on ClutterData and draw its maps for docs/blocks/ (half a minute a block)
	@$(VENV)/bin/python benchmarks/block_pictures.py
	@$(VENV)/bin/python docs/_blocks.py

docs: setup  ## the documentation into site/, warnings are errors
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet
