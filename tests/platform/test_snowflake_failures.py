"""What a network and an account do to a load and a build on Snowflake: told clearly, and nothing half done.

The real connector and dbt-snowflake, with a proxy before fakesnow that refuses, cuts and delays. The codes and texts are
those that Snowflake documents.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from c360_assets.landing import Bucket
from c360_assets.settings import Settings
from c360_assets.snowflake.warehouse import SnowflakeWarehouse
from c360_assets.warehouse import WarehouseRefused, may_pass
from tests.parts import BuildFailed, Platform, on_both, on_duckdb
from tests.proxy import LOGIN, QUERY, Between, Fault, between

pytestmark = on_duckdb

ROWS = b"customer_id,first_name,city,updated_at,op\n1,Ada,Rome,2024-01-01,I\n2,Bob,Oslo,2024-01-01,I\n"
LATER = b"customer_id,first_name,city,updated_at,op\n1,Ada,Bonn,2024-01-02,U\n3,Eve,Oslo,2024-01-03,I\n"


@pytest.fixture
def network(fakesnow: int) -> Iterator[Between]:
    with between(fakesnow) as running:
        yield running


@pytest.fixture
def through(on_snowflake: Settings, network: Between) -> Settings:
    """Settings that reach fakesnow through the proxy."""
    return replace(on_snowflake, snowflake=replace(on_snowflake.snowflake, port=network.port))


@pytest.fixture
def impatient(through: Settings, bucket: Bucket) -> Platform:
    """A platform whose connector gives up after seconds."""
    warehouse = SnowflakeWarehouse(through.snowflake, login_timeout=3, network_timeout=3)
    return Platform(through, bucket, warehouse=warehouse)


def counts(platform: Platform) -> tuple[int, int]:
    """Rows of staging and of the ledger."""
    ((rows,),) = platform.rows("select count(*) from staging.customers")
    ((objects,),) = platform.rows("select count(*) from staging.object_ledger")
    return rows, objects


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (("390100", "Incorrect username or password was specified."), ("user fake was refused", "SNOWFLAKE_PASSWORD")),
        (("390318", "OAuth access token expired. [1172527951366]"), ("token of user fake", "SNOWFLAKE_TOKEN")),
        (("390144", "JWT token is invalid. [92d86de1]"), ("key of user fake", "RSA_PUBLIC_KEY")),
        (
            ("390422", "Incoming request with IP/Token 203.0.113.7 is not allowed to access Snowflake."),
            ("account fakesnow", "network policy"),
        ),
    ],
    ids=["password", "token", "key", "address"],
)
def test_a_login_that_is_refused_names_the_reason_and_the_remedy_and_is_not_tried_again(
    impatient: Platform, network: Between, answer: tuple[str, str], told: tuple[str, str]
) -> None:
    network.faults.append(Fault(LOGIN, answer=answer, times=9))
    with pytest.raises(WarehouseRefused) as refused:
        impatient.load()
    assert all(words in str(refused.value) for words in (*told, answer[1]))
    assert "snow" not in str(refused.value).replace("Snowflake", "").replace("SNOWFLAKE", "").replace("fakesnow", "")
    assert not may_pass(refused.value)
    assert network.faults[0].met == 1


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            ("000606", "No active warehouse selected in the current session."),
            ("warehouse wh set auto_resume", "grant usage"),
        ),
        (
            ("090073", "Warehouse 'WH' cannot be resumed because resource monitor 'M' has exceeded its quota."),
            ("warehouse wh has used up", "quota"),
        ),
        (
            ("000630", "Statement reached its statement or warehouse timeout of 60 second(s) and was canceled."),
            ("STATEMENT_TIMEOUT_IN_SECONDS", "C360_BATCH_BYTES"),
        ),
    ],
    ids=["suspended", "quota", "time-out"],
)
def test_a_load_that_the_account_stops_leaves_nothing_and_says_what_to_do(
    impatient: Platform, network: Between, answer: tuple[str, str], told: tuple[str, str]
) -> None:
    impatient.put("a.csv", ROWS)
    network.faults.append(Fault(QUERY, "^copy into staging.customers", answer=answer))
    with pytest.raises(WarehouseRefused) as refused:
        impatient.load()
    assert all(words in str(refused.value) for words in (*told, answer[1]))
    assert not may_pass(refused.value)
    assert counts(impatient) == (0, 0)
    assert impatient.load().rows == 2
    assert counts(impatient) == (2, 1)


def test_a_lock_that_is_waited_for_in_vain_is_tried_again(impatient: Platform, network: Between) -> None:
    impatient.put("a.csv", ROWS)
    network.faults.append(Fault(QUERY, "^update staging.load_turn", answer=("000625", "Statement has locked table.")))
    with pytest.raises(WarehouseRefused, match="LOCK_TIMEOUT") as refused:
        impatient.load()
    assert may_pass(refused.value)


@pytest.mark.parametrize("statement", ["^copy into", "^insert into staging.object_ledger"])
def test_a_connection_that_drops_in_a_load_leaves_nothing_of_it(
    impatient: Platform, network: Between, statement: str
) -> None:
    impatient.load()  # the tables are there
    impatient.put("a.csv", ROWS)
    # The connector's own attempts end in vain.
    network.faults.append(Fault(QUERY, statement, cut="before", times=200))
    with pytest.raises(WarehouseRefused) as refused:
        impatient.load()
    assert "was not reached" in str(refused.value) and may_pass(refused.value)
    network.faults.clear()
    assert counts(impatient) == (0, 0)
    assert impatient.load().rows == 2
    assert counts(impatient) == (2, 1)


def test_a_rollback_that_does_not_get_through_hides_nothing(impatient: Platform, network: Between) -> None:
    impatient.load()
    impatient.put("a.csv", ROWS)
    network.faults += [Fault(QUERY, "^copy into", answer=("000630", "Statement reached its time-out."))]
    network.faults += [Fault(QUERY, "^rollback$", cut="before", times=200)]
    with pytest.raises(WarehouseRefused, match="STATEMENT_TIMEOUT_IN_SECONDS"):
        impatient.load()


def test_a_connection_that_drops_once_is_not_noticed(impatient: Platform, network: Between) -> None:
    impatient.put("a.csv", ROWS)
    network.faults.append(Fault(QUERY, "^update staging.load_turn", cut="before"))
    assert impatient.load().rows == 2
    assert network.faults[0].met == 1
    assert counts(impatient) == (2, 1)


def test_a_commit_of_which_the_answer_is_lost_counts_once(impatient: Platform, network: Between) -> None:
    impatient.put("a.csv", ROWS)
    network.faults.append(Fault(QUERY, "^commit$", cut="after", times=200))
    with pytest.raises(WarehouseRefused):
        impatient.load()
    network.faults.clear()
    assert impatient.load().rows == 0, "the ledger knows that it is there"
    assert counts(impatient) == (2, 1)


def test_a_slow_network_only_takes_longer(impatient: Platform, network: Between) -> None:
    impatient.put("a.csv", ROWS)
    network.faults.append(Fault(QUERY, "^copy into", delay=2.0))
    assert impatient.load().rows == 2


def test_a_commit_that_is_refused_leaves_no_transaction_open(impatient: Platform, network: Between) -> None:
    impatient.load()
    impatient.put("a.csv", ROWS)
    network.faults.append(Fault(QUERY, "^commit$", answer=("000603", "Processing aborted by error 300010.")))
    with impatient.warehouse.kept("laps"):
        with pytest.raises(WarehouseRefused, match="300010"):
            impatient.load()
        assert impatient.load().rows == 2
    assert counts(impatient) == (2, 1)


@on_both
@pytest.mark.parametrize("fault", [{"status": 503}, {"cut": "before"}], ids=["unavailable", "cut"])
def test_a_service_that_stays_away_ends_a_build(impatient: Platform, network: Between, fault: dict[str, Any]) -> None:
    """dbt names the connector no time-out: without ours it tries for ever."""
    impatient.load()
    impatient.build("--select", "json_raw_data")
    gone = Fault(QUERY, '"app": "dbt"', times=1000, **fault)
    network.faults.append(gone)
    started = time.monotonic()
    with pytest.raises(BuildFailed) as failed:
        impatient.build("--select", "json_raw_data")
    assert gone.met > 1, "it was tried again"
    assert time.monotonic() - started < 120
    assert may_pass(failed.value)


@on_both
def test_a_build_that_fails_within_a_transaction_leaves_nothing_of_it(
    through: Settings, settings: Settings, bucket: Bucket, network: Between
) -> None:
    """dbt keeps the session, with the open transaction in it, for the models that follow: with one thread for all of them.

    A session that ends is rolled back by Snowflake; fakesnow does not hear of its end.
    """
    platform = Platform(through, bucket)
    platform.put("a.csv", ROWS)
    platform.sync()
    platform.put("b.csv", LATER)
    platform.load()
    before = platform.digest()
    failing = Fault(QUERY, "select 'customer_log', batch", answer=("000603", "Processing aborted by error 300010."))
    network.faults.append(failing)
    with pytest.raises(BuildFailed, match="300010"):
        platform.build("--threads", "1")
    assert failing.met == 1
    assert platform.digest() == before
    platform.build()
    other = Platform(settings, bucket)
    other.sync()
    assert platform.digest() == other.digest()
