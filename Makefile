# `make run` and `make test` need nothing but Python 3.11 or newer: each makes the environment `.venv` first.
#   PYTHON=python3.12      the Python to use; remembered
#   TORCH_BACKEND=cpu      the torch build: cpu, auto, cu126, ...; remembered; empty is the registry's plain build
#   ARGS="..."             overrides for `make run`, options for `make test`

BIN := .venv/bin
PYTHON ?= $(shell test -x $(BIN)/python && echo $(BIN)/python || echo python3)
STORE ?= $(or $(WAFERLAB_STORE),store)
TINY ?= dataset.maps=200 teacher.trainer.max_epochs=1 trainer.max_epochs=1

.DEFAULT_GOAL := help
.PHONY: help install run test lint format types wheel-test constraints screenshots

help: ## list the targets
	@sed -n 's/^#   //p' Makefile
	@echo
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | awk -F '|' '{ printf "make %-17s %s\n", $$1, $$2 }'

install: ## make the environment .venv if it is missing or stale
	@"$(PYTHON)" tools/environment.py

run: install ## waferlab train: a teacher and a student on simulated wafers
	$(BIN)/waferlab train $(ARGS)

test: install ## the tests, on all processors
	$(BIN)/pytest -n auto --dist loadfile $(ARGS)

lint: install ## style and common mistakes (ruff)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install ## apply the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: install ## strict types (mypy)
	$(BIN)/mypy

wheel-test: install ## build the wheel and use it in an empty environment elsewhere
	tools/wheel_test.sh $(TINY)

screenshots: install ## docs/images/ from the newest sweep in STORE; needs Chromium
	$(BIN)/python tools/screenshots.py "$(STORE)" docs/images

constraints: ## pin the newest versions that pyproject.toml allows (torch pins its own CUDA parts)
	printf 'hatchling\n' | PATH="$(BIN):$$PATH" uv pip compile --quiet --universal --python-version 3.11 \
	  --fork-strategy fewest --no-header --no-annotate --group pyproject.toml:dev --extra train --extra parquet pyproject.toml - \
	  | grep -Ev '^(cuda|nvidia|triton)' > constraints.partial
	mv constraints.partial constraints.txt
