# Every command of the project. `make help` lists them. Needs python3 >= 3.11 (with venv) and make; nothing else.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests wait more than they compute: a few at a time keep two cores busy.
PARALLEL ?= -n 3 --dist loadgroup
IMAGE := gen/coherence/image.binpb
BUF_CONFIG := --config buf.yaml

.PHONY: help setup demo test quick check bench faults backends backends-stop gen lock clean style types layers contract generated containers house

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(READY) ## .venv with everything, from the hashed locks

$(READY): requirements/dev.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "missing: $(PYTHON) (3.11 or newer); install it, or run make PYTHON=/path/to/python3"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "missing: Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Run make PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "missing: the venv module of $(PYTHON); on Debian: apt install python3-venv"; exit 2; }
	@echo "setting up $(VENV) (half a minute, once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt \
	  || { echo "the packages of requirements/dev.txt could not be installed: pip's message is above"; exit 2; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## The main job on real data: a blizzard over New York, live
	@$(BIN)/coherence demo

test: $(READY) ## All tests of what is present, with coverage gates
	@rm -f .coverage .coverage.*
	@$(BIN)/python -m tests.backends fetch || true # what is missing is skipped, or fails when it is required
	$(BIN)/coverage run -m pytest $(PARALLEL)
	@$(BIN)/coverage combine -q 2>/dev/null
	@rm -f .coverage.* # half-written ones, of services that the tests killed
	@$(BIN)/coverage report --fail-under=90
	@$(BIN)/coverage report --include='coherence_grpc/score.py' --fail-under=100

quick: $(READY) ## The tests to run before each commit (under a minute): all but those that start services
	$(BIN)/pytest $(PARALLEL) -m "not slow and not external" -x tests/unit tests/conformance tests/grpc tests/subgraph

check: $(READY) style types layers contract generated containers house ## Style, types, layers, contract, generated files, containers, acceptance and conformance map

style:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check -q .
	$(BIN)/codespell coherence_grpc subgraph tests bench docs protos README.md CONTRIBUTING.md SECURITY.md CHANGELOG.md
	$(BIN)/vulture
	$(BIN)/deptry . 2>&1 | tail -n 1

types:
	$(BIN)/mypy

layers:
	$(BIN)/lint-imports --verbose 2>&1 | tail -n 12

contract: $(READY)
	$(BIN)/buf format -d protos --exit-code
	$(BIN)/buf lint $(IMAGE) $(BUF_CONFIG)
	$(BIN)/buf breaking $(IMAGE) --against protos/baseline.binpb $(BUF_CONFIG)

generated: $(READY)
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(BIN)/python protos/generate.py "$$fresh"; \
	diff -r -q -x __pycache__ gen "$$fresh" || { echo "gen/ is not what protos/ generates: run make gen"; exit 1; }
	@$(BIN)/python -m subgraph.schema | diff -q - subgraph/schema.graphql \
	  || { echo "subgraph/schema.graphql is not what the code exports: run make gen"; exit 1; }
	@echo "gen/ and subgraph/schema.graphql are up to date"

containers: $(READY)
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml
	$(BIN)/hadolint --failure-threshold style Dockerfile

house: $(READY)
	$(BIN)/python -m tests.house

gen: $(READY) ## Writes gen/ from protos/ and subgraph/schema.graphql from the code
	$(BIN)/python protos/generate.py
	$(BIN)/python -m subgraph.schema > subgraph/schema.graphql

bench: $(READY) ## Figures beside their reference, as a table and bench/results/*.json
	$(BIN)/python -m bench

faults: $(READY) ## The long fault runs: figures as JSON
	$(BIN)/python -m bench.faults

backends: $(READY) ## Starts PostgreSQL, Redis and Neo4j on free loopback ports and prints their variables
	@$(BIN)/python -m tests.backends up

backends-stop: $(READY) ## Ends the servers that make backends started, and removes their data
	@$(BIN)/python -m tests.backends down

lock: $(READY) ## Resolves requirements/*.txt anew: names, versions and hashes, no address
	@cutoff=$$(date -u -d '7 days ago' +%F); common="--generate-hashes --no-emit-index-url --universal --python-version 3.11 \
	  --no-annotate --no-header --quiet --exclude-newer $$cutoff"; \
	$(BIN)/uv pip compile pyproject.toml $$common -o requirements/runtime.txt; \
	$(BIN)/uv pip compile --group build $$common -o requirements/build.txt; \
	$(BIN)/uv pip compile pyproject.toml --group dev $$common -o requirements/dev.txt

clean: ## Removes .venv and what tools left behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache bench/results .coverage .coverage.*
