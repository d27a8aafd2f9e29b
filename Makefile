# Everything runs in .venv, which ops/install.sh makes and keeps up to date with pyproject.toml.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON := .venv/bin/python
# exec: a signal to make reaches the program itself, which then ends what it has started.
RUN := exec env PYTHONUNBUFFERED=1 RUST_BACKTRACE=0 PATH="$(CURDIR)/.venv/bin:$$PATH"

# Taken as they stand and handed to the programs in the environment, never pasted into a command:
# whatever quotes, dollars or backticks they hold, neither make nor the shell acts on them.
override q := $(value q)
override N := $(if $(value N),$(value N),20)
override CORPUS := $(value CORPUS)
override SOURCE := $(value SOURCE)
export q N CORPUS SOURCE

.PHONY: help install python stack demo test test-rabbitmq4 check format bench eval dev search \
  status soak faults mutants replay reconcile local-start local-stop local-test-medium \
  local-test-github clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: stack ## set up .venv, and a RabbitMQ to run privately if the machine has none

python:
	@ops/install.sh python

stack:
	@ops/install.sh python broker

demo: stack ## the whole pipeline on real documents, from nothing; ends by itself, exit 0 if in sync
	@$(RUN) $(PYTHON) -m examples.demo

test: stack ## all tests: unit, integration (real servers), chaos (kill -9)
	@$(RUN) $(PYTHON) -m pytest --numprocesses 3 --dist loadfile tests

test-rabbitmq4: python ## integration and chaos tests on RabbitMQ 4; as root; fetches 100 MB once
	@$(RUN) ops/rabbitmq4.sh

check: python ## lint, format and types
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy --strict flows connectors models retrieval ops examples

format: python ## put the code into its one format
	@$(PYTHON) -m ruff check --fix-only --quiet .
	@$(PYTHON) -m ruff format .

bench: stack ## measure throughput, freshness and cost of an edit
	@ops/install.sh bench
	@$(RUN) $(PYTHON) -m benchmarks

eval: python ## do searches find what they should? docs/quality.md; CORPUS=folder: one of BEIR's
	@ops/install.sh bench
	@$(RUN) $(PYTHON) -m benchmarks.quality

dev: stack ## the local stack in the foreground: both servers and both flows
	@$(RUN) $(PYTHON) -m ops.dev

search: python ## search the feature store: make search q="how are acks batched"; a prompt without q
	@$(RUN) $(PYTHON) -m retrieval.search -- $${q:+"$$q"}

status: python ## documents, chunks, queue depths and lag
	@$(RUN) $(PYTHON) -m retrieval.status

soak: stack ## random load and faults, N rounds: make soak N=100
	@$(RUN) $(PYTHON) -m tests.chaos.soak --rounds "$$N"

faults: stack ## every call to a driver fails once: all sites, all faults (30 minutes or more)
	@$(RUN) $(PYTHON) -m tests.faults

mutants: stack ## sabotages the product; the tests that claim it must fail
	@$(RUN) $(PYTHON) -m tests.mutants

replay: python ## put dead letters back into their queue
	@$(RUN) $(PYTHON) -m flows.replay

reconcile: python ## compare MongoDB with Qdrant and repair what differs
	@$(RUN) $(PYTHON) -m flows.reconcile

local-start: ## MongoDB, RabbitMQ, Qdrant and both flows in Docker Compose; makes secrets in .env
	@ops/secrets.sh
	docker compose up --detach --build --wait || \
	  { docker compose logs --tail 1 mongo-init >&2; exit 1; }

local-stop: ## stop what local-start started; the data stays
	docker compose down

local-test-medium: stack ## collect a feed and find it: SOURCE=its link, or @name; else one served here
	@$(RUN) $(PYTHON) -m examples.local_test medium

local-test-github: stack ## collect a repository and find it: SOURCE=its link, or owner/name
	@$(RUN) $(PYTHON) -m examples.local_test github

clean: ## delete caches, .data and .venv
	rm -rf .venv .data .hypothesis .mypy_cache .ruff_cache .pytest_cache benchmarks/out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
