# make help lists what there is. Everything is installed into .venv; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes

.DEFAULT_GOAL := help
.PHONY: help install demo up test lint types prove mutate chaos erasure snowflake snowflake-check bench browser lock clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 24

install: $(INSTALLED) ## everything into .venv

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed; name one: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@# The lock is complete, so pip need not resolve: with hashes it would refuse the extras that some packages ask for. What
	@# takes its time is unpacking, on one core: two halves, side by side.
	@awk '/^[a-z0-9]/ { half = !half } { print > "$(VENV)/" (half ? "one" : "other") ".lock" }' requirements.lock
	$(PIP) -r $(VENV)/one.lock & one=$$!; $(PIP) -r $(VENV)/other.lock; other=$$?; wait $$one && exit $$other
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@# pip would compile on one core. Some packages ship templates that are no Python: not an error of ours.
	@$(BIN)/python -m compileall -q -q -j 0 $(VENV)/lib || true
	@touch $@

DEMO := .c360/demo
demo: install ## the main job once, on generated data: customer files and till receipts, from S3 to history and sales
	@$(BIN)/c360 prepare & # dbt reads its project while files are made and landed
	$(BIN)/python -m generator customers --customers 1000 --days 1 --interval 21600 --rows-per-file 1500 --faults --seed 7 --out $(DEMO)
	$(BIN)/python -m generator pos --stores 5 --days 2 --interval 14400 --receipts-per-object 100 --foreign 0.4 --faults --seed 7 --out $(DEMO)
	$(BIN)/c360 land $(DEMO)/customers --feed customers
	$(BIN)/c360 land $$(find $(DEMO)/pos -type f | sort) --feed pos
	$(BIN)/c360 sync
	@echo; echo "What was loaded, refused and checked:"
	@$(BIN)/c360 status
	@echo; echo "One customer's history:"
	@$(BIN)/c360 query "select customer_id, city, valid_from, valid_to, change_type, ended_by from core.customer_history where customer_id = (select customer_id from core.customer_history group by 1 order by count(*) desc, 1 limit 1) order by valid_from"
	@echo; echo "Daily sales:"
	@$(BIN)/c360 query "select sales_date, store_id, currency, count_transactions, units_sold, gross_revenue, refunds, net_revenue from gold.daily_sales_summary order by 1, 2, 3 limit 12"
	@echo; echo "To look at it: make up, then http://127.0.0.1:3000, the API at http://127.0.0.1:8000/docs, dashboards at http://127.0.0.1:8501    What was refused: .venv/bin/c360 quarantine show"

up: install ## S3, generator, Dagster UI and daemon with the sensors on, API, dashboards; Ctrl-C stops it all
	@$(BIN)/c360 up --generate

test: install ## lint, type check, all tests
	@$(MAKE) --no-print-directory -j 2 lint types
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/sqlfluff lint dbt/models dbt/analyses --processes 1

types: install
	$(BIN)/mypy

prove: install ## random streams through the engine against the oracle for SECONDS (default 600), after more rounds of the random tests
	C360_PROOF=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests/engine/test_clicks.py tests/engine/test_star.py tests/engine/test_streams.py tests/engine/test_till.py \
		tests/engine/test_replay.py tests/definitions/test_checks_block.py tests/automation/test_sensors.py tests/platform/test_clickstream.py tests/platform/test_entities.py \
		tests/platform/test_online_retail.py tests/platform/test_real_files.py tests/platform/test_till.py tests/platform/test_vault.py
	$(BIN)/python -m tests.prove --seconds $(or $(SECONDS),600)

mutate: install ## each rule of the engine's SQL changed, one at a time: does a round of the proof fail? (half an hour on two cores)
	$(BIN)/python -m tests.mutate

chaos: install ## kill -9: at many moments of loads and syncs (ROUNDS, default 30), and of everything that `up` runs, under load (MINUTES, default 10)
	C360_CHAOS=1 $(BIN)/python -m pytest tests/platform/test_kill.py tests/platform/test_backup.py tests/platform/test_remembering.py tests/automation/test_up.py \
		tests/automation/test_worker_stops.py tests/streams/test_kafka.py tests/streams/test_kinesis.py
	$(BIN)/python -m tests.chaos --rounds $(or $(ROUNDS),30)
	$(BIN)/python -m tests.chaos_up --minutes $(or $(MINUTES),10)

erasure: install ## a person of every feed forgotten, everything made again from S3, every byte looked at (several minutes)
	C360_ERASURE=1 $(BIN)/python -m pytest tests/platform/test_forget.py

COMPARED_TESTS := tests/platform/test_snowflake.py tests/platform/test_snowflake_access.py tests/platform/test_snowflake_check.py \
	tests/platform/test_snowflake_failures.py tests/platform/test_snowflake_worker.py tests/platform/test_shops.py tests/platform/test_native.py \
	tests/platform/test_arrivals.py tests/platform/test_online_retail.py
SNOWFLAKE_TESTS := tests/automation/test_object_sensor.py tests/automation/test_sensors.py tests/platform/test_ledger.py tests/platform/test_audit.py tests/platform/test_changes.py tests/platform/test_clickstream.py tests/platform/test_commands.py \
	tests/platform/test_engines.py tests/platform/test_entities.py tests/platform/test_forget.py tests/platform/test_history.py tests/platform/test_northwind.py \
	tests/platform/test_persons.py tests/platform/test_quarantine.py tests/platform/test_real_files.py tests/platform/test_till.py \
	tests/platform/test_vault.py
snowflake: install ## what compares DuckDB and fakesnow at length, and most of the platform's tests on fakesnow (far more than an hour)
	@# Both are run whatever fails; the target fails if either does.
	@TEST_WAREHOUSE=both $(BIN)/python -m pytest -n 2 --dist loadfile $(COMPARED_TESTS); compared=$$?; \
		TEST_WAREHOUSE=snowflake $(BIN)/python -m pytest -n 2 --dist loadfile $(SNOWFLAKE_TESTS) && exit $$compared

snowflake-check: install ## on an account: what cannot be run without one, and what held (ROLE_ARN=... for stage and pipes)
	$(BIN)/python -m tests.snowflake_check $(if $(ROLE_ARN),--role-arn $(ROLE_ARN))

bench: install ## everything that is measured: ratios, plots in docs/bench (hours; the API's wants wrk, the dashboards' Chromium)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements-all.lock
	$(BIN)/python -m bench.throughput
	$(BIN)/python -m bench.late_file
	$(BIN)/python -m bench.late_order
	$(BIN)/python -m bench.vault
	$(BIN)/python -m bench.memory
	$(BIN)/python -m bench.history --part all
	$(BIN)/python -m bench.api
	$(BIN)/python -m bench.dashboard
	$(BIN)/python -m bench.kafka
	$(BIN)/python -m bench.seconds
	$(BIN)/python -m bench.waiting

browser: install ## Chromium for the browser tests (Debian)
	apt-get install -y --no-install-recommends chromium chromium-driver
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements-all.lock

lock: ## the locks anew: names, versions and hashes, no addresses
	uv pip compile pyproject.toml --extra test --extra dashboard --extra streams --extra broker --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements.lock
	uv pip compile pyproject.toml --extra deploy --extra dashboard --extra streams --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -c requirements.lock -o requirements-deploy.lock
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -c requirements.lock -o requirements-all.lock

clean: ## .venv and the home of the demo
	rm -rf $(VENV) .c360
