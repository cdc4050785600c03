# On a fresh machine with Python 3.11 to 3.13, git and make: `make tune` or `make test` does it all.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements.lock
DATA_BESIDE := $(wildcard ../shared/data/cifar10-jpeg.tar.xz)
export CIFAR_TUNE_TEST_DATA ?= $(abspath $(DATA_BESIDE))

.PHONY: tune test faults gpu check audit install lock build clean

tune: install
	$(BIN)/python -m cifar_tune.tune --config configs/quickstart.yaml

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile

# The long ones among the tests that kill, damage and fill up; -m here wins over pyproject.toml's.
# In pytest's order, for the longest files stand in the middle; -rP shows the figures that they print.
faults: install
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m faults \
		-rP --show-capture=stdout

# What only a GPU can tell, in nine minutes on a machine that has one; its claims, with pass or fail.
gpu: install
	$(BIN)/python benchmarks/gpu.py

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/installed

# Compiled once, 25 s: where Python may not write bytecode, each process would compile torch anew, 5 s.
$(VENV)/installed: $(LOCK) pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11 to 3.13 is needed; name one with make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode $(LOCK)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

# The lock holds exact versions and hashes for Python 3.11 to 3.13, and no index address; that of the
# image has Ray's job server, and no tools of the developers.
lock:
	test -x $(BIN)/uv || ($(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --group dev --output-file $(LOCK) \
		pyproject.toml lock.in
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --extra cluster --constraint $(LOCK) \
		--output-file docker/$(LOCK) pyproject.toml lock.in

# Every package of the locks has the hash that stands there, and no known vulnerability. A service
# that knows nothing against PyYAML 5.3 is not asked: it has no answers here, and silence is no pass.
AUDIT := $(BIN)/uv tool run --quiet --from pip-audit==2.10.1 pip-audit --disable-pip --progress-spinner off
AUDITED := $(VENV)/audited
audit: install
	for lock in $(LOCK) docker/$(LOCK); do rm -rf $(AUDITED) && $(BIN)/uv pip install --quiet \
		--python $(BIN)/python --target $(AUDITED) --link-mode symlink --no-deps --require-hashes \
		-r $$lock || exit 1; done
	@rm -rf $(AUDITED)
	@echo "hashes: every package of $(LOCK) and docker/$(LOCK) is the file that the lock names"
	@echo pyyaml==5.3 > $(VENV)/vulnerable
	@for service in pypi osv; do \
		$(AUDIT) -s $$service --no-deps -r $(VENV)/vulnerable 2>/dev/null | grep -q pyyaml.*5.3.*-20 || continue; \
		exec $(AUDIT) -s $$service --strict --require-hashes -r $(LOCK) -r docker/$(LOCK); done; \
		echo "vulnerabilities: NOT CHECKED, neither PyPI's nor OSV's service answers; run make audit" \
			"on a machine that reaches one of them" >&2; exit 1

build: install
	$(BIN)/python -m build --no-isolation --wheel --outdir dist .

clean:
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache
