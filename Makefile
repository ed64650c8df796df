# bonepipe: `make help` lists the targets.
DATA       ?= data/phantom
EXPERIMENT ?= demo
EXECUTOR   ?= local
ARGS       ?=

SHELL       := bash
.SHELLFLAGS := -f +B -c  # settings hold brackets and braces, which are no patterns
PYTHON      := .venv/bin/python
BONEPIPE    := .venv/bin/bonepipe

# Of a misspelt variable make would say nothing, and work on the demo's results.
KNOWN := DATA EXPERIMENT EXECUTOR ARGS QUICK PYTHON BONEPIPE
$(foreach name,$(filter-out $(KNOWN),$(.VARIABLES)),$(if $(findstring command line,$(origin $(name))),$(error \
    $(name): no variable of this Makefile (DATA, EXPERIMENT, EXECUTOR, ARGS); settings go into ARGS: make submit ARGS='key=value')))

ifeq ($(and $(strip $(DATA)),$(strip $(EXPERIMENT)),$(strip $(EXECUTOR))),)
$(error DATA, EXPERIMENT or EXECUTOR is empty; leave it out for its default, or name one: make submit EXPERIMENT=demo)
endif
# A value as it is, for Hydra (in double quotes) and for the shell (in single ones).
quoted    = '$(subst ','\'',"$(subst ",\",$(1))")'
SETTINGS  = experiment=$(call quoted,$(EXPERIMENT)) data.root=$(call quoted,$(DATA)) executor=$(EXECUTOR) $(ARGS)
# The phantom is made on demand; any other dataset must be there.
same      = $(and $(findstring $(1),$(2)),$(findstring $(2),$(1)))
DATASET  := $(if $(strip $(foreach path,data/phantom ./data/phantom,$(call same,$(DATA:/=),$(path)))\
              $(call same,$(DATA:/=),$(CURDIR)/data/phantom)),data/phantom)

# What measures the recipe does so on the phantom: a dataset that is named would be passed over without a word.
ifneq ($(filter study gains,$(MAKECMDGOALS)),)
$(foreach name,DATA EXPERIMENT EXECUTOR,$(if $(filter command line,$(origin $(name))),$(error \
    $(name): study and gains measure on the phantom; write rows of your own for `bonepipe ablation FILE`)))
endif

# Images of containers forbid Python its cache of byte code, and then every command compiles PyTorch anew (10 s).
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup test lint bench torture versus study gains docs data doctor folds all-folds submit lock fuzz eda report view clean FORCE

help: ## Show this list
	@echo "bonepipe: from hand radiographs to a scored submission"
	@echo
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo
	@echo "  DATA=path        the dataset            ($(DATA))"
	@echo "  EXPERIMENT=name  of conf/experiment/    ($(EXPERIMENT))"
	@echo "  EXECUTOR=name    local or ray           ($(EXECUTOR))"
	@echo "  ARGS='key=value' further overrides, see .venv/bin/bonepipe train --help"

setup: .venv/.ready ## Make .venv and install the locked packages

.venv/.ready: pyproject.toml requirements.lock
	@command -v python3 >/dev/null || { echo "make: needs python3 (3.11 to 3.13) on the PATH" >&2; exit 1; }
	@test -x .venv/bin/python || python3 -m venv .venv
	@test -x .venv/bin/uv || .venv/bin/python -m pip install -qq --disable-pip-version-check uv
	@echo "make: installing the locked packages into .venv, 5.6 GB on the disk (PyTorch and its CUDA libraries)" >&2
	@test -t 2 || quiet=--quiet; \
		VIRTUAL_ENV=.venv .venv/bin/uv pip install $$quiet --requirement requirements.lock
	@VIRTUAL_ENV=.venv .venv/bin/uv pip install --quiet --no-deps --editable .
	@touch $@

lock: .venv/.ready ## Resolve the newest allowed packages into requirements.lock
	.venv/bin/uv pip compile pyproject.toml --quiet --all-extras --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-emit-index-url --custom-compile-command "make lock" --output-file requirements.lock

test: .venv/.ready ## Check style and types, then run all tests
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n auto --dist loadfile --no-loadscope-reorder

lint: .venv/.ready ## Format the code, mend what can be mended, check types
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .
	.venv/bin/mypy

fuzz: .venv/.ready ## Hostile files on every reader, figures into docs/reliability.md (10 minutes; ARGS='--seconds 60')
	$(PYTHON) -m tests.fuzz $(ARGS)

bench: .venv/.ready ## Measure every step against the baseline's way (QUICK=1: under a minute, no table written)
	$(PYTHON) -m tests.benchmarks $(if $(QUICK),--quick)

torture: .venv/.ready ## Disturb every command that writes, and compare what it leaves; into docs/reliability.md (hours)
	$(PYTHON) -m tests.torture $(ARGS)

versus: .venv/.ready ## Test Dice of the default recipe beside a short script's, into docs/accuracy.md (hours)
	$(PYTHON) -m tests.benchmarks.accuracy $(ARGS)

study: | .venv/.ready data/phantom ## What does each technique gain on the phantom? One change at a time, into docs/study.md
	$(BONEPIPE) ablation techniques --document docs/study.md $(ARGS)

gains: | .venv/.ready data/phantom ## From one model to the submission on the phantom: what each step gains and costs, into docs/gains.md
	$(BONEPIPE) ablation steps --document docs/gains.md $(ARGS)

docs: .venv/.ready ## Write docs/options.md and docs/models.md anew
	$(BONEPIPE) options --document docs/options.md
	$(BONEPIPE) options --costs --document docs/models.md

data: | .venv/.ready $(DATASET) ## Make the phantom dataset (unless DATA names another)
	@$(if $(filter data,$(MAKECMDGOALS)),echo "make: the dataset is there; make eda shows it and make doctor audits it",:)

data/phantom: | .venv/.ready
	$(BONEPIPE) phantom $@ --patients 50 --test-patients 24 --size 1024 --seed 0

doctor: | data ## Audit the dataset: every problem named with its file
	$(BONEPIPE) doctor $(SETTINGS)

eda: | data ## Look at the dataset: classes, sizes, what resolution costs, train against test, as one page
	$(BONEPIPE) eda $(SETTINGS)

folds: | data ## Write the fold file, or verify it against the data
	$(BONEPIPE) split $(SETTINGS)

fold-%: FORCE | data ## Train one fold: fold-0, fold-1, ...
	$(BONEPIPE) train fold=$* $(SETTINGS)

all-folds: | data ## Train every fold, then find the thresholds
	$(BONEPIPE) train-all $(SETTINGS)

submit: | data ## Train what is missing, predict the test images, write and score submission.csv
	$(BONEPIPE) submit $(SETTINGS)

report: | .venv/.ready ## An experiment as one page: runs/EXPERIMENT/report.html
	$(BONEPIPE) report $(SETTINGS)

view: | data ## Browse images, annotations and predictions in the browser; accept or reject label errors
	$(BONEPIPE) view $(SETTINGS)

clean: | .venv/.ready ## Delete the results that `make submit` with the same words makes; data, folds and .venv stay
	$(BONEPIPE) clean $(SETTINGS)
