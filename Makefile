# Everything a user or developer runs from a clone. Each target makes the environment it needs.

PYTHON ?= python3
DEMO_ENV := .venv
TEST_ENV := .venv-test
LOWEST_ENV := .venv-lowest
LOWEST_PASSED := 900
# What says nothing of the packages of the light core and the line.
LOWEST_WITHOUT := test_wheel.py test_jetpack.py test_pretrained.py benchmarks kernels
TORCH := torch==2.13.0
DOCS_ENV := .venv-docs
DOCS := zensical==0.0.73
TRITON_ENV := .venv-triton
# A real server for the tests; it has no wheel for every machine, and needs an environment of its own.
TRITON := nvidia-pytriton==0.7.0
SBOM_ENV := .venv-sbom
SBOM := cyclonedx-bom==7.5.0

.PHONY: demo test test-lowest docs format pretrained wheel sbom gpu clean

demo: $(DEMO_ENV)/.installed ## inspect the built-in demo line; results in ./demo-out
	$(DEMO_ENV)/bin/dad-edge demo --out demo-out

test: export DAD_EDGE_TEST_TRITON := $(CURDIR)/$(TRITON_ENV)
test: $(TEST_ENV)/.installed $(TRITON_ENV)/.installed ## lint, types and all tests
	$(TEST_ENV)/bin/ruff check .
	$(TEST_ENV)/bin/ruff format --check .
	$(TEST_ENV)/bin/mypy
	$(TEST_ENV)/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-lowest: $(LOWEST_ENV)/.installed ## the light core and the line with the lowest versions that they allow
	rm -rf $(LOWEST_ENV)/out && mkdir $(LOWEST_ENV)/out
	cd $(LOWEST_ENV)/out && ../bin/dad-edge doctor
	cd $(LOWEST_ENV)/out && ../bin/dad-edge demo --parts 3 --out demo
	cd $(LOWEST_ENV)/out && ../bin/dad-edge build --precision int8 --runtime onnxruntime
	$(LOWEST_ENV)/bin/python -m pytest -n auto --dist loadfile -p no:cacheprovider \
	  --at-least $(LOWEST_PASSED) $(LOWEST_WITHOUT:%=--ignore tests/%)

docs: $(DOCS_ENV)/.installed ## the pages of docs/ as a site in ./site; warnings are errors
	$(DOCS_ENV)/bin/zensical build --clean --strict

format: $(TEST_ENV)/.installed ## rewrite the sources in the house format
	$(TEST_ENV)/bin/ruff check --fix .
	$(TEST_ENV)/bin/ruff format .

pretrained: $(TEST_ENV)/.installed ## make the demo bundle of the package again, from seed to file
	$(TEST_ENV)/bin/python benchmarks/pretrained.py

wheel: $(TEST_ENV)/.installed ## build dist/*.whl
	$(TEST_ENV)/bin/python -m pip wheel --no-deps --wheel-dir dist .

sbom: $(DEMO_ENV)/.installed $(SBOM_ENV)/.installed ## dist/sbom.cdx.json: bill of materials of a line
	mkdir -p dist
	$(SBOM_ENV)/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
	  --output-file dist/sbom.cdx.json $(DEMO_ENV)/bin/python

gpu: ## everything that needs a GPU, with this machine's own packages; make gpu DATA=folder
	$(PYTHON) -m benchmarks.gpu $(if $(DATA),--data $(DATA))

clean: ## remove environments and outputs
	rm -rf $(DEMO_ENV) $(TEST_ENV) $(LOWEST_ENV) $(DOCS_ENV) $(SBOM_ENV) $(TRITON_ENV) site demo-out dist build .mypy_cache .ruff_cache .pytest_cache

$(DEMO_ENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(DEMO_ENV)
	$(DEMO_ENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[line]'
	touch $@

$(TEST_ENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(TEST_ENV)
	$(TEST_ENV)/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(TEST_ENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[train,openvino,cuda,tensorrt-rtx,line,modbus,sign,triton,registry,debug,dev]'
	touch $@

$(TRITON_ENV)/.installed: Makefile
	$(PYTHON) -m venv $(TRITON_ENV)
	$(TRITON_ENV)/bin/python -m pip install --quiet --disable-pip-version-check $(TRITON) || true
	touch $@

$(DOCS_ENV)/.installed: Makefile
	$(PYTHON) -m venv $(DOCS_ENV)
	$(DOCS_ENV)/bin/python -m pip install --quiet --disable-pip-version-check $(DOCS)
	touch $@

$(SBOM_ENV)/.installed: Makefile
	$(PYTHON) -m venv $(SBOM_ENV)
	$(SBOM_ENV)/bin/python -m pip install --quiet --disable-pip-version-check $(SBOM)
	touch $@

$(LOWEST_ENV)/.installed: pyproject.toml
	$(PYTHON) -m venv --clear $(LOWEST_ENV)
	$(LOWEST_ENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOWEST_ENV)/bin/uv pip install --quiet --python $(LOWEST_ENV)/bin/python \
	  --resolution lowest-direct --editable '.[line,test]'
	$(LOWEST_ENV)/bin/uv pip list --python $(LOWEST_ENV)/bin/python
	touch $@
