# Everything a person or CI does here. `make help` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
FAMILY ?= qwen2.5-coder
PROMPT ?= build/example.prompt
RECORDING ?= plans/recordings/$(FAMILY)$(addprefix -,$(KIND))
RECORDINGS ?= $(wildcard plans/recordings/$(FAMILY) plans/recordings/$(FAMILY)-*)
DATASET ?= humaneval
TRACES ?= ../shared/traces/wizardcoder_python_humaneval
HOST ?= 127.0.0.1
HTTP_PORT ?= 8000
GRPC_PORT ?= 8001
METRICS_PORT ?= 8002
HEALTH_PORT ?= 8003
GATEWAY_PORT ?= 8080
GPU ?= h100

BIN := var/venv/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
ENVIRONMENT = var/venv/.ready-$(VERSION)
CONVERSION = var/venv/.conversion-$(VERSION)
DEPLOY = var/venv/.deploy-$(VERSION)
LOCK := --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url --no-header
FAST := tests/unit tests/cascade tests/sandbox
# To import torch and transformers takes as long as a third of the fast tests.
NEED_TORCH := $(addprefix tests/unit/,backend/test_llm_api.py backend/test_token_path_tokenizers.py build/test_codegen_gptj.py build/test_preflight.py client/test_weights.py)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup run serve test test-fast check lock audit eval-smoke bench-overhead bench-gateway bench-recovery load chaos bench-sandbox soak-sandbox \
	record evidence price engines search report bench check-published check-published-verdicts check-reading bench-search bench-savings published-samples search-published clean distclean environment \
	conversion plan-gpus

help: ## What can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: environment ## Everything the other targets need: environment, Triton server, weights (they call it themselves)
	@$(BIN)/python -m codecascade_build.stack fetch --family $(FAMILY)

run: environment ## One prompt through the cascade on a real Triton: code on stdout, the rest on stderr (PROMPT=file, PLAN)
	@$(BIN)/python -m codecascade_build.stack run --family $(FAMILY) -- codecascade complete --prompt-file "$(PROMPT)" $(addprefix --plan ,$(PLAN))

serve: environment ## The same server and the HTTP gateway, until Ctrl-C (HOST, HTTP_PORT, GRPC_PORT, METRICS_PORT, HEALTH_PORT, GATEWAY_PORT)
	@$(BIN)/python -m codecascade_build.stack serve --family $(FAMILY) --host $(HOST) \
		--http-port $(HTTP_PORT) --grpc-port $(GRPC_PORT) --metrics-port $(METRICS_PORT) --health-port $(HEALTH_PORT) --gateway-port $(GATEWAY_PORT)

test: setup ## All tests, on a real server with real weights (ARGS="-k name" for some)
	@$(MAKE) $(DEPLOY)
	@$(MAKE) conversion || [ -z "$${CI:-}" ]
	@$(BIN)/pytest $(ARGS)

