# Every target sets up what it needs; nothing has to be installed by hand. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

export MODELSYNC_CACHE ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/modelsync
UV_VERSION := 0.13.8
UV := $(MODELSYNC_CACHE)/uv/$(UV_VERSION)/bin/uv
PY := .venv/bin/python
export UV_PYTHON_DOWNLOADS := never
export PYTHONPATH := operator:hack

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 20

$(UV):
	@echo "setup: uv $(UV_VERSION)"
	@python3 -m venv "$(MODELSYNC_CACHE)/uv/$(UV_VERSION)"
	@"$(MODELSYNC_CACHE)/uv/$(UV_VERSION)/bin/pip" install --quiet uv==$(UV_VERSION)

.venv/.synced: pyproject.toml uv.lock | $(UV)
	@echo "setup: Python environment in .venv"
	@$(UV) sync --quiet --frozen
	@touch $@

.PHONY: setup
setup: .venv/.synced ## Python environment from uv.lock
