# Every target but `clean` sets up what it needs first (tools/setup.sh) and repeats that only
# when an input of the set-up has changed.

VENV := .venv/bin
PYTEST_ARGS ?=
# Two side by side: one records on this kernel, the other does what asks nothing of it.
# A worker that crashed is an error at once: without the last option the others wait for it for ever.
SIDE_BY_SIDE ?= -n 2 --dist loadscope --max-worker-restart 0
C_FILES = $(shell find bpf audit tests -name '*.[ch]' 2>/dev/null | sort)

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-moe demo-server test test-matrix test-pmu test-engines lint recorder fuzz bench bench-overhead dag-picture protos clean FORCE

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

setup: ## system packages, .venv, BCC, kernel headers, the recorder and the demo model
	tools/setup.sh

demo: build/.setup ## profile a small model for a few seconds and report on it
	tools/demo.sh

demo-moe: build/.setup-test ## record a mixture of experts that is larger than its memory, as root
	tools/demo_moe.sh

demo-server: build/.setup ## record a server under load, and say which request delayed which
	tools/demo_server.sh

# In continuous integration the slow ones, too: one run, so that one table says what ran where.
test: build/.setup-test ## all tests but test-matrix, the lint too (PYTEST_ARGS="-k writer" for some)
	$(VENV)/pytest $(SIDE_BY_SIDE) $(if $(filter true,$(CI)),,-m "not matrix") $(PYTEST_ARGS)

test-matrix: build/.setup-test ## programs and recordings on emulated machines (CI: part of test)
	$(VENV)/pytest $(SIDE_BY_SIDE) -m matrix $(PYTEST_ARGS)

test-pmu: build/.setup-test ## counters per operator against perf stat (PROFINFER_NEED_PMU=1: or fail)
	$(VENV)/pytest -rs tests/recording/test_pmu.py

test-engines: build/.setup-test ## record all engines that docs/engines.md has, and write it anew
	tools/build_engines.sh
	$(VENV)/pytest tests/engines/completions.py
	PYTHONPATH=tools $(VENV)/python -m tests.engines > docs/engines.md.part
	mv docs/engines.md.part docs/engines.md

lint: build/.setup-test ## ruff, mypy, clang-format and the SQL lint
	$(VENV)/ruff check
	$(VENV)/ruff format --check
	$(VENV)/mypy --strict
	$(if $(C_FILES),clang-format --dry-run -Werror $(C_FILES))
	$(VENV)/python tools/sql_lint.py

recorder: build/.setup-test ## build/*/profinfer-recorder and -static, the one for boards
	tools/build_recorder.sh

fuzz: build/.setup-test ## the recorder's parsers by libFuzzer, a minute each (FUZZ_SECONDS=60)
	tools/fuzz.sh

bench: build/.setup ## measure what profiling costs on this machine
	$(VENV)/python tools/bench.py

bench-overhead: build/.setup-test ## on : off within one process, on two models, until it is known
	$(VENV)/python tools/bench_overhead.py

dag-picture: build/.setup ## docs/pictures/dag.svg anew: a layer of Gemma 2 2B, random weights, as root (2 minutes, 2 GB)
	tools/dag_picture.sh

protos: build/.setup-test ## regenerate the code of perfetto_protos/trace.proto
	$(VENV)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. perfetto_protos/trace.proto

clean: ## remove what builds, tests and runs left behind (.venv stays)
	rm -rf build out .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

SETUP_INPUTS := tools/setup.sh requirements.txt requirements-dev.txt requirements-engines.txt \
  requirements-whisper.txt tests/engines/node/package-lock.json \
  tools/build_static_engine.sh tools/build_backends.sh tests/static/driver.c \
  pyproject.toml tools/build_audit.sh $(wildcard audit/*.[ch]) \
  tools/build_bpf.sh $(wildcard bpf/*.h bpf/*.bpf.c) tools/fetch_emulated.py \
  tools/fetch_root.py tools/fetch_perfetto.py tools/build_recorder.sh bpf/recorder/Makefile \
  $(wildcard bpf/recorder/*.[ch]) tools/build_describer.sh tools/make_tiny_gguf.py \
  $(wildcard bpf/describe/*.[ch] bpf/confine/*.[ch])
ifeq ($(wildcard $(VENV)/python),)
SETUP_INPUTS += FORCE
endif

build/.setup: $(SETUP_INPUTS)
	tools/setup.sh

build/.setup-test: $(SETUP_INPUTS)
	tools/setup.sh --test
