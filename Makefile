# make demo and make test set up all that they need; a second run sets nothing up again.
#
#   MODEL=path    the model's file, where there is no npm
#   IMAGES=folder photos for the demo
#   ONLY=group    one group of benchmarks or faults
#   BUCKETS=a,b   two buckets of Cloud Storage, for the contract
#   PYTHON=path   another interpreter, with VENV=folder for its environment

VENV := .venv
export VENV
BIN := $(VENV)/bin
ONLY ?=
BUCKETS ?=
# Half of a test's time is spent waiting: for a broker, a rebalance, a deadline.  CI sets three, which
# are slower and steadier beside a busy neighbour.
WORKERS := $(shell cores=$$(nproc); echo $$((cores < 4 ? 2 * cores + 1 : 8)))
export ERASESTREAM_CACHE := $(CURDIR)/.cache
# Keep the bytecode: otherwise each worker rewrites the asserts of all tests, and each process that
# they start compiles our modules.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test durations check bench faults contract terraform image-test clean setup venv lock schemas

demo: setup
	$(BIN)/erasestream demo $(if $(IMAGES),--images "$(IMAGES)")

test: setup
	$(BIN)/python -m pytest --numprocesses $(WORKERS)

# Measure how long each file takes, for the order and the estimate of `make test`.
durations: setup
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --record-durations

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m tests.bench $(ONLY)

faults: setup
	$(BIN)/python -m tests.faults $(ONLY)
	$(BIN)/python -m pytest -m long --timeout 3600 -o faulthandler_timeout=3700

# Run the contract of buckets on all emulators, or on Cloud Storage.
contract: venv
	$(BIN)/python -m tests.buckets $(if $(BUCKETS),--buckets "$(BUCKETS)")

# Scan the Terraform of deploy/gcp.
terraform: venv
	$(BIN)/python -m tests.deploy.gcp_check

# Build all images with docker or podman, and run each; names what it needs from registries.
image-test:
	python3 deploy/image_test.py

# The script names missing programs before it fetches anything.
setup:
	@MODEL="$(MODEL)" ./deploy/setup.sh

venv:
	@./deploy/setup.sh venv

# Pinned with hashes; requirements name no registry.
LOCK := $(BIN)/uv pip compile pyproject.toml --generate-hashes --universal --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet
lock: venv
	$(LOCK) --extra dev --output-file requirements/dev.txt
	@./deploy/setup.sh venv
	$(BIN)/python deploy/image_requirements.py

clean:
	rm -rf $(VENV) .cache demo dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
