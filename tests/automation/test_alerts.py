"""Who is told of what, and once: real runs, a real webhook and mailbox."""

from __future__ import annotations

import json
import ssl
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from c360_assets import alerts, automation, registers, transform
from c360_assets.alerts import Channel
from c360_assets.definitions import build_defs
from c360_assets.feeds import load_feeds
from c360_assets.settings import PROJECT, Settings
from c360_assets.warehouse import TEXT, TIMESTAMP, Warehouse, WarehouseRefused, open_warehouse
from tests.automation.conftest import Mailbox, Webhook


@dg.asset
def goods() -> None: ...


BROKEN = threading.Event()


@dg.op
def work() -> None:
    if BROKEN.is_set():
        raise RuntimeError("the customers' table is on fire\nand more")


@dg.job(name="customers_batch")
def feed_job() -> None:
    work()


@dg.job(name="customers_seconds")
def lap_job() -> None:
    work()


@dg.job(name="predictions")
def apart_job() -> None:
    work()


@dg.job(name="sync")
def whole_job() -> None:
    work()


class House:
    """A graph with one check, which passes, warns or fails as told, and its alert sensor."""

    def __init__(
        self, instance: dg.DagsterInstance, warehouse: Warehouse, *told_by: Channel, events_hours: float | None = None
    ) -> None:
        self.instance, self.warehouse, self.cursor, self.later = instance, warehouse, "", timedelta(0)
        self.passed, self.severity = True, dg.AssetCheckSeverity.ERROR

        @dg.asset_check(asset=goods)
        def sound() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=self.passed, severity=self.severity)

        feeds = load_feeds([PROJECT / "dbt" / "models" / "staging"])
        feeds["customers"] = replace(feeds["customers"], events_within_hours=events_hours)
        self.sensor = alerts.alert_sensor(
            told_by, "sync", {"predictions"}, feeds, warehouse,
            now=lambda: datetime.now(UTC) + self.later,
        )  # fmt: skip
        jobs = [feed_job, lap_job, apart_job, whole_job]
        self.defs = dg.Definitions([goods], asset_checks=[sound], jobs=jobs, sensors=[self.sensor])

    def check(self, passed: bool, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR) -> None:
        self.passed, self.severity = passed, severity
        self.defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance, raise_on_error=False
        )

    def run(self, job: dg.JobDefinition, breaks: bool) -> None:
        (BROKEN.set if breaks else BROKEN.clear)()
        job.execute_in_process(instance=self.instance, raise_on_error=False)

    def tick(self) -> str:
        context = dg.build_sensor_context(instance=self.instance, definitions=self.defs, cursor=self.cursor or None)
        told = self.sensor.evaluate_tick(context)
        self.cursor = told.cursor or self.cursor
        assert told.skip_message
        return told.skip_message


@pytest.fixture
def house(settings: Settings, instance: dg.DagsterInstance, webhook: Webhook) -> House:
    return House(instance, open_warehouse(settings), alerts.Webhook(webhook.address))


def texts(webhook: Webhook) -> list[str]:
    assert all(kind == "application/json" and list(sent) == ["text"] for kind, sent in webhook.posts)
    return [sent["text"] for _, sent in webhook.posts]


def test_a_failed_check_is_told_once_and_once_more_when_it_is_over(house: House, webhook: Webhook) -> None:
    house.check(True)
    assert house.tick() == "0 problems, all told" and webhook.posts == []
    house.check(False)
    assert "1 messages sent" in house.tick()
    house.check(False)
    assert house.tick() == "1 problems, all told"
    house.check(True)
    house.tick()
    house.tick()
    assert texts(webhook) == [
        "c360: 1 new problems, 0 over\nproblem: check sound of goods failed",
        "c360: 0 new problems, 1 over\nover: check sound of goods failed",
    ]


def test_a_check_that_is_about_to_run_again_is_as_it_was(house: House, webhook: Webhook) -> None:
    house.check(False)
    house.tick()
    house.instance.create_run_for_job(house.defs.resolve_implicit_global_asset_job_def())
    assert house.tick() == "1 problems, all told" and len(webhook.posts) == 1


