# Needs Python 3.11 or newer and make; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test bench lint doctest oracle-test examples clean

help:
	@echo "make demo      train a character model on Shakespeare (about three minutes), write runs/demo"
	@echo "make test      run the tests"
	@echo "make bench     compare with other libraries (a quarter of an hour), write benchmarks/results and the README's figures"
	@echo "make lint      ruff and pyright"
	@echo "make doctest   run the examples in the docstrings"
	@echo "make oracle-test  compare with PyTorch and Keras (installs them)"
	@echo "make examples  every example for a few steps"

# One stamp per set of extras: set up once, again when pyproject.toml changes.
$(BIN)/python:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "jaxrnn needs Python 3.11 or newer; set PYTHON=..."; exit 2; }
	$(PYTHON) -m venv .venv

.venv/.installed-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$*]"
	@touch $@

demo: .venv/.installed-examples
	$(BIN)/python examples/char_lm.py --out runs/demo --resume

test: .venv/.installed-examples .venv/.installed-test
	$(BIN)/python -m pytest -n auto

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python .ci/check_types.py

doctest: .venv/.installed-test
	$(BIN)/python -m pytest --doctest-modules jaxrnn

# A pinned version: an open one would bring gigabytes.
oracle-test: .venv/.installed-test .venv/.installed-bench
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pytest -n auto tests/test_torch.py tests/test_convert_torch.py tests/test_keras.py

bench: .venv/.installed-bench
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.readme

examples: .venv/.installed-examples
	rm -rf runs/smoke
	$(BIN)/python examples/char_lm.py --cell GRU --hidden 32 --steps 20 --out runs/smoke/char_lm
	$(BIN)/python examples/sample.py runs/smoke/char_lm/weights.safetensors --length 80
	$(BIN)/python examples/g2p.py --finetune --steps 5 --out runs/smoke/g2p.safetensors
	$(BIN)/python examples/g2p.py hello world --beam 3 --weights runs/smoke/g2p.safetensors

clean:
	rm -rf .venv runs
