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
# Several clusters live side by side; tests have their own, so that they never take down a demo that somebody plays with.
CLUSTER ?= default
LOCAL := $(PY) -m localcluster
# EXISTING=1: the cluster of KUBECONFIG instead (docs/design/local-cluster.md says what it needs).
WHICH = $(if $(EXISTING),existing,$(CLUSTER))
INSIDE = $(if $(EXISTING),,$(LOCAL) exec --name $(CLUSTER) --)

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

.PHONY: generate
generate: helm ## rewrite what is generated: CRD, reference pages, parts of the chart, deploy/
	@$(PY) -m generate

.PHONY: lint
lint: setup ## ruff, mypy --strict, import contracts
	@.venv/bin/ruff check --quiet .
	@.venv/bin/ruff format --quiet --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-cache | tail -n 1

.PHONY: verify
verify: lint ## lint, and fail when `make generate` would change a file
	@$(PY) -m generate --check

# The rooms whose unit tests together take seconds; tests marked `slow` and property tests are left to `test-unit`.
CHECKED := api docs observe policy project registry report resources rollout telemetry
.PHONY: check
check: setup ## run this before each commit: lint, generated files, the fast unit tests; prints how long it took
	@SECONDS=0; $(MAKE) --no-print-directory verify; \
	.venv/bin/pytest -q -m "not slow and not hypothesis" $(CHECKED:%=tests/unit/%); \
	echo "check: passed in $$SECONDS s"

# Coverage is measured in a run of its own: the tracer would double the time of the random walks.
COVERED := tests/unit/rollout tests/unit/report tests/golden/test_golden.py
.PHONY: test-unit
test-unit: setup ## unit tests and golden logs, with a floor under the coverage of rollout/ and report/
	@.venv/bin/pytest -q --cov --cov-report=term $(COVERED)
	@.venv/bin/pytest -q tests/unit tests/golden $(COVERED:%=--ignore=%)

.PHONY: helm
helm: setup
	@$(LOCAL) tool helm >/dev/null

.PHONY: promtool
promtool: setup
	@$(LOCAL) tool promtool >/dev/null

.PHONY: test-chart
test-chart: helm promtool ## the chart rendered by the real Helm, its alerts tried by promtool (builds both once)
	@.venv/bin/pytest -q tests/chart

.PHONY: test-gitops
test-gitops: setup ## Argo CD's Lua, kstatus and kube-state-metrics, on an object of each row of the truth table
	@$(LOCAL) tool gitops >/dev/null
	@.venv/bin/pytest -q tests/gitops

.PHONY: test-model
test-model: setup ## breadth-first check of the production planner; prints states and time
	@.venv/bin/pytest -q -s tests/model

.PHONY: cluster-up
cluster-up: setup ## a real control plane, node and gateway in a network namespace (builds the binaries once)
	@$(LOCAL) up $(if $(EXISTING),--existing,--name $(CLUSTER))
# Here, because inside the cluster's network there is no package mirror that an image could be made from.
	@$(if $(EXISTING),,$(LOCAL) images --name $(CLUSTER))

.PHONY: cluster-down
cluster-down: setup ## take down exactly what cluster-up started
	@$(LOCAL) down --name $(WHICH)

.PHONY: shell
shell: cluster-up ## a shell inside the cluster's network, with kubectl
	@$(LOCAL) exec --name $(CLUSTER) -- env PATH="$(CURDIR)/.venv/bin:$$PATH" $${SHELL:-bash} || true

.PHONY: test-integration
test-integration: cluster-up helm ## against a real apiserver, the stand-ins, and the real wandb SDK
	@$(LOCAL) exec --name $(CLUSTER) -- .venv/bin/pytest -q tests/integration

# HOSTILE: which tests; a scenario by its finding, for example HOSTILE="tests/hostile/test_bystander.py -k 4:".
HOSTILE ?= tests/hostile
.PHONY: test-hostile
test-hostile: cluster-up ## what a tenant may try, while a bystander gets a hold; prints times, memory and lag with their bounds
	@$(LOCAL) exec --name $(CLUSTER) -- .venv/bin/pytest -q $(HOSTILE) --hostile-json artifacts/hostile.json

# By default in pods, installed by Helm, as users have it. OPERATOR=process: a process of this machine with the same rights.
OPERATOR ?= chart
.PHONY: e2e
e2e: cluster-up helm ## whole rollouts on the real node, with traffic all the time
	@$(INSIDE) env MODELSYNC_E2E_OPERATOR=$(OPERATOR) .venv/bin/pytest -q tests/e2e

