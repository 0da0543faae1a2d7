# Two commands for newcomers: `make demo` and `make test`. Each sets up what it needs, and is fast the
# second time. `make check` is for whoever changes the code. The other targets are parts of these.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check bare soak lint compat bench mutants dist docs coverage site lock clean venv engine image upstream test-tools

EVALSET := .venv/bin/evalset

# Where this is set, each process of the tests would compile all of them again.
export PYTHONDONTWRITEBYTECODE =

help:
	@echo 'make demo    set everything up and run openai/evals in containers, no API key needed'
	@echo 'make test    set everything up and run every test'
	@echo 'make bare    run both on a bare machine: a minimal Debian, made for this and removed'
	@echo 'make check   lint, and run the tests that need no engine: a few minutes'
	@echo 'make soak    disturb runs at random for about an hour'
	@echo 'make lint    check with ruff, mypy and import-linter'
	@echo 'make compat  run the quick tests with each Python, with lowest and newest dependencies'
	@echo 'make bench   measure the runner against upstream'
	@echo 'make mutants show which small changes of plan/, registry/ and records/ no test notices'
	@echo 'make docs    write what docs/ has of options and coverage: commands, variables, coverage'
	@echo 'make coverage  run every eval of openai/evals, and write docs/coverage.md: 45 minutes'
	@echo 'make site    build the website of the documentation in site/'
	@echo 'make lock    update the locked Python packages of the eval image and of releases'
	@echo 'make dist    build the files of a release in dist/; publishes nothing'
	@echo 'make clean   remove what the other targets made in this folder, but no progress'

demo: venv engine image
	$(EVALSET) run dummy test-basic
	$(EVALSET) run dummy demo --registry-path registry
	@echo
	@echo 'The results are in progress/: progress files and attempts in progress/oaievalset,'
	@echo "oaieval's logs in progress/evallogs. Run \`make demo\` again: nothing runs twice."

# In three processes, of which one or another waits; tests/conftest.py says which tests stay together.
test: venv engine image upstream test-tools lint
	EVALSET_TEST_SEED=$(SEED) .venv/bin/python -m pytest -n 3

# Other commands than the two above: make bare COMMANDS="make demo"
bare:
	@scripts/bare $(if $(COMMANDS),'$(subst ','\'',$(COMMANDS))')

# Needs nothing but .venv: what needs a tool of `make test-tools` runs in `make test`.
check: lint
	EVALSET_TEST_SEED=$(SEED) .venv/bin/python -m pytest -q -n 4 \
		-m 'not docker and not upstream and not browser and not tools and not slow'

# The long form of the tests that disturb runs. To repeat one, set its seed: make soak SEED=1
soak: venv engine image test-tools
	EVALSET_TEST_SOAK=1 EVALSET_TEST_SEED=$(SEED) nice .venv/bin/python -m pytest -n 3 --timeout=7200 \
		tests/faults tests/hosts/test_acceptance.py $(wildcard tests/*/test_*_stateful.py)

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
	.venv/bin/python -m tests.coverage --page

# Of every eval, once, with the model `dummy`, one sample and no network; needs 20 GB of disk. Of some
# evals alone: .venv/bin/python -m tests.coverage NAME...
coverage: venv engine image
	$(EVALSET) image build --extra ml
	.venv/bin/python -m tests.coverage

# Fails at a link that leads nowhere. SOURCE is the address that links to the repository's files get.
site: venv
	.venv/bin/python -m tests.docs.website $(SOURCE)
	.venv/bin/zensical build --strict

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
	rm -rf .venv .venv-release .venv-upstream dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .cache mutants .venv-mutants
