# The two commands of the README: `make demo` and `make test`. Each makes .venv when it is not there.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed
PEERS := .bench/.installed
WEB := keras_ae/web/index.html
NODE := examples/deploy/node_modules/.package-lock.json
WEB_SOURCES := $(addprefix web/,index.html package.json package-lock.json tsconfig.json vite.config.js licenses.mjs) $(wildcard web/src/* web/public/*)

# Some images set it; workers, and the commands that tests start, would compile the same modules each for itself.
unexport PYTHONDONTWRITEBYTECODE

TWO := --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test coverage lint types docs web bench constraints release-check clean

demo: $(STAMP)
	$(BIN)/keras-ae fit digits --out saved_models/digits
	$(BIN)/keras-ae info saved_models/digits
	$(BIN)/keras-ae generate saved_models/digits --n 5 --seed 0 --out saved_models/new_digits.csv
	$(BIN)/keras-ae score saved_models/digits saved_models/new_digits.csv --out saved_models/scores.csv
	@echo "Five new digits are in saved_models/new_digits.csv, their anomaly scores in saved_models/scores.csv:"
	@cat saved_models/scores.csv
	@echo "The artifact, SavedModel and ONNX, is in saved_models/digits. Next: README.md."

# Without npm the page of `keras-ae explore` is not built, and its tests in a browser and those of Node.js are skipped.
test: $(STAMP) $(if $(shell command -v npm),$(WEB) $(NODE)) lint types
	$(BIN)/python -m pytest $(TWO) --durations=10

# Lines of keras_ae and export that tests execute, in subprocesses too. Leaves .coverage, by test, for
# benchmarks/mutation.py.
coverage: $(STAMP)
	$(BIN)/python -m pytest $(TWO) --cov --cov-context=test --cov-report=term:skip-covered

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

# The site, in site/; a broken link fails. Its search needs a server, such as `python -m http.server -d site`.
docs: $(STAMP)
	$(BIN)/mkdocs build --strict --quiet

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(shell sed -n 's/^uv==//p' constraints.txt)
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --compile-bytecode --constraints constraints.txt --editable ".[train,serve,client,ray,track,dev]"
	touch $(STAMP)

web: $(WEB)

$(WEB): $(WEB_SOURCES)
	cd web && npm ci --no-audit --no-fund --loglevel=error && npm run --silent build

# The package brings its libraries for the processor; what it would download besides is CUDA's.
$(NODE): examples/deploy/package.json examples/deploy/package-lock.json
	cd examples/deploy && ONNXRUNTIME_NODE_INSTALL=skip npm ci --no-audit --no-fund --loglevel=error

# CASES: some of dense conv small loss. DATA: an npz file of 28 x 28 images, x_train and x_test. REPEATS: of each way.
bench: $(STAMP) $(PEERS)
	$(BIN)/python benchmarks/training.py $(CASES) $(if $(DATA),--data $(DATA)) $(if $(REPEATS),--repeats $(REPEATS))
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/plot.py

# The libraries that keras_ae is compared with stay out of its own environment.
$(PEERS): benchmarks/requirements.txt
	$(PYTHON) -m venv .bench/peers
	.bench/peers/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/requirements.txt
	touch $(PEERS)

constraints: $(STAMP)
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --upgrade --editable ".[train,serve,client,ray,track,dev]"
	{ echo "# What is tested together, on Python 3.11. Regenerate: make constraints"; \
	  VIRTUAL_ENV=.venv $(BIN)/uv pip freeze --exclude-editable; } > constraints.txt

# What docs/releasing.md asks of a machine; leaves wheel, sdist and lists of what is in them (CycloneDX) in dist/.
release-check: $(STAMP) $(WEB)
	rm -rf dist .release
	$(BIN)/uv build --quiet
	$(BIN)/uv tool run --quiet --from twine==7.0.0 twine check --strict dist/*.whl dist/*.tar.gz
	$(BIN)/python -m pytest -m slow tests/test_release.py
	$(BIN)/uv venv --quiet --python $(PYTHON) .release
	VIRTUAL_ENV=.release $(BIN)/uv pip install --quiet dist/*.whl
	$(BIN)/uv tool run --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py environment .release/bin/python \
	  --pyproject pyproject.toml --output-reproducible --output-file dist/sbom.json
	cd web && npm sbom --omit dev --sbom-format cyclonedx >../dist/sbom-web.json

clean:
	rm -rf .venv .bench .release build dist site *.egg-info web/node_modules examples/deploy/node_modules keras_ae/web
