# `make train` does the main job, `make test` checks everything, `make soak` for longer; all first set up a virtual environment in .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test soak setup clean

train: setup
	$(BIN)/python -m going_modular.train

test: .venv/libraries
	$(BIN)/ruff check .
	VIT_OFFLINE=1 $(BIN)/python -m pytest
	VIT_OFFLINE=1 $(BIN)/python -m pytest --nbval --nbval-current-env notebooks

soak: .venv/libraries
	KILLS=200 FUZZ=20000 $(BIN)/python -m pytest tests/test_kill.py tests/test_fuzz.py

setup: .venv/ready

.venv/ready: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/libraries: pyproject.toml .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[libraries]'
	touch $@

clean:
	rm -rf .venv
