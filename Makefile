# make demo: install into .venv and stylize the bundled clip. make test: everything CI checks in Python.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test clean

demo: .venv/installed
	@mkdir -p demo
	$(BIN)/nststab demo -y -o demo/big_buck_bunny.mp4

# Bytecode is kept whatever the environment says: many tests start interpreters, and each would compile all again.
test: export PYTHONDONTWRITEBYTECODE :=
test: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy & types=$$!; $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder; tests=$$?; \
	wait $$types && exit $$tests

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/tested: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

clean:
	rm -rf build dist demo *.egg-info