def test_a_warning_that_becomes_a_failure_is_told_as_such(house: House, webhook: Webhook) -> None:
    house.check(False, dg.AssetCheckSeverity.WARN)
    house.tick()
    house.check(False)
    house.tick()
    assert [line for text in texts(webhook) for line in text.splitlines()[1:]] == [
        "problem: check sound of goods warns",
        "problem: check sound of goods failed",
        "over: check sound of goods warns",
    ]


def test_a_job_whose_runs_fail_is_one_problem_until_one_succeeds(house: House, webhook: Webhook) -> None:
    for _ in range(3):
        house.run(feed_job, breaks=True)
        house.tick()
    ((_, line),) = [text.splitlines() for text in texts(webhook)]
    assert line.startswith("problem: run ") and line.endswith(
        "customers_batch failed: RuntimeError: the customers' table is on fire"
    )
    house.run(feed_job, breaks=False)
    house.tick()
    assert texts(webhook)[1].startswith("c360: 0 new problems, 1 over\nover: run ")


def test_a_success_of_the_whole_job_settles_what_failed_before_it(house: House, webhook: Webhook) -> None:
    house.run(feed_job, breaks=True)
    house.tick()
    house.run(whole_job, breaks=True)
    house.tick()
    house.run(whole_job, breaks=False)
    house.tick()
    assert [text.splitlines()[0] for text in texts(webhook)] == [
        "c360: 1 new problems, 0 over",
        "c360: 1 new problems, 0 over",
        "c360: 0 new problems, 2 over",
    ]


def test_every_job_is_watched_and_what_the_whole_one_has_no_part_of_is_settled_by_itself(
    house: House, webhook: Webhook
) -> None:
    for job in (lap_job, apart_job):
        house.run(job, breaks=True)
    house.tick()
    (told,) = texts(webhook)
    assert "customers_seconds failed: " in told and "predictions failed: " in told
    house.run(whole_job, breaks=False)
    house.tick()
    house.run(apart_job, breaks=False)
    house.tick()
    over = [line for text in texts(webhook)[1:] for line in text.splitlines()]
    assert [over[0], over[2]] == ["c360: 0 new problems, 1 over"] * 2
    assert "customers_seconds failed: " in over[1] and "predictions failed: " in over[3]


def test_a_run_of_more_than_fifteen_minutes_is_told(house: House, webhook: Webhook) -> None:
    run = house.instance.create_run_for_job(feed_job, status=dg.DagsterRunStatus.STARTING)
    started = dg.DagsterEvent(event_type_value="PIPELINE_START", job_name="customers_batch")
    house.instance.report_dagster_event(started, run.run_id)
    house.later = timedelta(minutes=14)
    assert house.tick() == "0 problems, all told"
    house.later = timedelta(minutes=16)
    house.tick()
    assert texts(webhook)[0].endswith(f"problem: run {run.run_id[:8]} of customers_batch takes longer than 15 minutes")


def test_a_feed_that_is_late_is_told_until_something_comes(house: House, settings: Settings, webhook: Webhook) -> None:
    warehouse = open_warehouse(settings)
    assert house.tick() == "0 problems, all told"  # there is no warehouse, and no feed has ever come

    def comes(feed: str, at: datetime) -> None:
        with warehouse.writing("test") as session:
            registers.prepare_tables(session, [])
            values = [feed, at.replace(tzinfo=None)]
            session.execute("insert into staging.object_ledger (feed, key, loaded_at) values (?, 'k', ?)", values)

    now = datetime.now(UTC)
    comes("customers", now - timedelta(hours=23))
    comes("products", now - timedelta(days=9))  # it has no bound
    assert house.tick() == "0 problems, all told"
    house.later = timedelta(hours=2)
    house.tick()
    assert "problem: feed customers is late: nothing since" in texts(webhook)[0]
    comes("customers", now)
    house.tick()
    assert texts(webhook)[1].startswith("c360: 0 new problems, 1 over\nover: feed customers is late")


