# Everything a person does with vmil. `make` alone explains the targets; the first one to need Python sets it up in .venv.

ENV      := $(shell sed -n 's/^  name: //p' conf/default.yaml)
ALGO     := $(shell sed -n 's/^algo: //p' conf/default.yaml)
SEED     := 0
COMPUTE  := auto
ARGS     :=
RUN      := latest
PRETRAINED :=
EPISODES :=
N        :=
COUNT     = $(N)
DEMOS    :=
SRC      :=
OUT      :=
FORMAT   :=
NAME     := figure3
SEEDS    := 0
BUDGET   :=
RUNNER   := local
BATCHES  :=
PYTHON   :=
MINUTES  := 60
WORKERS  := $(shell cores=$$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN); echo $$((cores < 4 ? cores : 4)))

VENV   := .venv
PY     := $(VENV)/bin/python
# The name of the marker is a digest of what was installed, and where: a copied checkout would run the first one's code.
DIGEST := $(shell { cat requirements.lock pyproject.toml; pwd; } | cksum | tr ' ' '-')
READY  := $(VENV)/.installed-$(DIGEST)

given  = $(filter command line,$(origin $1))
# The variables that a target reads are those that its line of help names.
READ   = $(shell awk -F: -v goals=' $(MAKECMDGOALS) ' 'index(goals, " " $$1 " ") { gsub(/[^A-Za-z_]+/, " "); print }' Makefile)
KNOWN  := ENV ALGO SEED COMPUTE ARGS RUN PRETRAINED EPISODES N COUNT DEMOS SRC OUT FORMAT NAME SEEDS BUDGET RUNNER BATCHES PYTHON MINUTES WORKERS
$(foreach name,$(filter-out $(KNOWN) VENV SHELL MAKEFLAGS,$(.VARIABLES)),$(if $(call given,$(name)),$(error unknown variable $(name); known: $(KNOWN))))
ifneq ($(MAKECMDGOALS),)
$(foreach name,$(filter-out $(READ) PYTHON,$(KNOWN)),$(if $(call given,$(name)),$(error `make $(MAKECMDGOALS)` does not use $(name); it uses $(filter $(KNOWN),$(READ) PYTHON))))
endif
# Asked for another Python than the environment's, that is made anew.
OTHER  := $(if $(PYTHON),$(shell [ "$$($(PY) -V 2>&1)" = "$$($(PYTHON) -V 2>&1)" ] || echo yes))

PART   = $(if $(call given,ENV),env='$(ENV)') $(if $(call given,ALGO),algo='$(ALGO)') $(if $(call given,COMPUTE),compute=$(COMPUTE))
IO     = $(if $(FORMAT),format=$(FORMAT)) $(if $(OUT),out='$(OUT)')

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help train resume evaluate ship expert demos import-demos export-demos experiment publish notebooks figures ui bench doctor config smoke test test-slow test-faults soak lint clean
.PHONY: FORCE
unexport PYTHONPATH
unexport ENV

help:  ## explain the targets and their variables
	@echo 'make <target> [VARIABLE=value ...]'
	@echo
	@awk -F':.*## *' '/^[a-z-]+:.*##/ { printf "  %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'ENV=$(ENV) ALGO=$(ALGO) SEED=$(SEED) COMPUTE=$(COMPUTE) RUN=$(RUN) PRETRAINED=$(PRETRAINED) EPISODES=$(EPISODES) N=$(N) COUNT=$(COUNT)'
	@echo 'DEMOS=$(DEMOS) SRC=$(SRC) OUT=$(OUT) FORMAT=$(FORMAT) NAME=$(NAME) SEEDS="$(SEEDS)" BUDGET=$(BUDGET) RUNNER=$(RUNNER) BATCHES=$(BATCHES) MINUTES=$(MINUTES)'
	@echo 'PYTHON=/path/to/python picks the interpreter'
	@echo 'ARGS="…" takes what `make config` prints for train, resume, smoke, bench, experiment, and what `$(PY) -m vmil <target> --help` lists'

