# Everything a user or CI types. `make demo` and `make test` set themselves up; nothing needs root but system-packages.
PYTHON ?= python3
BIN := .venv/bin
# One worker a core, each with one thread; the tests of a module stay together, and so do their servers and models. The
# modules begin in the order of tests/conftest.py.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadscope --no-loadscope-reorder

.PHONY: demo test test-slow lint format bench system-packages clean

demo: .venv
	$(BIN)/baro demo

test: .venv
	$(PYTEST) -m "not slow"

test-slow: .venv
	$(PYTEST) -m slow

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv
	$(BIN)/python -m benchmarks.rollout
	$(BIN)/python -m benchmarks.peers

# apt packages that some tests want; a test skips with one loud line where its package is missing.
system-packages:
	@if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  dpkg -s fonts-noto-cjk chromium postgresql bubblewrap >/dev/null 2>&1 || \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq fonts-noto-cjk chromium postgresql bubblewrap; }; \
	else echo "system-packages: needs apt-get and root; tests that want chromium, postgresql or bubblewrap will skip"; fi

# Built beside and renamed, so that an interrupted set-up is made again rather than taken for whole.
.venv: pyproject.toml constraints.txt
	rm -rf .venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Baro needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch .venv

clean:
	rm -rf .venv runs .pytest_cache .mypy_cache .ruff_cache
