# Everything a person needs: `make demo` shows Whimbrel at work, `make test` proves it.
# Variables given to make reach all programs: RABBITMQ, WHIMBREL_MONGOD and CHROMIUM choose what the tests start.
PYTHON ?= python3
DOCUMENTS ?= 50000
BIN := .venv/bin
READY := .venv/.ready
# Images of Python set it, and then each of the hundreds of processes of a test run compiles Whimbrel anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help serve reference demo test check format lock chaos fuzz bench rabbitmq clean wheel picture screenshots

help:  ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## */\1|/' | \
	  while IFS='|' read -r name what; do printf '  make %-10s %s\n' "$$name" "$$what"; done

demo: $(READY)  ## set up, seed DOCUMENTS sample documents, migrate them, verify, clean up
	$(BIN)/whimbrel demo --documents $(DOCUMENTS)

test: $(READY) rabbitmq  ## set up and pass all tests; with RABBITMQ=/path, WHIMBREL_MONGOD=/path/mongod and CHROMIUM=/path/chromium against these
	$(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder

check: $(READY)  ## lint, format, types, direction of imports, schemas of the deploy files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate_api.py --check
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec deploy/compose.yaml
	$(BIN)/check-jsonschema --quiet --schemafile deploy/schemas/keda.json deploy/kubernetes/scaling*.yaml
	$(BIN)/kubernetes-validate --strict --quiet deploy/kubernetes/[!ks]*.yaml deploy/kubernetes/secret.template.yaml

chaos: $(READY) rabbitmq  ## the fault tests at full size: 200 random seeds, 50,000 documents through RabbitMQ, 20 kills of serve, 20 stalls of 22 s
	FULL=1 CHAOS_SEEDS=200 CHAOS_DOCUMENTS=50000 STORM_KILLS=20 STALLS=20 STALL_SECONDS=22 $(BIN)/python -m pytest tests/faults --timeout=3600
	FULL=1 $(BIN)/python -m pytest tests/unit $$(cut -s -d'"' -f2 tests/full.py | grep -oE '^tests/(integration|browser)[^:]*' | sort -u)

fuzz: $(READY)  ## the REST API driven by its OpenAPI document, FUZZ_EXAMPLES of each kind, by a random seed that it prints
	@seed=$${FUZZ_SEED:-$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}; echo "FUZZ_SEED=$$seed"; \
	  FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-200} FUZZ_SEED=$$seed $(BIN)/python -m pytest tests/fuzz -s

bench: $(READY) rabbitmq  ## the benchmarks at full size, with ratios
	$(BIN)/python -m bench
	$(BIN)/python -m bench.broker
	$(BIN)/python -m bench.seeder
	$(BIN)/python -m bench.undo
	$(BIN)/python -m bench.verify
	$(BIN)/python -m bench.api
	$(BIN)/python -m bench.small
	$(BIN)/python -m bench.millions
	$(BIN)/python -m bench.scale
	$(BIN)/python -m bench.health
	$(BIN)/python -m bench.dashboard

rabbitmq: $(READY)  ## the RabbitMQ server and the Chromium that the tests start: installed where they are missing and may be
	@$(BIN)/python -m tests.servers.install

serve: $(READY)  ## the dashboard and the REST API on port 3000, with workers
	$(BIN)/whimbrel serve

reference: $(READY)  ## docs/api.md and the Postman collection, from the routes
	$(BIN)/python docs/generate_api.py

wheel: $(READY)  ## dist/whimbrel-VERSION-py3-none-any.whl
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

picture: $(READY)  ## docs/terminal.svg and the moving docs/top.svg, from real runs; needs tmux
	$(BIN)/python docs/picture.py
	$(BIN)/python docs/moving_picture.py

screenshots: $(READY)  ## docs/screenshots, every page of the dashboard, from real runs; needs Chromium
	$(BIN)/python docs/screenshots.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:  ## needs uv on the path
	uv pip compile --universal --generate-hashes --no-annotate --no-header --python-version 3.11 \
	  --extra embedded --extra otel --group dev pyproject.toml -o requirements.lock
	uv pip compile --universal --generate-hashes --no-annotate --no-header --python-version 3.11 \
	  -c requirements.lock pyproject.toml -o requirements-runtime.lock
	uv pip compile --universal --generate-hashes --no-annotate --no-header --python-version 3.11 \
	  -c requirements.lock --group build -o requirements-build.lock

clean:
	rm -rf .venv .whimbrel .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis

# The virtual environment, from hash-locked requirements. Offline once it is there.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Whimbrel needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Run: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
	  { rm -rf .venv; echo "No virtual environment could be made. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)
