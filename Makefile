# make demo    set up, run the demo on built-in photographs, say where the report is
# make test    set up, lint, type-check, run the tests
# make tests   the tests alone
# make test-fast    the tests that take under a second each; under 90 s on two cores
# make test-long    the longest tests, which `make test` leaves out: more kills, networks, presets and figures
# make test-faults    kill workers, machines and drivers of sweeps at random for minutes (FCDD_FAULT_SEED=N: as before)
# make test-fuzz    thousands of made experiment files, trees, images and command lines (FCDD_FUZZ_SEED=N: others)
# make test-nullcuda    tests of what a GPU is asked to do, on a CUDA device without a GPU; needs gcc and a CUDA build of torch
# make gpu     all that only a GPU can tell: tests, then speed against what the card can do; 12 minutes, no Ray (gpu.json)
# make wheel   this project as dist/fcdd_sweep-VERSION-py3-none-any.whl, which clusters install
# make test-cluster   clusters of two hosts made of network namespaces, and a Slurm job; needs root, see docs/clusters.md
# A torch that already lies in .venv is kept: see "Without a GPU" in the README.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
unexport PYTHONDONTWRITEBYTECODE  # what is imported is compiled once, rather than all that is installed

.PHONY: demo test tests test-fast test-long test-faults test-fuzz test-nullcuda test-cluster gpu lint types setup wheel clean

demo: $(STAMP)
	$(BIN)/python -m fcdd_sweep experiments/demo.yaml
	@echo "next: . $(BIN)/activate && fcdd-sweep experiments/digits.yaml"

test: lint types tests

tests: $(STAMP)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m 'not long and not faults and not fuzz'

test-fast: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not ray and not long and not faults and not fuzz and not slow'

test-long: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'long and not faults and not fuzz'

test-faults: $(STAMP)
	$(BIN)/python -m pytest -s --timeout 0 -m faults

test-fuzz: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist load --timeout 0 -m fuzz

test-nullcuda: $(STAMP)
	$(BIN)/python -m pytest -rs tests/nullcuda

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

gpu:
	$(PYTHON) benchmarks/gpu.py

wheel: $(STAMP)
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

test-cluster: wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .venv/constraints.txt 'ray[default]'
	bash tests/cluster/run.sh $(BIN)/python
	bash tests/cluster/slurm.sh $(BIN)/python

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 4))' || \
		{ echo "fcdd_sweep needs Python 3.11.4 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python .ci/constraints.py > .venv/constraints.txt
	@echo "installing; the first time takes some minutes"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip  # newer ones take two thirds of the time
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c .venv/constraints.txt -e '.[dev]'
	$(BIN)/python -c 'import optuna, sklearn.metrics, torchvision' & \
	$(BIN)/python -c 'import matplotlib.pyplot, pandas, pyarrow.parquet, ray.tune, skimage'; wait
	touch $@

clean:
	rm -rf .venv build dist results predictions .mypy_cache .ruff_cache .pytest_cache
