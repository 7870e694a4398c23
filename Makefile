# Every target installs what it needs (see scripts/lib.sh), and may be run again at any time. PYTHON=/path/to/python3
# names the interpreter for .venv; KEEP=1 leaves the demo's viewer running.

# The scripts' steps depend on each other, and cargo uses every core by itself.
.NOTPARALLEL:
.DEFAULT_GOAL := help
export PYTHON KEEP

# The stages of `make test`, in order; the first two prepare the others.
PREPARE := setup build
STAGES := rust rules python sdk node edge component e2e

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: ## The tools: Rust, and .venv with the pinned Python packages
	@scripts/setup.sh

build: venv ## The tracebaton binary in target/release and the wheel, which is installed into .venv
	@scripts/build.sh

setup: build ## Everything needed to work here: the tools, and the package in .venv

node: venv ## The addon for Node and the npm package, in bindings-node and js/dist
	@scripts/node.sh

wasm: venv ## The npm package's WebAssembly in build/wasm, checked against its budget
	@scripts/wasm.sh

component: venv ## The WebAssembly component and the plain module in build/wasm (docs/component.md)
	@scripts/component.sh

demo: build ## The agents as real processes and their unified tree (KEEP=1: the viewer stays)
	@.venv/bin/python examples/agents/demo.py --tracebaton target/release/tracebaton

test: ## The tests: Rust, Python, Node, the component, end to end (one stage: make test-rust, test-python, test-sdk, test-node, …)
	@scripts/test.sh $(PREPARE) $(STAGES)

test-rust test-python test-sdk test-node test-edge test-component test-e2e: test-%:
	@scripts/test.sh $(PREPARE) $*

test-all: ## `make test`; the slow hosts of the component; the wheel on every Python, with the newest packages and the oldest OpenTelemetry; peers; fuzzing
	@scripts/test.sh $(PREPARE) $(STAGES) runtimes hosts pythons differential fuzz

fuzz: ## Fuzzes every parser, 10 seconds each
	@core/fuzz/run.sh 10

check: build ## Formatting, lints, types, documentation, no_std, the oldest Rust
	@scripts/check.sh

msrv: venv ## The library crates with the oldest Rust they declare
	@scripts/msrv.sh

bench: build ## Every benchmark against its peer
	@scripts/bench.sh

dist: build ## What a release would hold, in dist/
	@scripts/dist.sh

lock: ## Today's versions of all Python packages into tests/python/constraints.txt
	@scripts/lock.sh

clean: ## Removes everything that the other targets made
	rm -rf target build dist js/dist .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find bindings-python examples tests -name __pycache__ -prune -exec rm -rf {} +
	rm -f bindings-python/python/tracebaton/_native.*so bindings-node/*.node
	find js bindings-node examples -name node_modules -prune -exec rm -rf {} +

.PHONY: help venv build setup node wasm component demo test test-rust test-python test-sdk test-node test-edge test-component test-e2e test-all fuzz check msrv bench dist lock clean
