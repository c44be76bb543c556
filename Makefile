# Everything runs in .venv, made on first use and again when pyproject.toml changes.
# Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
DEMO := runs/digits

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench

help:  ## show these lines
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

demo: $(READY)  ## train on handwritten digits, encode, decode, sample, analyse (about 6 minutes)
	$(BIN)/gdm-repr train --config configs/digits.yaml --out $(DEMO) --resume
	$(BIN)/gdm-repr encode --checkpoint $(DEMO)/model.safetensors --data digits --out $(DEMO)/latents
	$(BIN)/gdm-repr decode --checkpoint $(DEMO)/model.safetensors --latents $(DEMO)/latents --out $(DEMO)/decoded
	$(BIN)/gdm-repr sample --checkpoint $(DEMO)/model.safetensors --n 64 --seed 0 --out $(DEMO)/drawn
	$(BIN)/gdm-repr analyse all --config configs/digits-analysis.yaml --checkpoint $(DEMO)/model.safetensors --latents $(DEMO)/latents --out $(DEMO)/analysis
	@echo
	@echo "model      $(DEMO)/model.safetensors"
	@echo "latents    $(DEMO)/latents   (Parquet; gdm_repr.latents.open_store reads it)"
	@echo "decoded    $(DEMO)/decoded"
	@echo "sheets     $(DEMO)/latents/reconstructions.png, $(DEMO)/decoded/sheet.png, $(DEMO)/drawn/sheet.png"
	@echo "runs       $(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db"
	@echo "report     $(DEMO)/analysis/index.html"

test: $(READY)  ## run the tests and the doctests
	$(BIN)/python -m pytest

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

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