test-fast: environment ## Unit, cascade and sandbox tests within a minute: no server, no weights, no torch, hostile programs at one level
	@$(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal -m "not slow and not models" $(addprefix --ignore=,$(NEED_TORCH)) $(FAST) $(ARGS)

check: environment ## Lint, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

lock: environment ## Bring the locks up to date with pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra bench --extra offline --extra gateway --extra cpu --extra telemetry --extra dev --group build $(LOCK) -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra conversion --constraint requirements.lock --no-emit-package torch $(LOCK) \
		-o requirements-conversion.lock
	$(BIN)/uv pip compile pyproject.toml --extra cpu --extra gateway --constraint requirements.lock $(LOCK) -o requirements-images.lock
	$(BIN)/uv pip compile --group clients $(LOCK) -o requirements-clients.lock
	$(BIN)/uv pip compile --group deploy --constraint requirements.lock $(LOCK) -o requirements-deploy.lock

audit: environment ## Which locked packages have known vulnerabilities; needs the Python Package Index itself, a mirror does not know
	@for lock in requirements*.lock; do \
		$(BIN)/uv tool run pip-audit==2.10.1 --strict --disable-pip --require-hashes --requirement $$lock || exit 1; done

eval-smoke: environment ## HumanEval/0 to 19 live with a shipped plan, at least 15 right and as promised (PLAN=name, default balanced)
	@$(BIN)/python -m codecascade_build.stack run --family $(FAMILY) -- \
		codecascade eval --tasks 0-19 --at-least 15 --promised plans/$(FAMILY).json --recording $(RECORDING) $(addprefix --plan ,$(PLAN))

bench-overhead: setup ## The cascade's own time per request, beside the floor of empty Triton calls
	@$(BIN)/python -m tests.bench.overhead

bench-recovery: setup ## How long a server takes to recover from the death of one of its processes, and what callers and probes see (ARGS)
	@$(BIN)/python -m tests.bench.recovery $(ARGS)

load: setup ## Latency, throughput and refusals at 1 to 600 requests in flight and above the bound; exit code 1 for errors or requests sent upward (ARGS)
	@$(BIN)/python -m tests.bench.load $(ARGS)

chaos: setup ## Requests, money and probes while processes die, tiers hang and clients vanish; exit code 1 if one is wrong, late or lost (ARGS)
	@$(BIN)/python -m tests.bench.chaos $(ARGS)

bench-gateway: setup ## What the HTTP gateway costs beside the gRPC call and Triton's own HTTP, and how soon it cancels
	@$(BIN)/python -m tests.bench.gateway

bench-sandbox: environment ## How many candidates the sandbox judges per second
	@$(BIN)/python -m tests.bench.bench_sandbox

soak-sandbox: environment ## The sandbox under hostile candidates for a while
	@$(BIN)/python -m tests.bench.soak_sandbox

record: environment ## Record every tier on a dataset and judge it: hours on 2 cores, resumes (DATASET, KIND=infill, RECORDING=folder, ARGS)
	@$(BIN)/python -m codecascade_build.stack run --family $(FAMILY) -- codecascade record $(RECORDING) \
		--dataset $(addsuffix :,$(KIND))$(DATASET) --deployment var/model_repository/$(FAMILY)-llama_cpp.json $(ARGS)
	@$(BIN)/codecascade verdicts $(RECORDING) --dataset $(addsuffix :,$(KIND))$(DATASET)

evidence: environment ## How far each kind of evidence in a recording can be trusted (RECORDING=folder)
	@$(BIN)/codecascade evidence $(RECORDING)

price: environment ## What a token costs on each tier, measured (ARGS="--dollars-per-hour 0.10")
	@$(BIN)/python -m codecascade_build.stack run --family $(FAMILY) -- \
		codecascade price --deployment var/model_repository/$(FAMILY)-llama_cpp.json $(ARGS)

engines: $(if $(DRY_RUN),environment,conversion) ## TensorRT-LLM engines of FAMILY, inside its image (GPU, TIER, GPUS, RUNTIME; DRY_RUN=1 prints the commands)
	@$(BIN)/python -m codecascade_build.engines build --family $(FAMILY) --gpu $(GPU) --python $(PYTHON) $(addprefix --tier ,$(TIER)) \
		$(addprefix --gpus ,$(GPUS)) $(addprefix --runtime ,$(RUNTIME)) $(addprefix --quantize ,$(QUANTIZE)) \
		$(if $(DRY_RUN),--dry-run)

plan-gpus: environment ## Which tiers of FAMILY fit on GPUs, and how, before anything is built (GPU=l40s GPUS=4, ARGS="--render")
	@$(BIN)/python -m codecascade_build.plan_gpus --family $(FAMILY) --gpus $(or $(GPUS),1)x$(GPU) $(ARGS)

search: environment ## Search the plans of recordings into plans/FAMILY.json (RECORDINGS="folder …", ARGS)
	@$(BIN)/codecascade search $(RECORDINGS) $(ARGS)

report: environment ## The search as one HTML page with charts, in var/report (RECORDINGS="folder …", ARGS)
	@$(BIN)/codecascade report $(RECORDINGS) $(ARGS)

bench: environment ## The chosen plans and each tier alone, live on the held-out tasks, against what was promised (ARGS)
	@$(BIN)/python -m codecascade_build.stack run --family $(FAMILY) -- codecascade bench plans/$(FAMILY).json $(ARGS)

check-published: environment ## Every plan of the paper's published runs, replayed and compared (TRACES=folder)
	@$(BIN)/python -m tests.bench.check_published $(TRACES)

check-published-verdicts: environment ## The paper's published samples, judged by the sandbox and compared (TRACES=folder)
	@$(BIN)/python -W ignore -m tests.bench.check_published_verdicts $(TRACES)

check-reading: environment ## Answers of every kind and the published ones: which are read into the right program (TRACES=folder)
	@$(BIN)/python -W ignore -m tests.bench.check_reading $(TRACES)

bench-search: environment ## The exact frontier of 10⁸ plans of the published runs, beside an enumeration (TRACES=folder)
	@$(BIN)/python -m tests.bench.bench_search $(TRACES)

bench-savings: environment ## What searched plans save on held-out tasks, 20 splits, and each kind of evidence left out: our own recordings, then the published runs (TRACES=folder), whose 49,692 programs it judges once
	@$(BIN)/python -m tests.bench.bench_savings --own $(RECORDINGS)
	@rm -rf var/published
	@$(BIN)/codecascade import-published $(TRACES) var/published --stages
	@$(BIN)/codecascade search var/published --out var/published-plans.json
	@echo "That was the paper's mode, on its authors' own scores. Plans with given tests need the published programs judged."
	@$(MAKE) published-samples
	@$(BIN)/python -m tests.bench.bench_savings var/published-samples

published-samples: environment ## The 49,692 published programs in var/published-samples, judged: once, resumes (TRACES=folder)
	@[ -e var/published-samples/manifest.json ] || $(BIN)/codecascade import-published $(TRACES) var/published-samples
	@$(BIN)/codecascade verdicts var/published-samples --line-cpu-s 0.2 --solution-cpu-s 0.6 --benchmark-cpu-s 1

search-published: published-samples ## plans/wizardcoder-python.json, searched on the published programs (TRACES=folder)
	@$(BIN)/codecascade search var/published-samples

clean: ## Remove what was generated, keep the downloads in var/cache
	@if [ -d var ]; then find var -mindepth 1 -maxdepth 1 ! -name cache -exec rm -rf {} +; fi
	@find . -name __pycache__ -not -path './var/*' -prune -exec rm -rf {} +
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis dist

distclean: clean ## Remove the downloads too
	@rm -rf var

environment: $(ENVIRONMENT)

conversion: environment ## Add torch and transformers to the environment: for converting checkpoints, and the tests of that
	@$(MAKE) $(CONVERSION)

$(ENVIRONMENT): requirements.lock pyproject.toml build/environment.py
	@case "$(VERSION)" in 3.10|3.11|3.12|3.13) ;; *) \
		echo "error: $(PYTHON) is Python '$(VERSION)', 3.10 to 3.13 are needed: make PYTHON=python3.12 …" >&2; exit 1;; esac
	@$(PYTHON) build/environment.py var/venv
	@rm -f var/venv/.ready-*
	@touch $@

$(CONVERSION): requirements-conversion.lock pyproject.toml build/environment.py
	@$(BIN)/python build/environment.py var/venv --conversion
	@touch $@

$(DEPLOY): requirements-deploy.lock build/environment.py
	@$(BIN)/python build/environment.py var/venv --deploy
	@touch $@
