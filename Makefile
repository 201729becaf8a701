# A thin front: every target is one visible command, which the README shows too.
# Two files choose the versions: requirements.txt (to run) and requirements-dev.txt (to test as well).
PYTHON ?= python3
BIN := .venv/bin

.PHONY: up down test lint molecule molecule-hosts evidently

up: .venv/run
	$(BIN)/ansible-playbook site.yml -i inventories/local

down: .venv/run
	$(BIN)/ansible-playbook playbooks/destroy.yml -i inventories/local -e confirm=local

test: .venv/dev
	$(BIN)/pytest -n 2 --dist loadgroup

lint: .venv/dev
	$(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/yamllint . && $(BIN)/ansible-lint

molecule: .venv/dev
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/molecule test

# A machine of its own, by SSH: needs root and debootstrap, and takes half an hour.
molecule-hosts: .venv/dev
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/molecule test --scenario-name evidently
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/molecule test --scenario-name elk

# The Evidently application has its own environment and its own tests (evidently/README.md).
evidently: evidently/.venv/dev
	evidently/.venv/bin/pytest evidently/tests

.venv/run: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/dev: requirements-dev.txt .venv/run
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

evidently/.venv/dev: evidently/requirements-dev.txt evidently/requirements.txt
	$(PYTHON) -m venv evidently/.venv
	evidently/.venv/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@
