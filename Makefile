# Everything happens in .venv. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
PIP := $(VENV)/bin/python -m pip --quiet --disable-pip-version-check
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

# The commit of the engine that a copied project installs; empty where the engine's sources are in src/.
SOURCE := $(shell sed -n 's/^  source: *"\(.*\)".*/\1/p' ninefold.yaml)
COMMIT := $(shell sed -n 's/^  commit: *"\(.*\)".*/\1/p' ninefold.yaml)
ENGINE := $(if $(COMMIT),git+$(SOURCE)@$(COMMIT),.)

# The third-party packages, with hashes; requirements-own.lock holds those that the project adds.
LOCKS := requirements.lock $(wildcard requirements-own.lock)

# uv, in its version of the lock file, fills the environment in a tenth of pip's time. It obeys the indexes of pip's settings.
define WITH_PIP_SETTINGS
import ast, os, subprocess, sys
listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
found = dict(line.split("=", 1) for line in listed.splitlines() if "=" in line)
uv = {"UV_DEFAULT_INDEX": "index-url", "UV_INDEX": "extra-index-url", "UV_FIND_LINKS": "find-links", "SSL_CERT_FILE": "cert",
      "UV_INSECURE_HOST": "trusted-host", "UV_NO_INDEX": "no-index"}
for name, key in uv.items():
    values = [ast.literal_eval(found[f"{of}.{key}"]) for of in (":env:", "install", "global") if f"{of}.{key}" in found]
    if values and values[0] != "false":
        os.environ.setdefault(name, ("," if name == "UV_FIND_LINKS" else " ").join(values[0].split()))
os.environ.setdefault("UV_HTTP_TIMEOUT", "180")
os.execv(sys.argv[1], [*sys.argv[1:], "--python", sys.argv[1].replace("bin/uv", "bin/python")])
endef
export WITH_PIP_SETTINGS
PINNED_UV := awk '/^uv==/ {on = 1} on {print} on && !/\\$$/ {exit}' requirements.lock
FILL := $(VENV)/bin/python -c "$$WITH_PIP_SETTINGS" $(VENV)/bin/uv pip install --quiet --require-hashes --compile-bytecode --index-strategy unsafe-best-match

# In containers one is root, which Jupyter refuses unless told.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

.DEFAULT_GOAL := help
.PHONY: help setup spark run test lint lab serve wheel lock clean

help: ## list the targets
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-7s %s\n", $$1, $$2}'

# What JupyterLab adds to a notebook, and git does not store.
ADDED := $(addprefix metadata.language_info.,codemirror_mode file_extension mimetype nbconvert_exporter pygments_lexer version)

setup: $(READY) ## build the environment in .venv (the others do it first), and let git store notebooks without outputs
	@git config filter.nbstripout.clean '"$(CURDIR)/$(VENV)/bin/python" -m nbstripout --keep-id'
	@git config filter.nbstripout.extrakeys "$(ADDED)"

$(READY): $(LOCKS) pyproject.toml ninefold.yaml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) was not found. Install Python 3.11 or newer (python.org, or your system's packages)."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Ninefold needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V 2>&1 | cut -d' ' -f2). Install a newer one, and name it: make PYTHON=python3.12 setup"; exit 1; }
	@command -v git >/dev/null || { echo "error: git was not found. Install it (git-scm.com, or your system's packages): DVC keeps its versions beside it."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: this Python lacks the module venv. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@git rev-parse --git-dir >/dev/null 2>&1 || git init -q
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
ifneq ($(COMMIT),)
	@git ls-remote --quiet "$(SOURCE)" >$(LOG) 2>&1 || { $(UNREACHABLE); }
endif
	@echo "setting up $(VENV) from requirements.lock (once, a minute or less)"
	@$(PINNED_UV) > $(VENV)/uv.lock
	@test -x $(VENV)/bin/uv || $(PIP) install --require-hashes --no-deps -r $(VENV)/uv.lock >$(LOG) 2>&1 || true
	@for lock in $(LOCKS); do \
	  $(FILL) -r $$lock 2>$(LOG) || { echo "uv cannot ($$(tail -n 1 $(LOG))); pip does, in about three minutes"; \
	    $(PIP) install --require-hashes -r $$lock; } || exit 1; done
ifneq ($(COMMIT),)
	@$(PIP) install --force-reinstall --no-deps --no-build-isolation "$(ENGINE)" >$(LOG) 2>&1 || { $(UNREACHABLE); }
else
	@$(PIP) uninstall --yes ninefold 2>/dev/null
endif
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $(READY)

LOG := $(VENV)/engine.log
define UNREACHABLE
echo "error: ninefold.yaml: the engine could not be installed from $(SOURCE) at commit $(COMMIT):$$(sed -n 's/^ *fatal: / /p' $(LOG) | head -1) (all of it is in $(LOG))."; \
echo "  Where the repository has moved, or this machine sees it elsewhere, change \`source\` in ninefold.yaml; for this once: make setup SOURCE=file:///path/of/a/clone"; \
echo "  Where the template had changes that were not committed when the project was copied, that commit exists nowhere: commit them there, and run \`copier update\` here."; \
exit 1
endef

spark: $(READY) ## add Spark to the environment (400 MB; needs Java 17)
	@$(FILL) -r requirements-spark.lock || $(PIP) install --require-hashes -r requirements-spark.lock

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

lab: setup ## open JupyterLab on the notebooks
	@jupyter lab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks $(AS_ROOT) $(LAB)

serve: $(READY) ## serve the model at http://127.0.0.1:8000
	@ninefold serve

wheel: $(READY) ## build the engine's wheel for the image: deploy/wheels, with its hash
	@rm -rf deploy/wheels
	@$(PIP) wheel --no-deps --no-build-isolation --wheel-dir deploy/wheels "$(ENGINE)" >$(LOG) 2>&1 || { $(UNREACHABLE); }
	@cd deploy/wheels && for wheel in *.whl; do echo "./$$wheel --hash=sha256:$$(python -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' $$wheel)"; done > engine.lock

# Versions with hashes, without addresses.
LOCK := uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links
ifneq ($(wildcard .ci/engine.mk),)
include .ci/engine.mk
else
lock: $(READY) ## pin the packages that pyproject.toml names, with their hashes
	@$(LOCK) -c requirements.lock pyproject.toml -o requirements-own.lock
endif

clean: ## remove what the pipeline wrote; sources, DVC's cache and the environment stay
	@rm -rf models
	@find data -mindepth 1 -maxdepth 1 ! -name source -exec rm -rf {} +
	@find reports -mindepth 1 -maxdepth 1 ! -name metrics ! -name plots -exec rm -rf {} +
