# Every target sets up .venv by itself; the stamp file makes that happen once per change of pyproject.toml.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready

.PHONY: quickstart test test-slow check fix

quickstart: $(READY)
	$(BIN)/python cli.py fit --config configs/quickstart.yaml

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not gpu"

test-slow: $(READY)
	$(BIN)/python -m pytest -m "slow"

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
