# Needs Python 3.11 or newer and make; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test fuzz bench lint doctest oracle-test examples clean

help:
	@echo "make demo      train a character model on Shakespeare (about three minutes), write runs/demo"
	@echo "make test      run the tests"
	@echo "make fuzz      draw programs, files, weights and models for a minute (SECONDS=, SEED=)"
	@echo "make bench     compare with other libraries (a quarter of an hour), write benchmarks/results and the README's figures"
	@echo "make lint      ruff and pyright"
	@echo "make doctest   run the examples in the docstrings"
	@echo "make oracle-test  compare with PyTorch, Keras, Haiku and Equinox (installs them)"
	@echo "make examples  every example for a few steps"

# One stamp per set of extras: set up once, again when pyproject.toml changes.
$(BIN)/python:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "jaxrnn needs Python 3.11 or newer; set PYTHON=..."; exit 2; }
	$(PYTHON) -m venv .venv

.venv/.installed-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$*]"
	@touch $@

# Without its dependencies: only the weights in it are read, and TensorFlow would be gigabytes.
.venv/.textgenrnn: | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps textgenrnn==2.0.0
	@touch $@

demo: .venv/.installed-examples
	$(BIN)/python examples/char_lm.py --out runs/demo --resume

test: .venv/.installed-examples .venv/.installed-test .venv/.textgenrnn
	$(BIN)/python -m pytest -n auto --dist worksteal --durations=10

SECONDS ?= 60
fuzz: .venv/.installed-examples .venv/.installed-test
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python .ci/check_types.py

doctest: .venv/.installed-test
	$(BIN)/python -m pytest -n auto --doctest-modules jaxrnn

# What `make test` leaves out where these are not installed, and no more. A pinned version of torch: an
# open one would bring gigabytes.
ORACLES := $(addprefix tests/,oracles/test_torch.py oracles/test_keras.py benchmarks/test_readme.py \
	$(patsubst %,convert/test_%.py,equinox haiku keras keras_2 keras_mistakes onnx_files torch))
oracle-test: .venv/.installed-test .venv/.installed-bench
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pytest -n auto --dist worksteal $(ORACLES)

bench: .venv/.installed-bench
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.readme

examples: .venv/.installed-examples .venv/.textgenrnn
	rm -rf runs/smoke
	$(BIN)/python examples/quickstart.py
	$(BIN)/python examples/char_lm.py --cell GRU --hidden 32 --steps 20 --out runs/smoke/char_lm
	$(BIN)/python examples/sample.py runs/smoke/char_lm/weights.safetensors --length 80 --export runs/smoke/step.jax
	$(BIN)/python examples/g2p.py --finetune --steps 5 --out runs/smoke/g2p.safetensors
	$(BIN)/python examples/g2p.py hello world --beam 3 --weights runs/smoke/g2p.safetensors
	$(BIN)/python examples/sentiment.py --reviews 800 --out runs/smoke/sentiment
	$(BIN)/python examples/sentiment.py --text "A waste of time." --out runs/smoke/sentiment
	$(BIN)/python examples/names.py --most 1000 --hidden 16 --epochs 1 --out runs/smoke/names
	$(BIN)/python examples/names.py --country Finland --count 3 --out runs/smoke/names
	$(BIN)/python examples/names.py --names Kowalska Virtanen --out runs/smoke/names
	$(BIN)/python examples/tagging.py --passages 100 --hidden 16 --epochs 1 --out runs/smoke/tagging
	$(BIN)/python examples/tagging.py --text "where are you going he asked" --out runs/smoke/tagging
	$(BIN)/python examples/textgenrnn_import.py --samples 3 --length 80
	$(BIN)/python examples/forecasting.py --steps 5 --limit 20 --members 2 --out runs/smoke/forecasting
	seq 1 60 > runs/smoke/months.txt
	$(BIN)/python examples/forecasting.py --forecast runs/smoke/months.txt --out runs/smoke/forecasting
	$(BIN)/python examples/translation.py --steps 3 --hidden 16 --held-out 50 --beam 2 --out runs/smoke/translation
	$(BIN)/python examples/translation.py --translate "Fear not, for I am with thee." --out runs/smoke/translation
	$(BIN)/python examples/next_word.py --hidden 16 --steps 5 --vocabulary 500 --limit 3000 --out runs/smoke/next_word
	$(BIN)/python examples/next_word.py --complete "to be, or not" --out runs/smoke/next_word
	$(BIN)/python examples/captioning.py --steps 3 --pictures 100 --asked 50 --out runs/smoke/captioning
	$(BIN)/python examples/captioning.py --describe 2 --out runs/smoke/captioning
	$(BIN)/python examples/char_cells.py --hidden 8 --updates 2 --every 2 --seconds 0.1 --out runs/smoke/char_cells
	$(BIN)/python examples/char_cells.py --write GRU --out runs/smoke/char_cells
	$(BIN)/python examples/irnn.py --hidden 8 --steps 2 --rates 1e-3 --out runs/smoke/irnn
	$(BIN)/python examples/irnn.py --read 3 --out runs/smoke/irnn
	$(BIN)/python examples/video_prediction.py --hidden 4 --steps 2 --asked 4 --out runs/smoke/video_prediction
	$(BIN)/python examples/video_prediction.py --watch 2 --out runs/smoke/video_prediction
	$(BIN)/python examples/truncation_bias.py --length 20 --windows 10 --steps 400 --out runs/smoke/truncation_bias
	$(BIN)/python examples/exploding_gradients.py --length 20 --updates 20 --seeds 3 --out runs/smoke/exploding_gradients
	$(BIN)/python examples/recurrent_ppo.py --corridor 3 --seeds 1 --updates 10 --out runs/smoke/recurrent_ppo
	PYTHONPATH=examples $(BIN)/python -m benchmarks.ppo_throughput --hidden 16 --horizon 16 --rounds 1

clean:
	rm -rf .venv runs .jax_cache
