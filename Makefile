# Two commands for newcomers: `make demo` and `make test`. Each sets up what it needs, and is quick
# the second time. The rest are their parts.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test soak lint compat bench mutants dist docs lock clean venv engine image upstream test-tools

EVALSET := .venv/bin/evalset

help:
	@echo 'make demo    set everything up and run openai/evals in containers, no API key needed'
	@echo 'make test    set everything up and run every test'
	@echo 'make soak    kill, fill and cut off what a run needs, at random, for about an hour'
	@echo 'make lint    ruff, mypy, import-linter'
	@echo 'make compat  run the quick tests with each Python, and lowest and newest dependencies'
	@echo 'make bench   measure the runner against upstream'
	@echo 'make mutants show which small changes of plan/, registry/ and records/ no test notices'
	@echo 'make docs    write docs/commands.md anew'
	@echo 'make lock    renew the versions of the Python packages in the eval image and for releases'
	@echo 'make dist    build what a release is made of, in dist/; publishes nothing'
	@echo 'make clean   remove what the other targets made in this folder, but no progress'

demo: venv engine image
	$(EVALSET) run dummy test-basic
	$(EVALSET) run dummy demo --registry-path registry
	@echo
	@echo 'The results are in progress/: progress files and attempts in progress/oaievalset,'
	@echo "oaieval's logs in progress/evallogs. Run \`make demo\` again: nothing runs twice."

# In two processes, of which one has all tests that need the engine.
test: venv engine image upstream test-tools lint
	EVALSET_TEST_SEED=$(SEED) .venv/bin/python -m pytest -n 2

# The long form of the tests that disturb runs. A seed repeats it: make soak SEED=1
soak: venv engine image test-tools
	EVALSET_TEST_SOAK=1 EVALSET_TEST_SEED=$(SEED) nice .venv/bin/python -m pytest --timeout=7200 \
		tests/faults $(wildcard tests/*/test_*_stateful.py)

lint: venv
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

compat: venv engine image test-tools
	scripts/compat

bench: venv engine image upstream
	.venv/bin/python -m bench

mutants: venv
	@scripts/mutants

docs: venv
	.venv/bin/python -m tests.docs.commands_page

lock: venv
	scripts/lock

dist:
	rm -rf dist
	scripts/release dist

venv:
	@scripts/setup

engine:
	@scripts/engine

image: venv engine
	@$(EVALSET) image build

upstream:
	@scripts/upstream

test-tools:
	@scripts/test-tools

clean:
	rm -rf .venv .venv-release .venv-upstream dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .cache mutants .venv-mutants
