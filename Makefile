# `make demo` and `make test` need Python 3.11 or newer and nothing else: they make .venv and fill it.
#
# PIP_ARGS goes to pip as it is. By default pip may take a build of torch with GPU libraries (several gigabytes);
# to take one from elsewhere:  make demo PIP_ARGS="--find-links /folder/with/wheels"

PYTHON ?= python3
PIP_ARGS ?=
BIN := .venv/bin
DATA ?= ../shared/data

.PHONY: help demo test check bench bundled clean

help:
	@echo "make demo     label the example texts with the bundled model: table, summary, picture"
	@echo "make test     lint, types and all tests"
	@echo "make check    lint and types only"
	@echo "make bench    speed of scoring (an hour or two), of predict, of training and of bf16 and int8, memory of training"
	@echo "make bundled  train the bundled model again (hours on two cores)"

.venv/core: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "obverse needs Python 3.11 or newer; name one: make demo PYTHON=python3.12"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (once) .."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS) -e .
	@touch $@

.venv/dev: .venv/core
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS) -e ".[dev]"
	@touch $@

.venv/bench: .venv/dev
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS) -e ".[bench]"
	@touch $@

.venv/train: .venv/core
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS) -e ".[train]"
	@touch $@

demo: .venv/core
	@mkdir -p demo-output
	$(BIN)/obverse predict examples/messages.csv --text message \
		--labels "praise, complaint, question, request" --instruction "What is the customer doing?" \
		--gold gold --calibration batch --output demo-output/labelled.csv --picture demo-output/summary.png \
		--overwrite
	@echo
	$(BIN)/obverse predict examples/messages.csv --text message \
		--labels "praise, complaint, question, request" --instruction "What is the customer doing?" \
		--explain 5 --picture demo-output/explanation.png

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

bench: .venv/bench
	$(BIN)/python benchmarks/scoring_speed/run.py --output docs/results
	$(BIN)/python benchmarks/scoring_speed/alone.py --output docs/results --case flipped plain
	$(BIN)/python benchmarks/predict_speed.py --data $(DATA)
	$(BIN)/python benchmarks/training_speed.py --data $(DATA)
	$(BIN)/python benchmarks/number_types.py --data $(DATA)

bundled: .venv/train
	$(BIN)/obverse train bundled/similarity.toml --data $(DATA) --output runs/similarity --resume
	$(BIN)/obverse train bundled/recipe.toml --data $(DATA) --output runs/bundled --resume
	$(BIN)/python bundled/make_package.py --run runs/bundled --prior runs/similarity/model --blend bundled/blend.toml --data $(DATA)
	$(BIN)/python bundled/judge.py --data $(DATA)
	$(BIN)/python bundled/judge.py --data $(DATA) --aside
	$(BIN)/python bundled/card.py

clean:
	rm -rf .venv demo-output build src/*.egg-info
