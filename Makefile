# make run       set up what is missing and open the app
# make bench     set up an environment of its own with the peers, and write benchmarks/RESULTS.md
# make load      let twenty people click for five minutes, and print what they waited for
# make soak      let people come, upload, share, crash and go for half an hour, and print what the server holds
# make fuzz      read 20,000 damaged files of every kind (some minutes)
# make test      set up what is missing, then format, lint, types, unit tests and browser tests
# make lock      write the locks anew after a change of requirements (delete a lock for the newest of everything)
# make audit     ask what vulnerabilities are known in what is installed
# make licences  write LICENCES.md
# make test-all  the same with every member of every sweep (up to an hour)
PYTHON ?= python3
PORT ?= 8501
BIN := .venv/bin

.PHONY: run setup test test-all check fuzz bench load soak lock audit licences

run: setup
	$(BIN)/streamlit run app.py --server.port $(PORT)

setup: .venv/app.done

.venv/app.done: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Lightbox needs Python 3.11 or newer; found $$($(PYTHON) --version). Try: make run PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
		{ echo "No virtual environment could be made. On Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m supply.install requirements.lock
	touch $@

.venv/test.done: requirements-test.lock .venv/app.done
	$(BIN)/python -m supply.install requirements-test.lock
	command -v chromium || $(SUDO) sh -c 'apt-get update && apt-get install --yes chromium'
	touch $@

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

# Two processes share the files of tests; a file stays in one of them, and the long ones come first.
# One heap for all threads of a process, given back when it is free: many keep a gigabyte of holes.
HEAP = MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=131072
PYTEST = $(HEAP) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: .venv/test.done check
	$(PYTEST)

test-all: .venv/test.done check
	$(PYTEST) -m ""

check: .venv/test.done
	$(BIN)/python -m supply.lock --check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

lock: .venv-supply/done
	PATH="$(CURDIR)/.venv-supply/bin:$$PATH" .venv-supply/bin/python -m supply.lock

audit: .venv-supply/done
	PATH="$(CURDIR)/.venv-supply/bin:$$PATH" .venv-supply/bin/python -m supply.audit requirements.lock

licences: .venv/app.done
	$(BIN)/python -m supply.licences

.venv-supply/done: supply/requirements.lock
	test -x .venv-supply/bin/python || $(PYTHON) -m venv .venv-supply
	.venv-supply/bin/python -m supply.install supply/requirements.lock
	touch $@

fuzz: .venv/test.done
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.fuzz

bench: .venv-bench/done
	.venv-bench/bin/python -W ignore -m benchmarks

soak: .venv/test.done
	$(BIN)/python -m benchmarks.soak --minutes 30

load: .venv/test.done
	$(BIN)/python -m benchmarks.load --sessions 20 --seconds 300

.venv-bench/done: benchmarks/requirements.txt requirements.txt
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --requirement benchmarks/requirements.txt
	touch $@
