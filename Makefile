# Needs Python 3.11 or newer and make; everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
export DVC_NO_ANALYTICS := 1
export GIT_PYTHON_REFRESH := quiet

# Ray starts no worker from such a path, and says so only after minutes.
ifneq ($(words $(CURDIR)),1)
$(error The path of this checkout has a space ($(CURDIR)), and Ray starts no workers from such a path; move it to a path without)
endif

.DEFAULT_GOAL := help
.PHONY: help setup repro test test-all test-fast lint docs wheel ui clean

help:  ## Show what there is to do
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: .venv/.installed  ## Make .venv with everything pinned (done by repro and test too)

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Python 3.11 or newer is needed, this is {v[0]}.{v[1]}; set PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[pipelines,dev]'
	@touch $@

repro: .venv/.installed .dvc/config  ## Run the whole pipeline; RECIPE=recipes/NAME.yaml chooses other parameters
ifdef RECIPE
	cp $(RECIPE) params.yaml
endif
	@test -e .git || { echo "no git checkout: DVC runs without it, and the commit of the results is unknown"; \
		$(BIN)/dvc config --local core.no_scm true; }
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro

test: .venv/.installed  ## Run the tests, real Ray, MLflow and kills among them
	$(BIN)/python -m pytest -m 'not long'

test-all: test  ## Also the large models, and torch.compile
	$(BIN)/python -m pytest -m long

test-fast: .venv/.installed  ## Run the tests that need no Ray, MLflow or DVC
	$(BIN)/python -m pytest -m 'not slow and not long'

lint: .venv/.installed  ## Check style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: .venv/.installed  ## Build the documentation, strictly, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheel: .venv/.installed  ## Build the wheel, into dist/
	rm -rf build
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	rm -rf build

ui: .venv/.installed  ## Show every run, model and metric in the browser (MLflow, port 5000)
	$(BIN)/mlflow ui --backend-store-uri $${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db} --port 5000

clean:  ## Remove everything that the pipeline made, but not .venv or data/raw
	rm -rf code data/drawn data/prepared models metrics/*.json plots labels report runs mlflow.db mlartifacts .dvc/cache .dvc/tmp
