# Everything is installed into .venv on first use and reused afterwards.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin

# glibc hands memory back at every training step unless told otherwise; this nearly halves CPU training time.
export MALLOC_MMAP_MAX_ = 0
export MALLOC_TRIM_THRESHOLD_ = 17179869184
export MALLOC_TOP_PAD_ = 536870912

.PHONY: setup run test lab publish detector weights bench

setup: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[encoder,test]'
	touch $@

run: setup  ## all notebooks on the embedded scenes
	$(BIN)/python -m fusionlib run --profile quick
	$(BIN)/python -m fusionlib report --profile quick
	@echo "Open data/runs/quick/report/index.html in a browser; 'make lab' opens the notebooks."

test: setup  ## all tests, the notebooks among them
	$(BIN)/python -m ruff check
	$(BIN)/python -m pytest --nbval --nbval-current-env

lab: setup  ## JupyterLab on the notebooks
	$(BIN)/python -m jupyter lab notebooks

publish: setup  ## run the notebooks and commit-ready copies of their outputs
	$(BIN)/python -m fusionlib run --profile quick --publish

detector: setup  ## train the small detector of the quick profile again, about ten minutes
	$(BIN)/python -m fusionlib train-detector

weights: setup  ## train the weights of the package again on the real pairs below DATA, about 90 minutes
	$(BIN)/python -m fusionlib run --profile shipped --data-root $(DATA) --only 01,02,03,04
	cp data/runs/shipped/02_fusion_network/last.safetensors fusionlib/weights/fusion_network.safetensors
	cp data/runs/shipped/04_text_dfh/last.safetensors fusionlib/weights/text_dfh.safetensors

bench: setup  ## measure speed, memory and growth on this machine into figures/bench*, about half an hour
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.browser
