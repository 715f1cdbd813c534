# `make grpo` and `make test` need Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: grpo vsi sparkle report paper reproduce-embedded test lint clean

grpo: $(VENV)/.installed
	$(BIN)/python model/pali_sat_grpo.py

vsi: $(VENV)/.installed
	$(BIN)/python model/reproduce_vsi.py

sparkle: $(VENV)/.installed
	$(BIN)/python model/reproduce_sparkle.py

report: $(VENV)/.installed
	$(BIN)/python -m spatialvlm.reporting results -o report.html

paper: $(VENV)/.installed
	$(BIN)/python paper/build.py

reproduce-embedded: $(VENV)/.installed
	$(BIN)/python model/reproduce_sat.py --profile embedded

test: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest -n logical --dist loadfile

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

# Installed once: the mark is newer than what is asked for, so a second `make` installs nothing.
$(VENV)/.installed: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -r requirements.txt
	# Scoring code to test against; what it needs to run is far more than what it needs to be read.
	$(BIN)/python -m pip install --quiet --no-deps lmms-eval==0.7.3
	touch $@

clean:
	rm -rf $(VENV) results .pretrain
