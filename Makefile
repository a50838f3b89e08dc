# The two commands that matter are `make demo` and `make test`; both set up what they need.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VERSION := $(if $(PYTHON),$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'))
DEMO := .venv-demo-$(VERSION)
DEV := .venv-dev-$(VERSION)
PEERS := .venv-peers-$(VERSION)
DOCS := .venv-docs-$(VERSION)
LOWEST := .venv-lowest-$(VERSION)
RELEASE := .venv-release-$(VERSION)
BENCH := .venv-bench-$(VERSION)
CLIENTS := $(patsubst requirements/clients/%.in,%,$(wildcard requirements/clients/*.in))
CLIENT_TESTS := $(CLIENTS:%=test-client-%)
ENGINES := $(patsubst requirements/engines/%.in,%,$(wildcard requirements/engines/*.in))
ENGINE_TESTS := $(ENGINES:%=test-engine-%)
JOBS := ray_data daft
INSTALL := -m pip install --quiet --disable-pip-version-check

.PHONY: demo test proof mutation test-peers test-lowest test-clients $(CLIENT_TESTS) test-engines $(ENGINE_TESTS) \
	bench bench-check bench-clients bench-batch bench-limits bench-priorities bench-proxies bench-shared bench-redis bench-redis-rivals bench-engines \
	gym gym-full pictures docs dist sbom lint types check lock clean

demo: $(DEMO)/ready  ## a thousand calls against a stand-in with limits, errors and an outage
	$(DEMO)/bin/python -m benchmarks.demo $(ARGS)

test: $(DEV)/ready  ## the whole suite
	$(DEV)/bin/python -m pytest

proof: $(DEV)/ready  ## what was tried, how often, and how often it went wrong; half an hour
	$(DEV)/bin/python -m tests.proof $(ARGS)

mutation: $(DEV)/ready  ## do the tests notice 300 small changes of the code? an hour or two
	$(DEV)/bin/python -m tests.mutation $(ARGS)

# Without the tests of openai 3, which test_openai2.py replaces, and of what aiohttp has had since 3.13.0.
LOWEST_TESTS := tests/clients/test_openai2.py tests/aio tests/stack tests/telemetry tests/timeouts \
	$(patsubst %,tests/adapters/test_%.py,aiohttp encode function httpx middleware pool proxy replies \
	response session sse)

test-lowest: $(LOWEST)/ready  ## the lowest versions of dependencies and extras; on Python 3.11
	$(LOWEST)/bin/python -m pytest $(LOWEST_TESTS)

dist: $(RELEASE)/ready  ## the wheel and the sdist, into dist; built twice, and they must be the same
	rm -rf dist build/again
	$(RELEASE)/bin/python -m hatchling build -d dist
	$(RELEASE)/bin/python -m hatchling build -d build/again
	cd dist && for file in *; do cmp $$file ../build/again/$$file || exit 1; done

sbom: $(RELEASE)/ready  ## what the wheel needs, as CycloneDX, into dist
	mkdir -p dist
	$(RELEASE)/bin/cyclonedx-py requirements requirements/runtime.txt --pyproject pyproject.toml \
		--output-reproducible --output-file dist/sbom.cdx.json

test-clients: $(CLIENT_TESTS)  ## openai 2 and the pages of docs/howto, one environment per client

$(CLIENT_TESTS): test-client-%: .venv-client-%-$(VERSION)/ready
	.venv-client-$*-$(VERSION)/bin/python -m pytest tests/clients/test_$*.py

test-engines: $(ENGINE_TESTS)  ## Ray Data, Daft and the pages about them, one environment per engine

$(ENGINE_TESTS): test-engine-%: .venv-engine-%-$(VERSION)/ready
	.venv-engine-$*-$(VERSION)/bin/python -m pytest tests/engines/test_$*.py

test-peers: $(PEERS)/ready  ## the OpenAI SDK's own async tests with every client wrapped; long
	$(PEERS)/bin/python tests/peers/run.py $(PEERS)/suite $(ARGS)

bench: $(BENCH)/ready  ## what a call costs, against a floor by hand and the rivals
	$(BENCH)/bin/python -m benchmarks

bench-check: $(BENCH)/ready  ## fails if one of our ratios grew by over a quarter
	$(BENCH)/bin/python -m benchmarks --check

bench-limits: $(DEV)/ready  ## a declared limit: waits at half of the load, use at the full one
	$(DEV)/bin/python -m benchmarks.limits

bench-priorities: $(DEV)/ready  ## classes and tenants: who waits, who gets how much, what it costs
	$(DEV)/bin/python -m benchmarks.priorities

bench-proxies: $(DEV)/ready  ## limits that proxies state, over HTTP; with HAProxy, if there is one
	$(DEV)/bin/python -m benchmarks.proxies

bench-shared: $(DEV)/ready  ## one limit over many processes, in virtual time
	$(DEV)/bin/python -m benchmarks.shared --write

bench-engines: $(JOBS:%=.venv-engine-%-$(VERSION)/ready)  ## 20,000 rows on Ray Data and on Daft, and killed half-way; half an hour
	for name in $(JOBS); do .venv-engine-$$name-$(VERSION)/bin/python -m benchmarks.engines $$name || exit 1; done

bench-redis: $(DEV)/ready  ## one limit over eight processes, with a real redis-server
	$(DEV)/bin/python -m benchmarks.shared.real $(ARGS)

bench-redis-rivals: $(BENCH)/ready  ## the same with token-throttle, limits and throttled-py
	$(BENCH)/bin/python -m benchmarks.shared.real --parts rivals

gym: $(BENCH)/ready  ## ways of finding a limit, against servers that keep one, in virtual time
	$(BENCH)/bin/python -m benchmarks.gym

gym-full: $(BENCH)/ready  ## three seeds, and the full cross of servers; up to three hours
	$(BENCH)/bin/python -m benchmarks.gym --full

pictures: $(DEV)/ready  ## what each layer is for, simulated and drawn into docs/pictures
	$(DEV)/bin/python -m benchmarks.pictures

docs: $(DOCS)/ready $(DEV)/ready  ## the site, into build/site; every link and block of code is checked
	$(DOCS)/bin/python -m benchmarks.site
	$(DEV)/bin/python -m pytest --quiet tests/test_docs*.py tests/test_site.py tests/test_tutorial.py
	@echo "to read and search it: $(DOCS)/bin/python -m http.server --directory build/site 8000"

bench-clients: $(DEV)/ready  ## what wrapping costs each client, in CPU time per call
	$(DEV)/bin/python -m benchmarks.clients

bench-batch: $(DEV)/ready  ## a file of requests: rows per second, and a million rows in memory
	$(DEV)/bin/python -m benchmarks.batch
	$(DEV)/bin/python -m benchmarks.million

lint: $(DEV)/ready
	$(DEV)/bin/ruff format --check --quiet .
	$(DEV)/bin/ruff check --quiet .

types: $(DEV)/ready
	$(DEV)/bin/mypy
	$(DEV)/bin/pyright --pythonpath $(DEV)/bin/python

check: lint types test

lock:  ## write requirements/*.txt, clients/*.txt and engines/*.txt there anew; needs uv
	cd requirements && for name in cli dev bench docs peers release runtime $(CLIENTS:%=clients/%) $(ENGINES:%=engines/%); do \
		uv pip compile --quiet --universal --upgrade --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header $$name.in --output-file $$name.txt; done
	cd requirements && uv pip compile --quiet --universal --upgrade --resolution lowest-direct \
		--python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		lowest.in --output-file lowest.txt

clean:
	rm -rf .venv-demo-* .venv-dev-* .venv-bench-* .venv-client-* .venv-docs-* .venv-engine-* .venv-lowest-* \
		.venv-peers-* .venv-release-* build dist .mypy_cache .ruff_cache .hypothesis

$(DEMO)/ready: requirements/cli.txt pyproject.toml
	$(call venv,$(DEMO),cli)

$(DEV)/ready: requirements/dev.txt pyproject.toml
	$(call venv,$(DEV),dev)

$(DOCS)/ready: requirements/docs.txt pyproject.toml
	$(call venv,$(DOCS),docs)

$(LOWEST)/ready: requirements/lowest.txt pyproject.toml
	$(call venv,$(LOWEST),lowest)

$(RELEASE)/ready: requirements/release.txt pyproject.toml
	$(call venv,$(RELEASE),release)

$(PEERS)/ready: requirements/peers.txt pyproject.toml
	$(call venv,$(PEERS),peers)

$(BENCH)/ready: requirements/bench.txt pyproject.toml
	$(call venv,$(BENCH),bench)

$(CLIENTS:%=.venv-client-%-$(VERSION)/ready): .venv-client-%-$(VERSION)/ready: \
		requirements/clients/%.txt pyproject.toml
	$(call venv,$(@D),clients/$*)

$(ENGINES:%=.venv-engine-%-$(VERSION)/ready): .venv-engine-%-$(VERSION)/ready: \
		requirements/engines/%.txt pyproject.toml
	$(call venv,$(@D),engines/$*)

define venv
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer is needed; give it as PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(1)
	$(1)/bin/python $(INSTALL) --require-hashes --requirement requirements/$(2).txt
	$(1)/bin/python $(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $(1)/ready
endef
