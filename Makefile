# Everything a user or developer runs from a clone. Each target makes the environment it needs.

PYTHON ?= python3
DEMO_ENV := .venv
TEST_ENV := .venv-test
TORCH := torch==2.13.0

.PHONY: demo test format pretrained wheel gpu clean

demo: $(DEMO_ENV)/.installed ## inspect the built-in demo line; results in ./demo-out
	$(DEMO_ENV)/bin/dad-edge demo --out demo-out

test: $(TEST_ENV)/.installed ## lint, types and all tests
	$(TEST_ENV)/bin/ruff check .
	$(TEST_ENV)/bin/ruff format --check .
	$(TEST_ENV)/bin/mypy
	$(TEST_ENV)/bin/python -m pytest

format: $(TEST_ENV)/.installed ## rewrite the sources in the house format
	$(TEST_ENV)/bin/ruff check --fix .
	$(TEST_ENV)/bin/ruff format .

pretrained: $(TEST_ENV)/.installed ## make the demo bundle of the package again, from seed to file
	$(TEST_ENV)/bin/python benchmarks/pretrained.py

wheel: $(TEST_ENV)/.installed ## build dist/*.whl
	$(TEST_ENV)/bin/python -m pip wheel --no-deps --wheel-dir dist .

gpu: ## everything that needs a GPU, with this machine's own packages; make gpu DATA=folder
	$(PYTHON) -m benchmarks.gpu $(if $(DATA),--data $(DATA))

clean: ## remove environments and outputs
	rm -rf $(DEMO_ENV) $(TEST_ENV) demo-out dist build .mypy_cache .ruff_cache .pytest_cache

$(DEMO_ENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(DEMO_ENV)
	$(DEMO_ENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(TEST_ENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(TEST_ENV)
	$(TEST_ENV)/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(TEST_ENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[train,cuda,tensorrt-rtx,test]'
	touch $@
