# The way in: `make demo`, then `make test`. Needs Python 3.11 or newer, pip, venv; everything else is installed here.
# Stamp files stand inside the environments, so that pip runs again only when a requirements file changes.

PYTHON ?= python3
PROMPT ?= a red cube on top of a blue sphere
PYTEST_ARGS ?=
# auto: the Blender tests are skipped, with the reason, where Blender cannot be installed; required: then they fail.
BLENDER ?= auto

PY := .venv/bin/python
PIP_INSTALL := -m pip install --disable-pip-version-check --quiet
CPU := .venv/cpu.stamp
DEV := .venv/dev.stamp
BENCHES := $(filter-out __init__ quality pictures,$(basename $(notdir $(wildcard tests/bench/*.py))))

.PHONY: help demo doctor test test-blender check format bench bench-quality clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(CPU)  ## generate PROMPT with the bundled starter models into out/demo
	$(PY) -m backend generate "$(PROMPT)" --out out/demo

doctor: $(CPU)  ## say what is installed, what is missing, and what to do about it
	$(PY) -m backend doctor

test: $(DEV)  ## install what the tests need, then run them (PYTEST_ARGS="-k mesh" picks some)
	@BLENDER="$(BLENDER)" PYTHON="$(PYTHON)" bash scripts/run_tests.sh $(PYTEST_ARGS)

test-blender: $(DEV)  ## the tests inside Blender 4.2, 4.5 and 5.0 (three downloads of 370 MB the first time)
	@status=0; for version in 4.2 4.5 5.0; do \
		why=$$(PYTHON="$(PYTHON)" bash scripts/install_blender.sh $$version) || { echo "Blender $$version: $$why"; status=1; continue; }; \
		echo "Inside Blender $$version:"; \
		.venv-bpy$$(echo $$version | tr -d .)/bin/python tests/blender/run.py $(PYTEST_ARGS) || status=1; \
	done; exit $$status

check: $(DEV)  ## lint, format and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(DEV)  ## mend what ruff can mend
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(DEV)  ## print the speed tables
	@for name in $(BENCHES); do $(PY) -m tests.bench.$$name || exit 1; done

bench-quality: $(DEV)  ## print the quality table of twelve generated scenes (about 20 minutes)
	$(PY) -m tests.bench.quality

clean:  ## remove the environments, caches and results
	rm -rf .venv .venv-bpy42 .venv-bpy45 .venv-bpy50 node_modules out .pytest_cache .mypy_cache .ruff_cache

$(PY):
	@$(PYTHON) -c "import sys; sys.version_info < (3, 11) and sys.exit('Python 3.11 or newer is needed: make PYTHON=python3.11 ...')"
	$(PYTHON) -m venv .venv

$(CPU): requirements/cpu.txt | $(PY)
	@echo "Installing the backend's requirements into .venv (once; minutes, depending on the network)"
	$(PY) $(PIP_INSTALL) -r requirements/cpu.txt
	@touch $@

$(DEV): requirements/dev.txt $(CPU)
	$(PY) $(PIP_INSTALL) -r requirements/dev.txt
	@touch $@
