# Everything happens in .venv. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

# In containers one is root, which Jupyter refuses unless told.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

.DEFAULT_GOAL := help
.PHONY: help setup spark s3 run test lint lab serve bench lock clean

help: ## list the targets
	@grep -E '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-7s %s\n", $$1, $$2}'

setup: $(READY) ## build the environment in .venv (the others do it first)

$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) was not found. Install Python 3.11 or newer (python.org, or your system's packages)."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Ninefold needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V 2>&1 | cut -d' ' -f2). Install a newer one, and name it: make PYTHON=python3.12 setup"; exit 1; }
	@command -v git >/dev/null || { echo "error: git was not found. Install it (git-scm.com, or your system's packages): DVC keeps its versions beside it."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: this Python lacks the module venv. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@git rev-parse --git-dir >/dev/null 2>&1 || git init -q
	@echo "setting up $(VENV) from requirements.lock (about two minutes, once)"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

spark: $(READY) ## add Spark to the environment (400 MB; needs Java 17)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-spark.lock

s3: ## build an environment of its own in .venv-s3 for DVC with S3, which pins other versions
	@test -x $(VENV)-s3/bin/python || $(PYTHON) -m venv $(VENV)-s3
	@$(VENV)-s3/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r deploy/requirements-release.lock

run: $(READY) ## run the pipeline: nine notebooks, nine reports, an index
	@dvc repro
	@ninefold summary

# Threads that wait for others do not spin: beside other processes that halves the time of a fit (measured).
test: $(READY) lint ## lint, check types, run the tests
	@OMP_WAIT_POLICY=PASSIVE python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

lint: $(READY)
	@ruff check .
	@ruff format --check .
	@mypy

lab: $(READY) ## open JupyterLab on the notebooks
	@jupyter lab --ServerApp.root_dir=$(CURDIR) --LabApp.default_url=/lab/tree/notebooks $(AS_ROOT) $(LAB)

serve: $(READY) ## serve the model at http://127.0.0.1:8000
	@ninefold serve

bench: $(READY) ## measure speed; writes the tables in benchmarks/
	@python benchmarks/pipeline.py
	@test ! -f benchmarks/increment.py || python benchmarks/increment.py
	@test ! -f benchmarks/engine.py || python benchmarks/engine.py --sizes 1,10

LOCK := uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links
lock: $(READY) ## pin the newest dependencies with their hashes, without addresses (needs uv)
	@$(LOCK) --extra dev pyproject.toml -o requirements.lock
	@python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["spark"], sep="\n")' | $(LOCK) -c requirements.lock - -o requirements-spark.lock
	@$(LOCK) -c requirements.lock deploy/requirements.in -o requirements-serve.lock
	@sed -n 's/^dvc==\([^ ]*\) .*/dvc[s3]==\1/p' requirements.lock | $(LOCK) - -o deploy/requirements-release.lock

clean: ## remove what the pipeline wrote; sources, DVC's cache and the environment stay
	@rm -rf models
	@find data -mindepth 1 -maxdepth 1 ! -name source -exec rm -rf {} +
	@find reports -mindepth 1 -maxdepth 1 ! -name metrics ! -name plots -exec rm -rf {} +
