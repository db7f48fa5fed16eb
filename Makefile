# One obvious command for each habit. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
UV_VERSION := 0.13.8
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $(PYTHON) is older than 3.11; name another: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "installing into .venv"
	@$(PYTHON) -m venv .venv || { echo "error: no venv; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/pip install -q --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv --system-certs pip install -q --require-hashes -r requirements.lock
	@$(BIN)/uv --system-certs pip install -q --no-deps -e .
	@touch $(READY)

.PHONY: install
install: $(READY) ## Make .venv with everything in it

.PHONY: up
up: $(READY) ## Start a control plane, the operator and a sample bot on this machine
	@$(BIN)/mainstay up

.PHONY: down
down: $(READY) ## Stop all of it; objects and data stay for the next `make up`
	@$(BIN)/mainstay down

.PHONY: test
test: $(READY) ## Run all tests: unit, simulation, contract, integration
	@$(BIN)/python -m tests.support.prepare
	@$(BIN)/pytest -n 2 --dist loadgroup -m "not soak"

.PHONY: soak
soak: $(READY) ## Run the long tests too
	@$(BIN)/python -m tests.support.prepare
	@$(BIN)/pytest -m soak --timeout 3600

.PHONY: lint
lint: $(READY) ## Check format, style, types, layers and generated files
	@$(BIN)/ruff format --check operator tests manifests
	@$(BIN)/ruff check operator tests manifests
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m mainstay.api.crd --check
	@$(BIN)/python -m mainstay.api.reference --check

.PHONY: verify
verify: lint test ## Everything CI checks

.PHONY: format
format: $(READY) ## Format and fix what can be fixed
	@$(BIN)/ruff check --fix operator tests manifests
	@$(BIN)/ruff format operator tests manifests

.PHONY: crds
crds: $(READY) ## Generate crds/ and docs/api.md from the models
	@$(BIN)/python -m mainstay.api.crd
	@$(BIN)/python -m mainstay.api.reference

.PHONY: lock
lock: $(READY) ## Resolve requirements.lock anew
	@$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --group dev pyproject.toml -o requirements.lock

.PHONY: bench
bench: $(READY) ## Measure, side by side with the limit and the peers
	@$(BIN)/python -m tests.support.prepare
	@$(BIN)/python -m tests.bench

.PHONY: clean
clean: ## Remove .venv and caches
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
