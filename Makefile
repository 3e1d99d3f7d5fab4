# Every target sets up its own environment in .venv, once.
#   make repro                     the whole study on the embedded phantom
#   make acdc ACDC=/path/to/acdc   the same on real scans, with the budgets for them
#   make ladder [ACDC=...]         every model there is, compared
#   make refiners [ACDC=...]       every way to refine: each model on the masks of each segmenter
#   make test | lint | ui | bench | clean | help

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
PORT ?= 5000
# Where torch comes from. Some package indices serve it with gigabytes of CUDA libraries: without a
# GPU, name one that has the CPU build, for example make TORCH_INDEX='--index-url ...' repro
TORCH_INDEX ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TORCH := $(shell grep '^torch==' constraints.txt)

# The stages of dvc.yaml call `python`, which must be the one of the environment.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true

# What real data changes: where it is, a split whose test patients no choice was made on, and the
# budgets: up to 25 minutes per model on two cores. Two models are few enough to try the whole bound, too.
ACDC ?=
DENSITIES = density.density.num_components=20 density.density.num_draws=2 \
	density.num_samples=256 density.max_slices=5000 density.surprise.num_hearts=300
REFINERS = refiners.max_patients=null refiners.num_draws=1000 'refiners.num_decodings=[1,32]'
ACDC_DATA = data.name=acdc data.root=$(abspath $(or $(wildcard $(ACDC)/training),$(ACDC))) prepare.seed=5 \
	calibrate.observation.most_voxels=200000
SEGMENTER_PARAMS = train_segmenter.fit.steps=1200 train_segmenter.fit.batch_size=8 \
	train_segmenter.fit.validate_every=300 \
	train_corrector.fit.steps=1200 train_corrector.fit.validate_every=300 train_corrector.max_patients=null
ACDC_PARAMS = $(ACDC_DATA) train.fit.steps=3300 train.fit.validate_every=1100 \
	$(SEGMENTER_PARAMS) evaluate.likelihood.num_draws=100 evaluate.likelihood.num_slices=60 $(DENSITIES) $(REFINERS) \
	++refiners.modes.bound.explanation.mode=optimized '++refiners.with_scan=[bound]'
# Every model: less for each (STEPS=...).
STEPS ?= 800
LADDER_PARAMS = $(ACDC_DATA) train.fit.steps=$(STEPS) train.fit.validate_every=$(shell expr $(STEPS) / 2) \
	$(SEGMENTER_PARAMS) evaluate.reconstruction.num_samples=512 evaluate.likelihood.num_draws=100 \
	evaluate.likelihood.num_slices=30 $(DENSITIES) $(REFINERS)

# Every recipe there is, as an override of configs/recipes.yaml.
EVERY_RECIPE = $(foreach file,$(wildcard configs/models/*.yaml),-S \
	configs/recipes.yaml:++recipes.$(basename $(notdir $(file)))=$(shell sed -n 's/^module: *//p' $(file)))

# Every segmenter there is, likewise: each is trained, applied and calibrated. Whose masks are refined
# is -S configs/recipes.yaml:segmenter=<name>.
COMMA := ,
EVERY_SEGMENTER = -S 'configs/recipes.yaml:segmenters=[$(subst $() $(),$(COMMA),$(sort \
	$(basename $(notdir $(wildcard configs/segmenters/*.yaml)))))]'

.PHONY: help repro acdc ladder refiners test lint ui bench clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps $(TORCH_INDEX) $(TORCH)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

repro: $(INSTALLED) ## run every stage that is not up to date; the result is reports/report.html
	$(BIN)/dvc repro

acdc: $(INSTALLED) ## the same on real scans (ACDC=folder), as an experiment that `dvc exp show` lists
	@test -d "$(ACDC)" || { echo 'acdc: expected the folder of ACDC, got "$(ACDC)": make acdc ACDC=/path/to/acdc' >&2; exit 2; }
	$(BIN)/dvc exp run $(foreach param,$(ACDC_PARAMS),-S configs/params.yaml:$(param))

ladder: $(INSTALLED) ## compare every recipe, on the phantom or with ACDC=folder on real scans (STEPS=800)
	$(BIN)/dvc exp run $(EVERY_RECIPE) \
		$(if $(ACDC),$(foreach param,$(LADDER_PARAMS),-S configs/params.yaml:$(param)))

refiners: $(INSTALLED) ## compare every recipe on every segmenter's masks, likewise (ACDC=folder, STEPS=800)
	$(BIN)/dvc exp run $(EVERY_RECIPE) $(EVERY_SEGMENTER) \
		$(if $(ACDC),$(foreach param,$(LADDER_PARAMS),-S configs/params.yaml:$(param)))

test: $(INSTALLED) ## run the unit suite, then the slow tests; CARDIAC_VAE_ACDC=folder adds real scans
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'not slow' -n auto --dist worksteal
	$(BIN)/pytest -m slow

lint: $(INSTALLED) ## check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

ui: $(INSTALLED) ## compare the runs at http://127.0.0.1:5000 (PORT=...)
	$(BIN)/python -m cardiac_vae.tracking_views $(PORT)
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow server --backend-store-uri sqlite:///mlflow.db \
		--default-artifact-root mlruns --workers 1 --host 127.0.0.1 --port $(PORT)

bench: $(INSTALLED) ## time training, refining and the variational fits on this machine, which should be idle
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.refinement
	$(BIN)/python -m benchmarks.variational

clean: ## remove what the stages made; the environment stays
	rm -rf data/raw data/prepared data/segmented data/refined models segmenters corrector calibration densities reports mlruns mlflow.db
	rm -rf .dvc/cache .dvc/tmp .pytest_cache .mypy_cache .ruff_cache .hypothesis
