# Everything runs from a bare machine with Python >= 3.11 and make; .venv is made here.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO := demo-report

.PHONY: help demo test check lint docs docs-check slow coverage mutants gpu bench reports e1 e2 e3 e4 e5 e6 clean

help:
	@echo "make demo   a report on the embedded text in two minutes"
	@echo "make test   install what the tests need and run them"
	@echo "make check  format, lint, types, imports, docs, tests"
	@echo "make e1 .. e6  the experiments (finished cells are not trained again)"
	@echo "make coverage | mutants  how much of the code the tests run, and notice"
	@echo "make slow | gpu | bench | docs | clean"

demo: $(VENV)/.installed-report
	@$(BIN)/ngscale collisions --out $(DEMO)
	@echo
	@head -n 1 $(DEMO)/README.md
	@echo "$(CURDIR)/$(DEMO)/report.html"

test: $(VENV)/.installed-dev
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow and not gpu"

check: lint docs-check test

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed-dev
	$(BIN)/python docs/generate_cli.py
	$(BIN)/python docs/generate_api.py

docs-check: $(VENV)/.installed-dev
	$(BIN)/python docs/generate_cli.py --check
	$(BIN)/python docs/generate_api.py --check

slow: $(VENV)/.installed-dev
	$(BIN)/pytest -m "slow"

# An hour: every test with compiled kernels, then those of the kernels with kernels as Python.
coverage: $(VENV)/.installed-dev
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --dist loadfile -m "not slow and not gpu"
	NUMBA_DISABLE_JIT=1 $(BIN)/coverage run -m pytest -n 2 --dist loadfile -p tests.time_limit \
		--hypothesis-profile=brief -m "not slow and not gpu" \
		tests/kernels tests/hashing tests/cache tests/test_cluster.py tests/test_ngrams.py
	$(BIN)/coverage combine
	$(BIN)/coverage report

mutants: $(VENV)/.installed-dev
	$(BIN)/python -m tests.mutation.mutants

gpu: $(VENV)/.installed-dev
	$(BIN)/pytest -m "gpu"
	$(BIN)/python -m benchmarks.gpu_recipe --out gpu-recipe

bench: $(VENV)/.installed-dev
	for script in benchmarks/*.py; do $(BIN)/python -m benchmarks.$$(basename $$script .py) || exit 1; done

reports: $(VENV)/.installed-dev
	$(BIN)/python -m reports.render

e1 e2 e3 e4 e5 e6: $(VENV)/.installed-dev
	$(BIN)/python -m reports.experiments run $@
	$(BIN)/python -m reports.experiments report $@

clean:
	rm -rf $(VENV) $(DEMO) dist

$(VENV)/bin/pip:
	$(PYTHON) -c 'import sys; sys.exit("ngscale needs Python 3.11 or newer; set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-report: $(VENV)/bin/pip pyproject.toml constraints.txt
	$(INSTALL) --editable '.[report]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/bin/pip pyproject.toml constraints.txt
	$(INSTALL) --editable '.[dev]'
	@touch $@
