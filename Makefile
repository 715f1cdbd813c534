# Every target needs Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: grpo vsi sparkle report paper reproduce-embedded test test-fast lint clean

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
	$(BIN)/python model/reproduce_sat.py --ablations all

test: lint
	$(BIN)/pytest -n logical --dist loadfile --no-loadscope-reorder

# Everything that takes seconds: for use while editing, and before every commit.
test-fast: $(VENV)/.installed-test
	$(BIN)/pytest -n logical --dist loadfile --no-loadscope-reorder -m "not slow"

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/mypy

# Installed once: each mark is newer than what it was made from, so a second `make` installs nothing.
$(VENV)/.installed: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -r requirements.txt
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed requirements-test.txt
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -r requirements-test.txt
	$(BIN)/python -m pip install --quiet --no-deps lmms-eval==0.7.3
	touch $@

clean:
	rm -rf $(VENV) results .pretrain
