# make train, test, coverage, lint and docs do all the set-up on a fresh clone: a virtual
# environment in .venv and the packages of pyproject.toml at the versions of constraints.txt,
# several GB, once.
#
#   make train ARGS="data=flickr8k data.root=DIR"     Hydra's overrides are passed through
#   make test PYTHON=python3.12                       the Python that .venv is made with
#   make test EXTRAS=dev,ray                          which extras go into it

PYTHON ?= python3
EXTRAS ?= dev
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed-$(EXTRAS)

.DEFAULT_GOAL := help
.PHONY: help train test coverage lint docs

help:  ## list these commands
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile

train: $(INSTALLED)  ## train on the generated shapes data, or on what ARGS="key=value ..." says
	@$(BIN)/python scripts/train.py $(ARGS)

test: $(INSTALLED)  ## run all tests
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

coverage:  ## run all tests, a little slower, failing when they cover less than 85% of captioner/
	@$(MAKE) test ARGS="--cov=captioner --cov-fail-under=85 $(ARGS)"

lint: $(INSTALLED)  ## check style and formatting, changing nothing
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

docs: $(INSTALLED)  ## build the pages of docs/ into site/, to open site/index.html
	@$(BIN)/mkdocs build --strict

# The stamp is written last, so that an install that was cut short starts again, and is older than
# pyproject.toml or constraints.txt after either changed. torch and torchvision come from one call
# of pip: two would let the second replace what the first chose.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "captioner needs Python 3.10 or newer: make PYTHON=python3.11 ...")'
	@echo "installing into $(VENV), once: several GB, some minutes" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $@