train: $(READY)  ## learn from demonstrations: ENV ALGO SEED COMPUTE DEMOS (a directory; else the shipped ones) ARGS
	$(PY) -m vmil train env=$(ENV) algo=$(ALGO) seed=$(SEED) compute=$(COMPUTE) $(if $(DEMOS),demos.path='$(DEMOS)') $(ARGS)

resume: $(READY)  ## go on with a run that was stopped: RUN (a path, a name, latest) COMPUTE ARGS
	$(PY) -m vmil resume run='$(RUN)' $(if $(call given,COMPUTE),compute=$(COMPUTE)) $(ARGS)

evaluate: $(READY)  ## score and film a run, or a policy that came with vmil: RUN or PRETRAINED, EPISODES ARGS="video=walk.mp4"
	$(PY) -m vmil evaluate $(if $(PRETRAINED),pretrained='$(PRETRAINED)') $(if $(or $(call given,RUN),$(if $(PRETRAINED),,yes)),run='$(RUN)') $(if $(EPISODES),episodes=$(EPISODES)) $(ARGS)

ship: $(READY)  ## make a run's policy one that comes with vmil: RUN OUT EPISODES ARGS='note="best of three"'
	$(PY) -m vmil ship run='$(RUN)' $(if $(OUT),out='$(OUT)') $(if $(EPISODES),episodes=$(EPISODES)) $(ARGS)

expert: $(READY)  ## train an expert from state, or measure one that follows a script or plans: ENV SEED OUT ARGS="frames=300000"
	$(PY) -m vmil expert env=$(ENV) seed=$(SEED) $(if $(OUT),out='$(OUT)') $(ARGS)

demos: $(READY)  ## record demonstrations of an expert: ENV SEED N (or COUNT) OUT ARGS="action_noise=0.2"
	$(PY) -m vmil demos env=$(ENV) seed=$(SEED) $(if $(COUNT),count=$(COUNT)) $(if $(OUT),out='$(OUT)') $(ARGS)

experiment: $(READY)  ## a grid of runs, such as figure4 or ablations: NAME ENV ALGO SEEDS (or SEED) BUDGET COMPUTE DEMOS RUNNER ARGS="jobs=2"
	$(PY) -m vmil experiment name=$(NAME) seeds="$(if $(call given,SEED),$(SEED),$(SEEDS))" $(if $(BUDGET),budget=$(BUDGET)) runner=$(RUNNER) $(PART) $(if $(DEMOS),demos.path='$(DEMOS)') $(ARGS)

publish: $(READY)  ## put a run's numbers beside the notebooks: RUN OUT ARGS='note="stopped early"'
	$(PY) -m vmil publish run='$(RUN)' $(if $(OUT),out='$(OUT)') $(ARGS)

notebooks: $(READY)  ## run the notebooks in place: ARGS="source=mlflow"
	$(PY) -m vmil notebooks $(ARGS)

figures: $(READY)  ## draw every figure as PNG and PDF: OUT ARGS
	$(PY) -m vmil figures $(if $(OUT),out='$(OUT)') $(ARGS)

import-demos: $(READY)  ## convert and verify your own demonstrations: ENV SRC FORMAT OUT ARGS (see src/vmil/OWN_DEMOS.md)
	$(PY) -m vmil import-demos env=$(ENV) $(if $(SRC),src='$(SRC)') $(IO) $(ARGS)

export-demos: $(READY)  ## write demonstrations for other software: ENV FORMAT (npz, minari) OUT DEMOS ARGS
	$(PY) -m vmil export-demos env=$(ENV) $(if $(DEMOS),demos.path='$(DEMOS)') $(IO) $(ARGS)

ui: $(READY)  ## show the tracked runs in a browser; host=0.0.0.0 lets others in, without a password: ARGS="port=5000"
	$(PY) -m vmil ui $(ARGS)

