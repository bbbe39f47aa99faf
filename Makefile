# Every target sets up .venv; the stamp file limits that to once per change of pyproject.toml.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready
DOCS_READY := .venv/.ready-docs
MIN := .venv-min
MOBILE := .venv-mobile
PARITY := .venv-parity
SITE := docs/_build/html

.PHONY: quickstart test test-slow test-mobile test-parity test-min gpu-check docs check fix

quickstart: $(READY)
	$(BIN)/python cli.py fit --config configs/quickstart.yaml

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not gpu"

test-slow: $(READY) $(DOCS_READY)
	$(BIN)/python -m pytest -m "slow and not mobile and not parity"

# the libraries of phones in a separate environment (several GB), since LiteRT's want older releases of others
test-mobile:
	test -x $(MOBILE)/bin/python || $(PYTHON) -m venv $(MOBILE)
	$(MOBILE)/bin/python -m pip install --quiet -e ".[executorch,coreml,litert]" "pytest>=8.3" "pytest-timeout>=2.3"
	OMP_NUM_THREADS=1 $(MOBILE)/bin/python -m pytest -m "mobile" tests/export/test_export_mobile.py

# other implementations of the models, in a separate environment: with transformers, each command starts a second later
test-parity:
	test -x $(PARITY)/bin/python || $(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/python -m pip install --quiet -e ".[parity]" "pytest>=8.3" "pytest-timeout>=2.3"
	$(PARITY)/bin/python -m pytest -m "parity" tests/models

# the oldest releases that pyproject.toml allows, in a separate environment (several GB)
test-min: $(READY)
	$(BIN)/python scripts/minimum_versions.py $(MIN)
	OMP_NUM_THREADS=1 $(MIN)/bin/python -m pytest -n 2 --dist worksteal -m "not slow and not gpu"

# what waits for a GPU, in eight minutes on one: tests, kernels, benchmark and fit; the tables are in gpu_check/
gpu-check: $(READY)
	$(BIN)/python scripts/gpu_check.py

docs: $(DOCS_READY)
	$(BIN)/python -m sphinx -W --keep-going -b html docs $(SITE)
	@echo "The site: $(SITE)/index.html"

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -e ".[test]"
	touch $(READY)

$(DOCS_READY): $(READY)
	$(BIN)/python -m pip install --quiet -e ".[docs]"
	touch $(DOCS_READY)
