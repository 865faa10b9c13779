# `make demo` and `make test` are all a newcomer needs; everything made is git-ignored.

.DEFAULT_GOAL := help
.PHONY: help demo ui test test-fast test-all matrix screenshots prove bench docs docs-serve check format lock clean

# The first that runs and is new enough. (A pyenv shim exists for versions that do not run.)
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
# Another Prefect than the one in constraints.txt: make test PREFECT="==3.8.0". Takes effect where .venv is made.
PREFECT ?=
# What it needs is then for pip to choose; of constraints.txt remain the tools of tests and checks.
TOOLS := import re, tomllib; \
	extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; \
	names = "|".join(re.match("[\w-]+", each)[0] for extra in extras.values() for each in extra); \
	print("".join(line for line in open("constraints.txt") if re.match(f"({names})==", line, re.I)))
INSTALLED := .venv/.installed

help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(INSTALLED) ## watch stale runs being found, cancelled and recorded: a look-alike of Extend, a real Prefect
	$(BIN)/prefect-extend-ai demo

ui: $(INSTALLED) ## the same, and stay: click in the Prefect UI until Ctrl-C
	$(BIN)/prefect-extend-ai demo --stay

test: $(INSTALLED) ## the tests with coverage, without those for the night; make test ARGS="tests/unit -k stale --no-cov" for some
	$(BIN)/pytest $(ARGS)

test-fast: $(INSTALLED) ## unit and contract tests without coverage, under a minute: for while you work
	HYPOTHESIS_PROFILE=fast $(BIN)/pytest --no-cov --dist=worksteal -m "not slow and not nightly" tests/unit tests/contract $(ARGS)

test-all: $(INSTALLED) ## every test there is: the older UI, every kill, installations into new environments too
	HYPOTHESIS_PROFILE=night $(BIN)/pytest -m "" $(ARGS)

matrix: $(INSTALLED) ## unit and contract tests on each Python, the lowest and the newest releases; make matrix ARGS=lowest
	$(BIN)/python scripts/matrix.py $(ARGS)

screenshots: $(INSTALLED) ## take the pictures of the README again, in a real browser
	RENEW_PICTURES=yes $(BIN)/pytest --no-cov --numprocesses=0 tests/browser/test_pictures.py
	cp tests/output/docs/*.png tests/output/docs/*.json docs/

prove: $(INSTALLED) ## the promises over ten thousand schedules of troubles, crashes and sweeps at once
	HYPOTHESIS_PROFILE=prove $(BIN)/pytest --no-cov --dist=load tests/unit/test_promises.py tests/unit/test_resubmission_promises.py $(ARGS)

bench: $(INSTALLED) ## how near a sweep comes to the API's limit; make bench ARGS="--quick" for a short look
	$(BIN)/python -m bench $(ARGS)

docs: $(INSTALLED) ## build the documentation into site/; a broken link fails
	$(BIN)/python scripts/reference.py
	$(BIN)/zensical build --strict --clean

docs-serve: docs ## the same, and look at it in a browser until Ctrl-C
	$(BIN)/zensical serve

check: $(INSTALLED) ## lint, format, types, and which room imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED) ## fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## renew constraints.txt with today's releases
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet '.[server,test,dev,docs]'
	.venv-lock/bin/pip freeze --exclude prefect-extend-ai > constraints.txt
	rm -rf .venv-lock

clean: ## remove everything that make has made
	rm -rf .venv .venv-lock .matrix build dist site *.egg-info .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis tests/output

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -c '$(TOOLS)' > .venv/tools.txt
	@# The warning that a folder here may come before the installed one is true and meant: it is the same files.
	@echo "Installing into .venv, once: about a minute"
	@PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check -e '.[server,test,dev,docs]' $(if $(PREFECT),'prefect$(PREFECT)') \
		-c $(if $(PREFECT),.venv/tools.txt,constraints.txt)
	@touch $@