def test_a_warehouse_that_sleeps_is_asked_by_the_hour_and_what_it_told_stands(
    house: House, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float | None] = []
    late: Any = [WarehouseRefused("its credits are used up"), {"late customers": "feed customers is late"}, {}]

    def told(*arguments: Any) -> alerts.Problems:
        asked.append(1)
        said = late[len(asked) - 1]
        if isinstance(said, Exception):
            raise said
        return dict(said)

    monkeypatch.setattr(house.warehouse, "sleeps", True)
    monkeypatch.setattr(alerts, "late_feeds", told)
    began = datetime.now(UTC)
    past = timedelta(minutes=began.minute, seconds=began.second, microseconds=began.microsecond)
    for minutes in range(0, 3 * 60, 19):
        house.later = timedelta(minutes=minutes + automation.PAST_THE_HOUR) - past
        if minutes == 19:
            # Who is told later is told without another question.
            house.cursor, webhook.status = "", 500
            with pytest.raises(dg.Failure):
                house.tick()
            webhook.status = 200
            webhook.posts.clear()
        house.tick()
        assert len(asked) == 1 + minutes // 60
    assert texts(webhook) == [
        "c360: 1 new problems, 0 over\nproblem: the warehouse cannot be asked: its credits are used up",
        "c360: 1 new problems, 1 over\nproblem: feed customers is late\n"
        "over: the warehouse cannot be asked: its credits are used up",
        "c360: 0 new problems, 1 over\nover: feed customers is late",
    ]