bench: $(READY)  ## how fast it is here, beside a plain reference: ENV ALGO COMPUTE BATCHES OUT ARGS="parts=update repeats=9"
	$(PY) -m vmil bench env=$(ENV) algo=$(ALGO) compute=$(COMPUTE) $(if $(BATCHES),batches='$(BATCHES)') $(if $(OUT),out='$(OUT)') $(ARGS)

doctor: $(READY)  ## say what this machine has: OpenGL, processor, GPU, versions, disk
	$(PY) -m vmil doctor

config: $(READY)  ## print a run's whole configuration: ENV ALGO SEED COMPUTE ARGS
	$(PY) -m vmil config env=$(ENV) algo=$(ALGO) seed=$(SEED) compute=$(COMPUTE) $(ARGS)

smoke: $(READY)  ## run the whole of train on toy sizes in a minute: ENV ALGO SEED DEMOS ARGS
	$(PY) -m vmil train env=$(ENV) algo=$(ALGO) seed=$(SEED) compute=debug $(if $(DEMOS),demos.path='$(DEMOS)' demos.count=null) $(ARGS)

test: $(READY)  ## the test suite, without whole training runs: WORKERS ARGS="-k name"
	$(PY) -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

test-slow: $(READY)  ## real training runs that must learn, for an hour: ARGS="-k dot" for a quarter of it
	$(PY) -m pytest -m slow -o faulthandler_timeout=0 $(ARGS)

test-faults: $(READY)  ## break runs on purpose (kills, signals, full disks, NaN, hostile files), for minutes: ARGS="-k kill"
	$(PY) -m pytest -m "faults or not faults" tests/faults $(ARGS)

soak: $(READY)  ## run one for long, and see that memory, file handles and disk stay as they are: MINUTES ARGS
	VMIL_SOAK_MINUTES=$(MINUTES) $(PY) -m pytest -m faults tests/faults/test_soak.py $(ARGS)

lint: $(READY)  ## style, types, and which module may import which
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

clean:  ## remove caches and the virtual environment, keep the runs
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build dist
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A fit Python runs (a version manager's stub may not), is of a supported version, and brings ensurepip, which Debian keeps in
# a package of its own. 3.12 and 3.11 come first, because on 3.13 labmaze, which dm_control asks for and dm_control.suite never
# imports, has no wheel: there dm_control goes in without its requirements, which pyproject.toml lists instead. Where it came
# in with them, the last pip line does nothing. Of two makes at once the second waits for the first.
$(READY): $(if $(OTHER),FORCE)
	@set -eu -o pipefail; if command -v flock >/dev/null; then exec 9<Makefile; flock 9; fi; \
	if [ -e $@ ] && [ -z '$(OTHER)' ]; then exit 0; fi; \
	fit=; bare=; \
	for python in $(or $(PYTHON),python3.12 python3.11 python3.13 python3); do \
	  $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || continue; \
	  if $$python -c 'import ensurepip, venv' 2>/dev/null; then fit=$$python; break; fi; \
	  bare=$$python; \
	done; \
	if [ -z "$$fit$$bare" ]; then \
	  echo "vmil: $(or $(PYTHON:%='%' is not a Python 3.11 to 3.13 that runs),no Python 3.11 to 3.13 is here): install one," \
	    "or name it with PYTHON=/path/to/python." >&2; exit 2; \
	elif [ -z "$$fit" ]; then \
	  echo "vmil: $$bare has no venv module: install it (on Debian: apt-get install python3-venv)." >&2; exit 2; \
	fi; \
	echo "vmil: setting up $(VENV) with $$fit, once: some minutes, and 2 to 7 GB of disk."; \
	[ "$$($(PY) -V 2>/dev/null)" = "$$($$fit -V)" ] || $$fit -m venv --clear $(VENV); \
	rm -f $(VENV)/.installed-*; \
	pip="$(PY) -m pip install --disable-pip-version-check $$([ -t 1 ] || echo --quiet)"; \
	$$pip -c requirements.lock -e '.[dev,formats,notebooks]'; \
	$$pip -c requirements.lock --no-deps dm_control; \
	touch $@
