# Needs Python 3.11 or newer and make; everything else goes into .venv.
PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
EXE := .exe
else
BIN := .venv/bin
endif

.PHONY: help demo test fuzz bench bench-gpu docs dist oldest lint doctest oracle-test aot-test examples-test examples clean

help:
	@echo "make demo      train a character model on Shakespeare (about three minutes), write runs/demo"
	@echo "make test      run the tests of the library"
	@echo "make fuzz      draw programs, files, weights and models for a minute (SECONDS=, SEED=)"
	@echo "make bench     compare with other libraries (half an hour), write benchmarks/results, the README's figures and docs/performance.md"
	@echo "make bench-gpu jaxrnn's methods beside lax.scan, cuDNN and PyTorch on the GPU or TPU that JAX sees"
	@echo "make lint      ruff and pyright"
	@echo "make docs      build the site, docs/_build/html/index.html"
	@echo "make dist      build wheel and source, and install each in an empty environment"
	@echo "make doctest   run the examples in the docstrings and on the pages"
	@echo "make oracle-test  compare with PyTorch, Keras, Haiku, Equinox and lyapax (installs them)"
	@echo "make aot-test  compile for an H100 and a TPU v5e, which need not be here, and count (installs their compilers)"
	@echo "make examples  run the tests of examples and benchmarks, then every example for a few steps and every part of the benchmarks"

# One stamp per set of extras: set up once, again when pyproject.toml changes.
$(BIN)/python$(EXE):
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "jaxrnn needs Python 3.11 or newer; set PYTHON=..."; exit 2; }
	$(PYTHON) -m venv .venv

.venv/.installed-%: pyproject.toml | $(BIN)/python$(EXE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$*]"
	@touch $@

# Without its dependencies: only the weights in it are read, and TensorFlow would be gigabytes.
.venv/.textgenrnn: | $(BIN)/python$(EXE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps textgenrnn==2.0.0
	@touch $@

demo: .venv/.installed-examples
	$(BIN)/python examples/char_lm.py --out runs/demo --resume

test: .venv/.installed-examples .venv/.installed-test
	$(BIN)/python -m pytest -n auto --dist worksteal --durations=10 --ignore=tests/examples --ignore=tests/benchmarks

SECONDS ?= 60
fuzz: .venv/.installed-examples .venv/.installed-test
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python .ci/check_types.py

docs: .venv/.installed-docs
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html

doctest: .venv/.installed-examples .venv/.installed-test
	$(BIN)/python -m pytest -n auto --doctest-modules jaxrnn tests/docs/blocks.py

# What `make test` leaves out where these are not installed, and no more. A pinned version of torch: an
# open one would bring gigabytes.
ORACLES := $(addprefix tests/,$(patsubst %,oracles/test_%.py,keras lyapax st_lstm torch) docs/test_coming_from.py \
	$(patsubst %,convert/test_%.py,equinox haiku keras keras_2 keras_convolutions keras_mistakes onnx_files \
	torch torch_convolutions))
oracle-test: .venv/.installed-test .venv/.installed-bench
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 lyapax==0.3.0
	$(BIN)/python -m pytest -n auto --dist worksteal $(ORACLES)

bench: .venv/.installed-bench
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.readme

# On a machine with a GPU or TPU, whose JAX is already in .venv.
bench-gpu: .venv/.installed-bench
	$(BIN)/python -m benchmarks.accelerator

# An environment of its own: wheels of a gigabyte and more, of one version.
.venv-aot/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-aot
	.venv-aot/bin/python -m pip install --quiet --disable-pip-version-check -e ".[ahead]"
	@touch $@

OUT ?= benchmarks/results
LIMIT ?= 3600
aot-test: .venv-aot/.installed
	.venv-aot/bin/python -m benchmarks.ahead --out $(OUT) --limit $(LIMIT)
	.venv-aot/bin/python -m benchmarks.ahead.readme

examples-test: .venv/.installed-examples .venv/.installed-test .venv/.textgenrnn
	$(BIN)/python -m pytest -n auto --dist worksteal tests/examples tests/benchmarks

examples: examples-test
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
	$(BIN)/python examples/elman_jordan.py --hidden 4 --length 8 --updates 5 --seeds 2 --out runs/smoke/elman_jordan
	$(BIN)/python examples/iterated_maps.py --updates 20 --grid 20 --steps 200 --out runs/smoke/iterated_maps
	$(BIN)/python examples/gradient_flow.py --hidden 8 --length 10 --steps 4 --every 2 --out runs/smoke/gradient_flow
	$(BIN)/python examples/flip_flop.py --hidden 8 --steps 100 --starts 40 --out runs/smoke/flip_flop
	$(BIN)/python examples/video_prediction.py --hidden 4 --steps 2 --asked 4 --out runs/smoke/video_prediction
	$(BIN)/python examples/video_prediction.py --watch 2 --out runs/smoke/video_prediction
	$(BIN)/python examples/truncation_bias.py --length 20 --windows 10 --steps 400 --out runs/smoke/truncation_bias
	$(BIN)/python examples/exploding_gradients.py --length 20 --updates 20 --seeds 3 --out runs/smoke/exploding_gradients
	$(BIN)/python examples/recurrent_ppo.py --corridor 3 --seeds 1 --updates 10 --out runs/smoke/recurrent_ppo
	PYTHONPATH=examples $(BIN)/python -m benchmarks.ppo_throughput --hidden 16 --horizon 16 --rounds 1
	$(BIN)/python -m pytest tests/benchmarks/every_part.py

# Wheel and source, each installed in an empty environment, where it counts one sequence.
dist: | $(BIN)/python$(EXE)
	rm -rf dist
	$(BIN)/python -m pip install --quiet --disable-pip-version-check build==1.6.1
	$(BIN)/python -m build --outdir dist > /dev/null
	for file in dist/*; do \
		rm -rf dist/.try && $(PYTHON) -m venv dist/.try && \
		dist/.try/bin/python -m pip install --quiet --disable-pip-version-check $$file && \
		(cd dist && .try/bin/python ../.ci/installed.py) || exit 1; \
	done
	rm -rf dist/.try

# The oldest supported versions, in .venv; `make test` then runs with them.
oldest: .venv/.installed-examples .venv/.installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$($(BIN)/python .ci/oldest.py)

clean:
	rm -rf .venv .venv-aot runs .jax_cache
