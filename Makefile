# Everything is installed into .venv on first use and reused afterwards.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin

# CPU=1 installs PyTorch without CUDA first, and the rest then finds it there.
TORCH = torch torchvision --index-url https://download.pytorch.org/whl/cpu

# What `short` trains and on how much.
SHORT = --set scenes_train=10 --set scenes_test=4 --set fusion_epochs=1 --set dfh_epochs=1

.PHONY: setup run short test lab docs publish detector weights results bench

setup: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(if $(CPU),$(BIN)/python -m pip install --quiet $(TORCH))
	$(BIN)/python -m pip install --quiet --editable '.[encoder,test]'
	touch $@

run: setup  ## all notebooks on the embedded scenes
	$(BIN)/python -m fusionlib run --profile quick
	$(BIN)/python -m fusionlib report --profile quick
	@echo "Open data/runs/quick/report/index.html in a browser; 'make lab' opens the notebooks."

short: setup  ## a short way through the suite: four notebooks with little training, the viewer and the report
	$(BIN)/python -m fusionlib run --out $(VENV)/short --only 01,02,03,04,09 $(SHORT)
	$(BIN)/python -m fusionlib report --run $(VENV)/short

test: setup  ## all tests in two processes, one of which begins with the notebooks
	$(BIN)/python -m ruff check
	$(BIN)/python -m pytest --nbval --nbval-current-env -n 2

lab: setup  ## JupyterLab on the notebooks
	$(BIN)/python -m jupyter lab notebooks

docs: setup  ## the documentation into site/, with the API from the docstrings
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "Open site/index.html in a browser; for the search, python -m http.server -d site."

publish: setup  ## run the notebooks and commit-ready copies of their outputs
	$(BIN)/python -m fusionlib run --profile quick --publish

detector: setup  ## train the small detector of the quick profile again, about ten minutes
	$(BIN)/python -m fusionlib train-detector

weights: setup  ## train the weights of the package again on the real pairs below DATA, about an hour
	$(BIN)/python -m fusionlib run --profile shipped --data-root $(DATA) --only 01,02,03,04
	cp data/runs/shipped/02_fusion_network/last.safetensors fusionlib/weights/fusion_network.safetensors
	cp data/runs/shipped/04_text_dfh/last.safetensors fusionlib/weights/text_dfh.safetensors

results: setup  ## the profile small on the real pairs below DATA, judged by HELD_OUT too if given, into RESULTS.md
	$(BIN)/python -m fusionlib run --profile small --data-root $(DATA) $(if $(HELD_OUT),--set held_out_detector=$(HELD_OUT))
	$(BIN)/python -m fusionlib results --profile small --out RESULTS.md

bench: setup  ## measure speed, memory and growth on this machine into figures/bench*, about half an hour
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.browser