def test_a_feed_that_brings_old_events_is_late_however_much_it_brings(
    instance: dg.DagsterInstance, settings: Settings, webhook: Webhook
) -> None:
    warehouse = open_warehouse(settings)
    house = House(instance, warehouse, alerts.Webhook(webhook.address), events_hours=2)
    now = datetime.now(UTC).replace(tzinfo=None)

    def happens(*times: datetime) -> None:
        with warehouse.writing("test") as session:
            registers.prepare_tables(session, [])
            session.ensure("clean.customer_rows", {"_feed": TEXT, "event_time": TIMESTAMP, "reasons": TEXT})
            session.execute(
                "insert into staging.object_ledger (feed, key, loaded_at) values ('customers', 'k', ?)", [now]
            )
            for time in times:
                session.execute("insert into clean.customer_rows values ('customers', ?, '[]')", [time])

    happens(now - timedelta(hours=1))
    assert house.tick() == "0 problems, all told"
    house.later = timedelta(hours=1, minutes=5)
    # Neither what a wrong clock dates ahead, nor what was refused, makes up for it.
    happens(now - timedelta(hours=5), now + timedelta(days=400))
    with warehouse.writing("test") as session:
        session.execute("insert into clean.customer_rows values ('customers', ?, '[\"bad_date\"]')", [now])
    house.tick()
    assert (
        f"feed customers is late: its newest event is of {now - timedelta(hours=1):%Y-%m-%d %H:%M}, 2 hours allowed"
        in texts(webhook)[0]
    )
    # What only the warehouse can tell is no more over than before while nobody can read it.
    with warehouse.writing("another run"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(alerts, "WAIT", 0.1)
        assert house.tick() == "1 problems, all told"
    happens(now)
    house.tick()
    assert texts(webhook)[1].startswith("c360: 0 new problems, 1 over\nover: feed customers is late")


def test_problems_are_mailed(settings: Settings, instance: dg.DagsterInstance, mailbox: Mailbox) -> None:
    mail = alerts.Mail(f"smtp://us%40er:pa%2Fss@127.0.0.1:{mailbox.port}", "c360@here.test", ("a@x.test", "b@x.test"))
    house = House(instance, open_warehouse(settings), mail)
    house.check(False)
    house.tick()
    (sent,) = mailbox.mails
    assert (sent["Subject"], sent["From"], sent["To"]) == (
        "c360: 1 new problems, 0 over", "c360@here.test", "a@x.test, b@x.test",
    )  # fmt: skip
    assert sent.get_content().strip() == "problem: check sound of goods failed"
    assert mailbox.logins == ["\0us@er\0pa/ss"]
    assert [line.split("<")[1].split(">")[0] for line in mailbox.recipients] == ["a@x.test", "b@x.test"]


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_mail_goes_over_tls_where_the_server_offers_it_and_to_no_server_that_cannot_be_trusted(
    scheme: str, certificate: Path, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailbox.tls, mailbox.at_once = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), scheme == "smtps"
    mailbox.tls.load_cert_chain(certificate)
    mail = alerts.Mail(f"{scheme}://user:pass@127.0.0.1:{mailbox.port}", "c360@here.test", ("a@x.test",))
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        mail.send("c360: a secret", ["of ours"])
    assert mailbox.logins == []
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    mail.send("c360: a secret", ["of ours"])
    assert (mailbox.logins, mailbox.in_secret) == (["\0user\0pass"], [True])
    assert [sent["Subject"] for sent in mailbox.mails] == ["c360: a secret"]


@pytest.mark.parametrize("status", [400, 404, 500])
def test_a_webhook_that_refuses_fails_the_tick_and_is_told_by_the_next(
    house: House, webhook: Webhook, status: int
) -> None:
    webhook.status = status
    house.check(False)
    with pytest.raises(Exception, match=str(status)):
        house.tick()
    webhook.status = 200
    assert "1 messages sent" in house.tick()
    assert texts(webhook)[0] == texts(webhook)[1]


def test_who_could_not_be_told_is_told_later_and_the_others_not_twice(
    settings: Settings, instance: dg.DagsterInstance, webhook: Webhook, mailbox: Mailbox
) -> None:
    port = mailbox.port
    house = House(
        instance,
        open_warehouse(settings),
        alerts.Webhook(webhook.address),
        mail := alerts.Mail("smtp://127.0.0.1:9", "c360@here.test", ("a@x.test",)),
    )
    house.check(False)
    assert "not by mail" in house.tick()
    object.__setattr__(mail, "url", f"smtp://127.0.0.1:{port}")
    house.tick()
    house.tick()
    assert len(webhook.posts) == len(mailbox.mails) == 1


@pytest.mark.parametrize("garbage", [b"\x15\x03\x01 what\r\n", b"HTTP/1.1 twohundred OK\r\n\r\n"])
def test_a_webhook_that_answers_garbage_keeps_nobody_else_from_being_told(
    settings: Settings, instance: dg.DagsterInstance, webhook: Webhook, mailbox: Mailbox, garbage: bytes
) -> None:
    webhook.garbage = garbage
    mail = alerts.Mail(f"smtp://127.0.0.1:{mailbox.port}", "c360@here.test", ("a@x.test",))
    house = House(instance, open_warehouse(settings), alerts.Webhook(webhook.address), mail)
    house.check(False)
    assert "told by 1; not by webhook: it answers with what is no HTTP: BadStatusLine" in house.tick()
    assert len(mailbox.mails) == 1


def test_a_password_that_cannot_be_sent_keeps_nobody_else_from_being_told_and_is_not_shown(
    settings: Settings, instance: dg.DagsterInstance, webhook: Webhook, mailbox: Mailbox
) -> None:
    mail = alerts.Mail(f"smtp://user:gef%C3%A4hrlich@127.0.0.1:{mailbox.port}", "c360@here.test", ("a@x.test",))
    house = House(instance, open_warehouse(settings), alerts.Webhook(webhook.address), mail)
    house.check(False)
    assert house.tick() == "told by 1; not by mail: UnicodeEncodeError in ascii"
    with pytest.raises(dg.Failure, match="nobody could be told: mail: UnicodeEncodeError in ascii"):
        house.tick()
    assert len(webhook.posts) == 1


def test_a_warehouse_that_refuses_is_a_problem_itself_and_hides_no_other(
    house: House, settings: Settings, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(wait: float | None = None) -> Any:
        raise WarehouseRefused("the token of user etl was refused: put a new one into SNOWFLAKE_TOKEN\nmore")

    with monkeypatch.context() as patch:
        patch.setattr(house.warehouse, "reading", refused)
        house.check(False)
        house.tick()
        house.tick()
    (told,) = texts(webhook)
    assert told.startswith("c360: 2 new problems, 0 over") and "problem: check sound of goods failed" in told
    assert told.endswith(
        "the warehouse cannot be asked: the token of user etl was refused: put a new one into SNOWFLAKE_TOKEN"
    )
    house.tick()
    assert texts(webhook)[1].startswith("c360: 0 new problems, 1 over\nover: the warehouse cannot be asked")


def test_what_one_channel_could_not_be_told_the_others_are_not_told_again(
    settings: Settings, instance: dg.DagsterInstance, webhook: Webhook, mailbox: Mailbox
) -> None:
    """A feed that was late, and is not, which the webhook cannot be told; and a warehouse that nobody can read."""
    warehouse = open_warehouse(settings)
    mail = alerts.Mail(f"smtp://127.0.0.1:{mailbox.port}", "c360@here.test", ("a@x.test",))
    house = House(instance, warehouse, alerts.Webhook(webhook.address), mail)

    def comes(at: datetime) -> None:
        with warehouse.writing("test") as session:
            registers.prepare_tables(session, [])
            came = "insert into staging.object_ledger (feed, key, loaded_at) values ('customers', 'k', ?)"
            session.execute(came, [at.replace(tzinfo=None)])

    comes(datetime.now(UTC) - timedelta(hours=30))
    house.tick()
    webhook.status = 500
    comes(datetime.now(UTC))
    house.tick()
    with warehouse.writing("another run"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(alerts, "WAIT", 0.1)
        assert house.tick() == "1 problems, all told"
    with pytest.raises(dg.Failure, match="webhook"):
        house.tick()
    assert [mail["Subject"] for mail in mailbox.mails] == [
        "c360: 1 new problems, 0 over",
        "c360: 0 new problems, 1 over",
    ]


def test_quotes_and_letters_of_any_language_reach_the_webhook(webhook: Webhook) -> None:
    alerts.Webhook(webhook.address).send("Łódź", ['"quoted"\n<&>'])
    assert texts(webhook) == ['Łódź\n"quoted"\n<&>']


def test_there_is_an_alert_with_a_webhook_and_none_without(tmp_path: Path) -> None:
    # Without feeds there is little graph; the manifest is the project's.
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps(EMPTY_MANIFEST))
    manifest.with_name(transform.FINGERPRINT).write_text("p1")

    def sensors(**environment: str) -> set[str]:
        settings = Settings.load({"C360_HOME": str(tmp_path)} | environment)
        return {s.name for s in build_defs(settings, manifest=manifest).sensors or ()}

    without = sensors()
    assert without and "alerts" not in without
    assert sensors(C360_ALERT_WEBHOOK="http://127.0.0.1:9/") == without | {"alerts"}


def test_the_webhook_is_shown_nowhere_for_it_is_a_secret(tmp_path: Path) -> None:
    settings = Settings.load({"C360_HOME": str(tmp_path), "C360_ALERT_WEBHOOK": "http://127.0.0.1:9/secret"})
    assert "secret" not in repr(settings)


EMPTY_MANIFEST: dict[str, Any] = {
    "metadata": {"adapter_type": "duckdb", "project_name": "c360"},
    "nodes": {
        "model.c360.customer_rows": {
            "unique_id": "model.c360.customer_rows", "resource_type": "model", "name": "customer_rows",
            "alias": "customer_rows", "schema": "clean", "database": "warehouse", "description": "", "tags": [],
            "config": {"meta": {}, "materialized": "view"}, "meta": {}, "columns": {}, "fqn": ["c360", "customer_rows"],
            "depends_on": {"nodes": []}, "original_file_path": "models/clean/customer_rows.sql", "package_name": "c360",
            "raw_code": "select 1", "relation_name": "x",
        }
    },
    "sources": {}, "metrics": {}, "exposures": {}, "semantic_models": {}, "saved_queries": {}, "unit_tests": {},
    "groups": {}, "selectors": {}, "child_map": {"model.c360.customer_rows": []},
    "parent_map": {"model.c360.customer_rows": []}, "macros": {}, "docs": {}, "disabled": {},
}  # fmt: skip
