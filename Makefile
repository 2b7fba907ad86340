# Every target makes the environment it needs, from nothing but make and Python 3.11 or newer.
#
#   make demo      repartition six million rows and check the result with another engine
#   make test      run the tests
#   make simulate  run 50,000 seeds of the fabric's simulator, for every night
#   make simulate-gossip  run 10,000 seeds of the gossip's simulator, and a thousand nodes
#   make check     format, lint, types, layers
#   make bench     run the comparisons with other systems
#   make fuzz      look for bytes of a stranger that break something
#   make fmt       format and fix what can be fixed
#
# PYTHON picks the interpreter, VENV the folder of the environments, PYTEST_ARGS what to test:
#   make test PYTHON=python3.13 PYTEST_ARGS="tests/cluster -x"
# SEEDS and JOBS say what to simulate, in how many processes:
#   make simulate SEEDS="50000 60000" JOBS=4

VENV ?= .venv
BUILD ?= build
PYTEST_ARGS ?=
# What a wheel can lack shows where the package is imported, exported, started and documented.
WHEEL_PYTEST_ARGS ?= -m "not slow" tests/test_wheel.py tests/test_imports.py \
    tests/test_exports.py tests/test_documents.py tests/test_examples.py tests/cli \
    tests/admin tests/node tests/repartition
BENCH_ARGS ?=
# The first seed, and the first one not to run.
SEEDS ?= 0 50000
GOSSIP_SEEDS ?= 0 10000
JOBS ?= 2
# Seconds for each target; more of its options in FUZZ_ARGS.
FUZZ_SECONDS ?= 60
FUZZ_ARGS ?=

DEV := $(VENV)/dev/bin
DEMO := $(VENV)/demo/bin
BENCH := $(VENV)/bench/bin
FUZZ := $(VENV)/fuzz/bin
WHEEL := $(VENV)/wheel/bin
DEMO_DIR := $(BUILD)/demo
WHEEL_DIR := $(BUILD)/wheel

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-wheel simulate simulate-gossip check bench fuzz fmt requirements clean

help:
	@sed -n 's/^#   //p' Makefile

# --- environments ------------------------------------------------------------------------

# The first interpreter that is new enough, unless PYTHON names one.
define find_python
for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
    then break; fi; \
    python=; \
done; \
if [ -z "$$python" ]; then \
    echo "Laminar needs Python 3.11 or newer, and found none as $(or $(PYTHON),python3 or python3.N)." >&2; \
    echo "Install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2; \
    exit 1; \
fi
endef

# $(1): the environment's name. Made anew whenever its requirements change.
define make_venv
@$(find_python); \
echo "Making the environment $(VENV)/$(1) with $$($$python --version)"; \
"$$python" -m venv --clear $(VENV)/$(1)
@$(VENV)/$(1)/bin/python -m pip install --quiet --disable-pip-version-check \
    --use-pep517 --require-hashes -r requirements/$(2).txt
endef

# .installed follows the requirements; .ready also the project's own metadata.
.PRECIOUS: $(VENV)/%/.installed $(VENV)/%/.ready

$(VENV)/wheel/.installed: requirements/dev.txt
	$(call make_venv,wheel,dev)
	@touch $@

$(VENV)/%/.installed: requirements/%.txt
	$(call make_venv,$*,$*)
	@touch $@

$(VENV)/%/.ready: $(VENV)/%/.installed pyproject.toml
	@$(VENV)/$*/bin/python -m pip install --quiet --disable-pip-version-check \
	    --no-deps --no-build-isolation --editable .
	@touch $@

# --- demo --------------------------------------------------------------------------------

$(DEMO_DIR)/lineitem.parquet: | $(VENV)/demo/.ready
	@mkdir -p $(DEMO_DIR)
	@echo "Generating TPC-H lineitem at scale factor 1"
	@$(DEMO)/tpchgen-cli parquet --scale-factor 1 --tables lineitem --overwrite \
	    --output-dir $(DEMO_DIR)

demo: $(VENV)/demo/.ready $(DEMO_DIR)/lineitem.parquet
	$(DEMO)/laminar shuffle $(DEMO_DIR)/lineitem.parquet --by l_orderkey \
	    --out $(DEMO_DIR)/out --partitions 16 --overwrite
	$(DEMO)/python examples/verify_repartition.py $(DEMO_DIR)/lineitem.parquet \
	    $(DEMO_DIR)/out --by l_orderkey

# --- test --------------------------------------------------------------------------------

test: $(VENV)/dev/.ready
	$(DEV)/python -m pytest $(PYTEST_ARGS)

# The tests and what they run are copied away first: beside the source tree they would import that.
test-wheel: $(VENV)/dev/.ready $(VENV)/wheel/.installed
	@rm -rf $(WHEEL_DIR)
	$(DEV)/python -m build --wheel --no-isolation --outdir $(WHEEL_DIR) .
	$(WHEEL)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	    --force-reinstall $(WHEEL_DIR)/*.whl
	$(WHEEL)/python -m pip check
	@set -eu; \
	python="$$(cd $(WHEEL) && pwd)/python"; \
	outside="$$(mktemp -d)"; \
	trap 'rm -rf "$$outside"' EXIT; \
	cp -R tests examples benchmarks fuzz docs README.md CONTRIBUTING.md pyproject.toml "$$outside"; \
	cd "$$outside"; \
	LAMINAR_TEST_WHEEL=1 "$$python" -m pytest $(WHEEL_PYTEST_ARGS)

# --- simulate ----------------------------------------------------------------------------

simulate: $(VENV)/dev/.ready
	$(DEV)/python -m tests.simulation $(SEEDS) --jobs $(JOBS)

simulate-gossip: $(VENV)/dev/.ready
	$(DEV)/python -m tests.gossip_simulation $(GOSSIP_SEEDS) --jobs $(JOBS)
	LAMINAR_THOUSAND_NODES=1 $(DEV)/python -m pytest tests/gossip_simulation/test_convergence.py

# --- check -------------------------------------------------------------------------------

check: $(VENV)/dev/.ready
	$(DEV)/ruff format --check .
	$(DEV)/ruff check .
	$(DEV)/mypy
	$(DEV)/lint-imports

fmt: $(VENV)/dev/.ready
	$(DEV)/ruff check --fix .
	$(DEV)/ruff format .

# --- bench -------------------------------------------------------------------------------

bench: $(VENV)/bench/.ready
	$(BENCH)/python -m benchmarks $(BENCH_ARGS)

# --- fuzz --------------------------------------------------------------------------------

fuzz: $(VENV)/fuzz/.ready
	$(FUZZ)/python -m fuzz --work $(BUILD)/fuzz --seconds $(FUZZ_SECONDS) $(FUZZ_ARGS)

# --- upkeep ------------------------------------------------------------------------------

# Pins every requirement anew: what the package needs (pyproject.toml) and what each task adds.
COMPILE = $(DEV)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
    --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --extra uvloop

requirements: $(VENV)/dev/.ready
	$(COMPILE) pyproject.toml --output-file requirements/runtime.txt
	for name in demo dev bench fuzz; do \
	    $(COMPILE) pyproject.toml requirements/$$name.in --constraints requirements/runtime.txt \
	        --output-file requirements/$$name.txt || exit 1; \
	done

clean:
	rm -rf $(VENV) $(BUILD)
