# make demo   sets everything up and runs the pipeline on the images in examples/
# make test   sets everything up and passes the tests

VENV   ?= .venv
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# Windows keeps programs elsewhere in an environment, and gives them a suffix.
BIN    := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
EXE    := $(if $(filter Windows_NT,$(OS)),.exe)

.DEFAULT_GOAL := help
.PHONY: help demo test slow oldest install format check docs bench clean

help:  ## List the targets.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(BIN)/.installed  ## Detect, estimate and draw poses on the images in examples/.
	@mkdir -p demo
	$(BIN)/posepipe -v detect examples -o demo/boxes.json
	$(BIN)/posepipe -v pose demo/boxes.json -o demo/kps.json
	@echo "The drawn images:"
	@$(BIN)/posepipe draw demo/kps.json -o demo/drawn
	$(BIN)/posepipe -v run examples/pan.mp4 -o demo/pan.json --track --smooth --detect-every 5 --draw demo/pan.mp4 --ids

test: $(BIN)/.installed-dev  ## Run the tests.
	$(BIN)/python -m pytest

slow: $(BIN)/.installed-dev  ## Run the slow tests, which `make test` leaves out: clusters, training, kills, the docs' examples.
	$(BIN)/python -m pytest -m slow

oldest:  ## Run the tests with the oldest torch that is supported, in an environment of its own.
	PIP_CONSTRAINT=tests/oldest.txt $(MAKE) test VENV=.venv-oldest

install: $(BIN)/.installed-dev  ## Make the environment, with everything a developer needs.

format: $(BIN)/.installed-dev  ## Put the code into its canonical form.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: $(BIN)/.installed-dev  ## Lint, types, layers, links and references of the docs.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

docs: $(BIN)/.installed-dev  ## Build the docs site in build/site.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

bench: $(BIN)/.installed-dev  ## Measure speed, as ratios.
	$(BIN)/python scripts/benchmark.py

clean:  ## Remove everything that was made here, the environment included.
	rm -rf $(VENV) .venv-oldest build dist demo *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The stamps make a second call quick; they are renewed when what is installed changes.
$(BIN)/.installed: setup.cfg pyproject.toml | $(BIN)/python$(EXE)
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(BIN)/.installed-dev: setup.cfg pyproject.toml | $(BIN)/python$(EXE)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(BIN)/.installed

$(BIN)/python$(EXE):
	@test -n "$(PYTHON)" || { echo "posepipe needs Python 3.11 or newer; name one with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
