# make demo and make test each set up all they need, in .venv.
# A machine without a GPU saves 3 GB of CUDA: make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
TORCH_INDEX ?=
INDEX = $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
BIN = .venv/bin

.PHONY: demo test slow check docs mutants gpu bench

demo: .venv/core
	$(BIN)/python -m divaug.recipes.digits_lt --output-dir runs/demo

test: .venv/dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 -m 'not cuda and not slow'

# What takes minutes: the study's power table again, selections on real data, lost processes and machines.
slow: .venv/dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 -m slow

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/python -m pytest -q tests/test_architecture.py

docs: .venv/docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo build/docs/index.html

# Breaks the wiring one line at a time and sees a test fail: minutes.
mutants: .venv/dev
	$(BIN)/python tests/mutants/run.py

# For whoever has a card: under eight minutes; build/gpu.json has what was measured.
gpu: .venv/dev
	$(BIN)/python benchmarks/gpu.py

# Ratios on this machine's processors, under fifteen minutes: leave it alone meanwhile.
bench: .venv/core
	$(BIN)/python benchmarks/all.py

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

.venv/docs: .venv/pip pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --no-compile $(INDEX) -c constraints.txt -e '.[docs]'
	touch $@ .venv/core
