# `make demo` on a machine with Python 3.11, git and make installs everything and runs GMAIL in miniature.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

export UV_SYSTEM_CERTS ?= 1
export UV_PYTHON_DOWNLOADS ?= never
export MLFLOW_DISABLE_TELEMETRY ?= true
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION ?= false

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
UV := $(or $(shell command -v uv 2>/dev/null),.tools/uv/bin/uv)

# The first of these that is a Python 3.11 and starts.
find_python = $(firstword $(foreach name,python3.11 python3 python,$(shell \
	$(name) -c 'import sys; print(sys.executable) if sys.version_info[:2] == (3, 11) else None' 2>/dev/null)))

.PHONY: help install demo test lint repro weights ui clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## create .venv and install what requirements.lock pins, once

demo: install  ## the whole of GMAIL on the embedded mini world, in minutes
	$(BIN)/gmail-kedro demo

test: install  ## run the tests, a file at a time on up to four cores
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: install  ## style, format, import contracts, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# DVC runs stage after stage, and a small model keeps one core busy. So two of it share the runs; what both wait for is
# made before, and the last one does what is left, whatever became of the two.
RUNS_AFTER_OTHERS := run_from_clipcap run_from_siglip run_flux_from_clipcap run_200 run_600 run_1500
repro: export PATH := $(CURDIR)/$(BIN):$(PATH)
repro: export OMP_NUM_THREADS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$(((cores + 1) / 2)))
repro: install  ## every table of the paper on the mini world, with DVC: what is stale is run
	dvc repro pairing run_first
	dvc repro --single-item run & dvc repro --single-item $(RUNS_AFTER_OTHERS) & wait
	dvc repro

weights: install  ## retrain the mini models that ship in the package (hours on a CPU)
	$(BIN)/kedro run --env=pretraining --pipeline=pretraining

ui: install  ## look at the runs in a browser: http://127.0.0.1:5000
	$(BIN)/mlflow ui --host 127.0.0.1 --port 5000 --workers 1 \
		--backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db}"

clean:  ## remove the environment and all caches; data, weights and runs stay
	rm -rf $(VENV) .tools .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	find src tests -type d -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED): requirements.lock pyproject.toml | $(UV)
	@python="$(find_python)"; \
	if [ -z "$$python" ]; then echo "This project needs Python 3.11: no python3.11 on the PATH." >&2; exit 1; fi; \
	if [ ! -x $(BIN)/python ]; then $(UV) venv --quiet --python "$$python" $(VENV); fi
	$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

.tools/uv/bin/uv:
	@python="$(find_python)"; \
	if [ -z "$$python" ]; then echo "This project needs Python 3.11: no python3.11 on the PATH." >&2; exit 1; fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "Python's venv module is not installed. On Debian and Ubuntu: apt install python3.11-venv" >&2; exit 1; fi; \
	"$$python" -m venv .tools/uv
	.tools/uv/bin/pip install --quiet --disable-pip-version-check uv
