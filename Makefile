# `make run` serves demo data; `make test` runs every test; `make check` looks at the source; `make bench` measures (QUICK=1: in short); `make binary` builds dist/cardfile, which needs no Python; `make coverage` tells which of it no test runs; `make pictures` draws README's pictures anew.
PYTHON ?= python3
BIN := .venv/bin

# What the one binary is made of.
SOURCES = $(wildcard *.py seed.json requirements*.txt) $(shell find api commands database migrations openapi packaging pages server transfer -type f ! -name '*.pyc')

.PHONY: run test coverage check bench binary pictures format clean

run: .venv/runtime
	@exec $(BIN)/python service.py serve --demo $(ARGS)

test: .venv/development .venv/node
	$(BIN)/pytest $(ARGS)

coverage: .venv/development .venv/node
	$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

check: .venv/development
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# ABLATE=name: without one trick for speed (bench/ablations.py), name+name: without several at once, all: without each.
bench: .venv/bench
	PYTHONPATH=. $(BIN)/python -m bench.run $(if $(QUICK),--quick) $(if $(ABLATE),--ablate $(ABLATE)) $(ARGS)

pictures: .venv/development
	$(BIN)/pytest tests/pages/browser/test_pictures.py
	cp test-output/readme/*.png docs/

binary: dist/cardfile
	@$< --version
	@du -h $<

dist/cardfile: .venv/binary $(SOURCES)
	$(BIN)/pyinstaller --noconfirm --log-level ERROR --workpath build --distpath dist packaging/cardfile.spec

format: .venv/development
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist test-output tests/openapi/tools/node_modules .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache

.venv/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Cardfile needs Python 3.11 or newer.")'
	$(PYTHON) -m venv .venv
	@touch $@

.venv/runtime: .venv/python requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/bench: .venv/python requirements.txt requirements-bench.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	@touch $@

.venv/binary: .venv/python requirements.txt requirements-binary.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-binary.txt
	@touch $@

.venv/development: .venv/python requirements.txt requirements-binary.txt requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ .venv/runtime .venv/binary

# Without npm the tests that need it are skipped, and say so.
.venv/node: .venv/python tests/openapi/tools/package.json
	@if command -v npm > /dev/null; then \
		npm install --prefix tests/openapi/tools --no-package-lock --no-audit --no-fund --loglevel=error && touch $@; \
	fi
