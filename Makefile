# Everything runs in .venv, made on first use and again when pyproject.toml changes.
# Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
DEMO := runs/demo
DIGITS := runs/digits

.DEFAULT_GOAL := help
.PHONY: help demo digits test lint e2e fuzz bench

help:  ## show these lines
	@sed -n 's/^\([a-z0-9]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

demo: $(READY)  ## encode held-out scenes with the shipped model and analyse their latents (about 5 minutes)
	$(BIN)/gdm-repr encode --data scenes:0-200 --steps 48 --out $(DEMO)/latents
	$(BIN)/gdm-repr analyse all --config configs/scenes-analysis.yaml --latents $(DEMO)/latents --out $(DEMO)/analysis
	@echo
	@echo "latents    $(DEMO)/latents   (Parquet; gdm_repr.latents.open_store reads it)"
	@echo "sheet      $(DEMO)/latents/reconstructions.png"
	@echo "runs       $(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db"
	@echo "report     $(DEMO)/analysis/index.html"

digits: $(READY)  ## train on handwritten digits, encode, decode, sample, analyse (about 6 minutes)
	$(BIN)/gdm-repr train --config configs/digits.yaml --out $(DIGITS) --resume
	$(BIN)/gdm-repr encode --checkpoint $(DIGITS)/model.safetensors --data digits --out $(DIGITS)/latents
	$(BIN)/gdm-repr decode --checkpoint $(DIGITS)/model.safetensors --latents $(DIGITS)/latents --out $(DIGITS)/decoded
	$(BIN)/gdm-repr sample --checkpoint $(DIGITS)/model.safetensors --n 64 --seed 0 --out $(DIGITS)/drawn
	$(BIN)/gdm-repr analyse all --config configs/digits-analysis.yaml --checkpoint $(DIGITS)/model.safetensors --latents $(DIGITS)/latents --out $(DIGITS)/analysis
	@echo
	@echo "model      $(DIGITS)/model.safetensors"
	@echo "sheets     $(DIGITS)/latents/reconstructions.png, $(DIGITS)/decoded/sheet.png, $(DIGITS)/drawn/sheet.png"
	@echo "report     $(DIGITS)/analysis/index.html"

test: $(READY)  ## run the tests and the doctests
	$(BIN)/python -m pytest --numprocesses auto --durations=15

lint: $(READY)  ## ruff, mypy, which module may import which, and sentences with too many numbers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/python tests/project/sentences.py

e2e: $(READY)  ## drive the running service by a browser and other clients, and load it (about 10 minutes)
	-$(BIN)/python -m pip install --disable-pip-version-check --no-compile --quiet -e '.[dev,e2e]'
	$(BIN)/python -m pytest tests/e2e --capture=no

fuzz: $(READY)  ## feed the loaders many more damaged files than the tests do (about 20 minutes)
	$(BIN)/python -m pytest tests/boundary/test_fuzz.py --hypothesis-profile=long

bench: $(READY)  ## run every benchmark in its quick form
	@set -e; for script in benchmarks/*.py; do \
		echo "== $$script"; $(BIN)/python $$script --quick; \
	done

# The stamp comes last, so that an interrupted install is taken up again. Without --no-compile pip
# compiles all of torch, most of which is never imported; Python compiles what is, on first use.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile --quiet -e '.[dev]'
	@touch $@
