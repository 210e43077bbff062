# make run        serve demo data
# make test       run the tests that need only Python
# make test-all   run every test: also those that need a browser, npm, Java, nginx, faketime, systemd-analyze, PostgreSQL, Litestream, the binary or a fuzzer
# make soak       kill, fuzz and load the servers, for less than an hour (SOAK=0.02: a fiftieth of it)
# make check      check format, style and types
# make bench      compare Cardfile with others (QUICK=1: in short; ABLATE=name: without one trick for speed)
# make binary     build dist/cardfile, which needs no Python
# make coverage   show which lines no test runs
# make pictures   take README's screenshots again
PYTHON ?= python3
BIN := .venv/bin

SOURCES = $(wildcard *.py seed.json requirements*.txt) $(shell find api commands database formats mcp migrations openapi operate packaging pages server transfer webhooks -type f ! -name '*.pyc')

.PHONY: run test test-all soak coverage check bench binary pictures format clean

run: .venv/runtime
	@exec $(BIN)/python service.py serve --demo $(ARGS)

test: .venv/test
	$(BIN)/python -m pytest -m "not tools and not soak" $(ARGS)

test-all: .venv/development .venv/node .venv/mcp1 .venv/mcp2
	$(BIN)/python -m pytest -m "not soak" $(ARGS)

soak: .venv/development
	$(BIN)/python -m pytest -n 2 -m soak $(ARGS)

coverage: .venv/development .venv/node .venv/mcp1 .venv/mcp2
	$(BIN)/coverage run -m pytest -m "not soak" $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

check: .venv/check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# ABLATE=name: without one trick for speed (bench/ablations.py), name+name: without several at once, all: without each.
bench: .venv/bench
	PYTHONPATH=. $(BIN)/python -m bench.run $(if $(QUICK),--quick) $(if $(ABLATE),--ablate $(ABLATE)) $(ARGS)

pictures: .venv/development
	$(BIN)/python -m pytest tests/pages/browser/test_pictures.py
	cp test-output/readme/*.png docs/

binary: dist/cardfile
	@$< --version
	@du -h $<

dist/cardfile: .venv/binary $(SOURCES)
	$(BIN)/pyinstaller --noconfirm --log-level ERROR --workpath build --distpath dist packaging/cardfile.spec

format: .venv/check
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist test-output tests/*/*/node_modules .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache

.venv/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Cardfile needs Python 3.11 or newer.")'
	$(PYTHON) -m venv .venv
	@touch $@

INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -r

.venv/runtime: .venv/python requirements.txt
	$(INSTALL) requirements.txt
	@touch $@

.venv/bench: .venv/python requirements.txt requirements-bench.txt
	$(INSTALL) requirements-bench.txt
	@touch $@

.venv/binary: .venv/python requirements.txt requirements-binary.txt
	$(INSTALL) requirements-binary.txt
	@touch $@

.venv/check: .venv/python requirements.txt requirements-granian.txt requirements-postgresql.txt requirements-check.txt
	$(INSTALL) requirements-check.txt
	@touch $@

.venv/test: .venv/python requirements.txt requirements-granian.txt requirements-test.txt
	$(INSTALL) requirements-test.txt
	@touch $@

.venv/development: .venv/python $(wildcard requirements*.txt)
	$(INSTALL) requirements-dev.txt
	@touch $@ .venv/runtime .venv/binary .venv/check .venv/test

# Clients of the Model Context Protocol, which need other versions of the same packages.
.venv/mcp%: tests/mcp/clients/requirements-%.txt .venv/python
	$(PYTHON) -m venv --without-pip $@
	$(BIN)/python -m pip --python $@/bin/python install --quiet --disable-pip-version-check -r $<
	@touch $@

# Without npm or its registry, the tests that need them are skipped. By default npm would try for four minutes to reach it.
.venv/node: .venv/python tests/openapi/tools/package.json tests/mcp/clients/package.json
	@if (cd tests/openapi/tools; npm install $(NPM_OPTIONS)) && (cd tests/mcp/clients; npm install $(NPM_OPTIONS)); then \
		touch $@; \
	else \
		echo "npm installed nothing: the tests that need it are skipped."; \
	fi

NPM_OPTIONS = --no-package-lock --no-audit --no-fund --loglevel=error \
	--fetch-retries=1 --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=1000 --fetch-timeout=20000
