# make demo and make test each set up all they need, in .venv.
# A machine without a GPU saves 3 GB of CUDA: make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
TORCH_INDEX ?=
INDEX = $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
BIN = .venv/bin

.PHONY: demo test check bench

demo: .venv/core
	$(BIN)/python -m divaug.recipes.digits_lt --output-dir runs/demo

test: .venv/dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/python -m pytest -q tests/test_architecture.py

bench: .venv/core
	$(BIN)/python benchmarks/step_overhead.py

.venv/pip:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

# --no-compile: Python compiles what is used when it is used; compiling all of it takes a minute.
.venv/core: .venv/pip pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --no-compile $(INDEX) -c constraints.txt -e .
	touch $@

.venv/dev: .venv/pip pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --no-compile $(INDEX) -c constraints.txt -e '.[dev]'
	touch $@ .venv/core
