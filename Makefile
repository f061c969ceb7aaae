# Each target first sets up what it needs in a virtual environment, .venv:
#   make train      the main job: train a ViT on pizza, steak and sushi
#   make lab        the notebooks in JupyterLab
#   make test       everything is checked: style, types, tests, and all notebooks executed again
#   make notebooks  execute notebooks and store their outputs; NAMES="05_mlp_block solutions/05_mlp_block" picks some
#   make site       the documentation site, in site/dist
#   make soak       the tests of killed runs and of damaged files, for longer
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: train lab test notebooks site soak setup clean

train: setup
	$(BIN)/python -m going_modular.train

lab: setup
	$(BIN)/jupyter lab notebooks

# Two workers of one thread each. With loadscope a notebook's cells stay in one worker, in their order.
test: .venv/libraries
	$(BIN)/ruff check .
	$(BIN)/mypy going_modular
	VIT_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope \
		--nbval --nbval-current-env notebooks tests

notebooks: setup
	$(BIN)/python -m notebooks.run $(NAMES)

site: .venv/libraries
	$(BIN)/python site/build.py

soak: .venv/libraries
	KILLS=200 FUZZ=20000 $(BIN)/python -m pytest tests/test_kill.py tests/test_fuzz.py

setup: .venv/ready

.venv/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(PIP) -r requirements.txt -e .
	touch $@

.venv/libraries: .venv/ready
	$(PIP) -e ".[libraries,onnx,site,browser]"
	touch $@

clean:
	rm -rf .venv