.PHONY: test-docs
test-docs: cluster-up helm ## what the documentation says is typed, typed on a clean cluster; prints the newcomer's time
	@$(LOCAL) exec --name $(CLUSTER) -- .venv/bin/pytest -q tests/docs

# Real vLLM beside its stand-in, then as pods: about 6 GB of downloads once, 25 minutes on two cores, 12 GB of memory.
.PHONY: e2e-vllm
e2e-vllm: CLUSTER := vllm
e2e-vllm: setup ## real vLLM on the CPU: its flags, its stand-in, and a rollout; not part of `test`
	@$(PY) -m realvllm install
	@.venv/bin/pytest -q tests/vllm --ignore tests/vllm/test_rollout.py
	@trap '$(MAKE) --no-print-directory cluster-down CLUSTER=$(CLUSTER)' EXIT; \
	$(MAKE) --no-print-directory cluster-up CLUSTER=$(CLUSTER); \
	$(LOCAL) exec --name $(CLUSTER) -- .venv/bin/pytest -q -s tests/vllm/test_rollout.py

.PHONY: test
test: CLUSTER := test
test: verify ## everything that CI runs
	@$(MAKE) --no-print-directory test-chart
	@$(MAKE) --no-print-directory test-gitops
# Unit tests and model check keep one core busy, integration tests mostly wait; each prints when it is through. What has
# bounds of time comes alone: hostile tenants, and the end-to-end tests, which hold a hold to a second.
	@trap '$(MAKE) --no-print-directory cluster-down CLUSTER=$(CLUSTER)' EXIT; \
	$(MAKE) --no-print-directory cluster-up CLUSTER=$(CLUSTER); \
	$(MAKE) --no-print-directory -j2 --output-sync=target test-pure test-integration CLUSTER=$(CLUSTER); \
	$(MAKE) --no-print-directory test-hostile CLUSTER=$(CLUSTER); \
	$(MAKE) --no-print-directory e2e CLUSTER=$(CLUSTER); \
	$(MAKE) --no-print-directory test-docs CLUSTER=$(CLUSTER)

.PHONY: test-pure
test-pure:
	@$(MAKE) --no-print-directory test-unit
	@$(MAKE) --no-print-directory test-model

# BASE=… and BUILD_BASE=… for another base (the Dockerfile says what it needs), TAG=… for the name, NETWORK=host for the build.
TAG ?= modelsync:dev
.PHONY: image
image: setup ## the operator's image from the Dockerfile, by docker, podman or buildah; prints size and start time
	@$(PY) -m image --tag "$(TAG)" $(if $(BASE),--base "$(BASE)") $(if $(BUILD_BASE),--build-base "$(BUILD_BASE)") \
		$(if $(NETWORK),--network "$(NETWORK)")

.PHONY: kind-up kind-down
kind-up: setup ## the same cluster by kind, where Docker works
	@$(LOCAL) kind-up

kind-down: setup ## take down what kind-up made
	@$(LOCAL) kind-down

.PHONY: bench-pull
bench-pull: setup ## `modelsync pull` against wandb's own download and curl, in one run
	@$(PY) tests/bench/pull.py

.PHONY: bench-middleware
bench-middleware: setup ## what the middleware in the pod costs each chunk of a stream, with and without in one run
	@$(PY) tests/bench/middleware.py

.PHONY: soak
soak: cluster-up ## rollouts, aborts, holds and pod deletions under load for 10 minutes; nothing may be lost
	@$(INSIDE) $(PY) tests/bench/soak.py --json artifacts/soak.json

.PHONY: contour
contour: setup
	@$(UV) sync --quiet --frozen --group gateways
	@$(LOCAL) build --contour

.PHONY: bench-gateway
bench-gateway: contour cluster-up ## weight written -> first request by it, and a short soak, for Traefik and Contour with Envoy
	@$(INSIDE) $(PY) tests/bench/gateway.py --json artifacts/bench-gateway.json
	@$(INSIDE) $(PY) tests/bench/soak.py --short --gateway contour --json artifacts/soak-contour.json

# PICTURES=docs/images: and write the pictures of it for the README. CLUSTER_KIND=kind or own: do not choose.
.PHONY: demo demo-there
demo: setup ## the main job, live in the terminal; on kind where Docker works, else on the local cluster
	@$(if $(EXISTING),,environment="$$($(LOCAL) demo-up --cluster-kind "$(CLUSTER_KIND)")"; eval "$$environment";) \
	$(MAKE) --no-print-directory demo-there

demo-there: cluster-up
	@$(INSIDE) $(PY) -m demo $(if $(PICTURES),--pictures $(PICTURES))

.PHONY: demo-down
demo-down: cluster-down ## leave nothing running or mounted
	@$(LOCAL) demo-down
