# The two commands of the README are `make demo` and `make test`; each does all its own set-up.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PYTHONS := python3.11 python3.12 python3.13

.PHONY: demo test test-all test-vm soak fuzz lint bench venv peers clean

demo: venv       ## the whole path, from a Dockerfile to curl
	scripts/apt-need demo
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -I examples/demo/demo.py

test: lint peers ## lint, types, import contracts, and every test on the real kernel
	$(BIN)/python -m pytest $(TESTS)

test-all:        ## make test with each Python that is here (PYTHONS="python3.12 ..."), in an environment for each
	set -e; for python in $(PYTHONS); do \
	  command -v $$python > /dev/null || { echo "test-all: no $$python here"; continue; }; \
	  $(MAKE) test PYTHON=$$python VENV=.venv-$$python; \
	done

test-vm: venv    ## the runtime in a virtual machine: cgroup v2 alone, an older kernel (CGROUPS=v1 or hybrid; TESTS=...)
	scripts/apt-need vm
	$(BIN)/python tests/vm/machine.py --cgroups $(or $(CGROUPS),v2) $(TESTS)

soak: venv       ## faults, at length: commands killed at many random moments (SOAK=40 each, SEED=any)
	scripts/apt-need test
	VELOCI_SOAK=$(or $(SOAK),40) VELOCI_SEED=$(or $(SEED),$(shell date +%s)) \
	  $(BIN)/python -m pytest --timeout 3600 tests/faults

fuzz: venv       ## every parser, guided by coverage, for TIME=60 seconds each (TARGETS="tar stream")
	$(BIN)/python -m pip install --quiet --group fuzz
	$(BIN)/python tests/fuzz/at_length.py $(or $(TIME),60) $(TARGETS)

lint: venv       ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: venv peers ## veloci beside its peers, medians and ratios of one run
	scripts/apt-need bench
	$(BIN)/python bench/run.py
	$(BIN)/python bench/runtime.py
	$(BIN)/python bench/build.py
	$(BIN)/python bench/images.py
	$(BIN)/python bench/scale.py

peers: venv      ## the Debian packages that the tests use
	scripts/apt-need test

venv: $(VENV)/.done
$(VENV)/.done: pyproject.toml scripts/apt-need
	scripts/apt-need venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip >=25.1'
	$(BIN)/python -m pip install --quiet --editable . --group dev
	$(BIN)/python -m compileall -q src
	touch $@

clean:
	rm -rf $(VENV) .demo .fuzz .vm .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
