# make demo   set up .venv and run the whole loop on an emulated arm
# make test   set up .venv and run linters, type checker and every test
# make docs   set up .venv and build the documentation into build/site
# make clean  remove .venv and run results

VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint docs clean
demo: $(VENV)/.installed
	$(BIN)/sim2real demo --out runs/demo

test: $(VENV)/.installed-test lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-test
	$(BIN)/mkdocs build --quiet

# Versions that were tested together come from constraints.txt; setup.cfg keeps open ranges.
$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .[test]
	touch $@

$(VENV)/bin/python:
	@for python in $$PYTHON python3.11 python3 python; do \
	  if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then \
	    echo "Creating $(VENV) with $$(command -v $$python)"; "$$python" -m venv $(VENV) && exit 0; fi; done; \
	echo "sim2real needs Python 3.11 (PyBullet has no wheels for newer versions) with venv and pip." >&2; \
	echo "Install it (Debian/Ubuntu: apt install python3.11 python3.11-venv; or 'uv python install 3.11')," >&2; \
	echo "or name one: make demo PYTHON=/path/to/python3.11" >&2; exit 1

clean:
	rm -rf $(VENV) runs build
