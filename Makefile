# Two commands for users, "make demo" and "make test", and three for contributors, "make fast", "make check" and "make docs".
# All need git, make and Python 3.11 to 3.14. They create .venv and are quick the second time: a stamp in .venv is as
# new as pyproject.toml and constraints.txt.

# Another interpreter: make demo PYTHON=/opt/python3.12/bin/python3
PYTHON ?=
# Options of the demo: make demo ARGS="--seed 1"
ARGS ?=

# Processes of the tests, each with one thread: threads of torch that wait for each other doubled the processor time.
N ?= 2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CANDIDATES = $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14)

.PHONY: help demo test check fast docs clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo     install into .venv, then run "avssl demo" (ARGS="--seed 1" passes options to it)'
	@echo 'make test     install the development tools too, then make check and all tests (N=2 processes)'
	@echo 'make fast     the tests of the files that differ from main, for at most a minute'
	@echo 'make check    linter, formatter, type checker and import contracts'
	@echo 'make docs     the site, into site/ (ARGS=serve shows it while you write)'
	@echo 'make clean    remove .venv and caches; keep runs and results'
	@echo 'PYTHON=...    the interpreter for .venv; default: python3, or the newest one that fits'

demo: $(VENV)/.stamp-demo
	$(BIN)/avssl demo $(ARGS)

check: $(VENV)/.stamp-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(N) --dist loadfile

fast: $(VENV)/.stamp-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(N) --dist loadfile --within-seconds 45 $$($(BIN)/python tests/changed.py)

$(VENV)/.stamp-demo: pyproject.toml constraints.txt | $(VENV)/.stamp-venv
	$(PIP) install -c constraints.txt -e '.[codec]'
	@touch $@

docs: $(VENV)/.stamp-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs $(or $(ARGS),build)

# Includes what the demo needs, so its stamp is set too.
$(VENV)/.stamp-test: pyproject.toml constraints.txt | $(VENV)/.stamp-venv
	$(PIP) install -c constraints.txt -e '.[codec,dev]'
	@touch $@ $(VENV)/.stamp-demo

# Debian and Ubuntu ship a python3 whose venv module lacks pip: then the system's pip, if any, puts one there.
$(VENV)/.stamp-venv:
	@python=; for name in $(CANDIDATES); do \
	    if "$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then \
	        python=$$name; break; \
	    fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo 'avssl needs Python 3.11 to 3.14 (torch 2.11 has no build for others). Tried:' >&2; \
	    for name in $(CANDIDATES); do \
	        echo "    $$name: $$("$$name" --version 2>/dev/null || echo not found)" >&2; \
	    done; \
	    echo 'Install one, or name it: make PYTHON=/path/to/python3.12 ...' >&2; exit 1; \
	fi; \
	echo "Making $(VENV) with $$python ($$("$$python" --version))"; \
	"$$python" -m venv $(VENV) >/dev/null 2>&1 || { \
	    "$$python" -m venv --without-pip $(VENV) && "$$python" -m pip --python $(BIN)/python install pip; \
	} || { \
	    echo "$$python cannot make a virtual environment. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; \
	}
	@touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find avssl tests datasets -type d -name __pycache__ -prune -exec rm -rf {} +
