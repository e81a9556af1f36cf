"""Alerts: people are told of a problem once, and once more when it is over.

Belongs here: what counts as a problem, where it is sent (a webhook as Slack takes it, mail), the sensor that compares
what is wrong now with what was told. What could not be sent is sent by the next tick.
"""

from __future__ import annotations

import json
import smtplib
import ssl
import urllib.request
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from http.client import HTTPException
from typing import Protocol
from urllib.parse import unquote, urlsplit

import dagster as dg

from c360_assets import instants
from c360_assets.automation import PAST_THE_HOUR
from c360_assets.feeds import Feed
from c360_assets.freshness import is_late, newest_events
from c360_assets.settings import Settings
from c360_assets.status import check_status, last_checks
from c360_assets.warehouse import NoWarehouse, Warehouse, WarehouseBusy, WarehouseRefused

INTERVAL = 60
LONG = timedelta(minutes=15)
WAIT = 5.0
PATIENCE = 10.0
SHOWN = 300

# How the keys of problems begin that only the warehouse can tell: a feed sends nothing, or only what is old.
LATE, OLD = "late", "old"
_OF_FEEDS = (f"{LATE} ", f"{OLD} ")
_UNREACHED = "warehouse"

Problems = dict[str, str]


class Channel(Protocol):
    """Where people are told."""

    @property
    def name(self) -> str: ...

    def send(self, subject: str, lines: Sequence[str]) -> None:
        """Raises OSError where it was not taken."""
        ...


@dataclass(frozen=True)
class Webhook:
    """Posts `{"text": ...}`, which Slack and its like take."""

    url: str
    name: str = "webhook"

    def send(self, subject: str, lines: Sequence[str]) -> None:
        request = urllib.request.Request(
            self.url,
            data=json.dumps({"text": "\n".join([subject, *lines])}).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE):
                return
        except HTTPException as error:
            raise OSError(f"it answers with what is no HTTP: {error!r}") from None


@dataclass(frozen=True)
class Mail:
    """Mail by SMTP. `url`: smtp://user:password@host:port, which goes over to TLS where the server offers it, or smtps://."""

    url: str
    sender: str
    recipients: tuple[str, ...]
    name: str = "mail"

    def send(self, subject: str, lines: Sequence[str]) -> None:
        message = EmailMessage()
        message["Subject"], message["From"], message["To"] = subject, self.sender, ", ".join(self.recipients)
        message.set_content("\n".join(lines) + "\n")
        at = urlsplit(self.url)
        host, context = at.hostname or "localhost", ssl.create_default_context()
        with (
            smtplib.SMTP_SSL(host, at.port or 465, timeout=PATIENCE, context=context)
            if at.scheme == "smtps"
            else smtplib.SMTP(host, at.port or 25, timeout=PATIENCE)
        ) as server:
            server.ehlo()
            if at.scheme == "smtp" and server.has_extn("starttls"):
                server.starttls(context=context)
                server.ehlo()
            if at.username:
                server.login(unquote(at.username), unquote(at.password or ""))
            server.send_message(message)


def channels(settings: Settings) -> list[Channel]:
    """Those that the settings name."""
    found: list[Channel] = []
    if settings.alert_webhook:
        found.append(Webhook(settings.alert_webhook))
    if settings.alert_smtp:
        found.append(Mail(settings.alert_smtp, settings.alert_from, settings.alert_to))
    return found


def alert_sensor(
    told_by: Sequence[Channel],
    whole_job: str,
    apart: Collection[str],
    feeds: Mapping[str, Feed],
    warehouse: Warehouse,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dg.SensorDefinition:
    """Tells each channel what is wrong that it was not told, and what is over.

    `feeds`: their bounds say which is late; a warehouse that sleeps is asked for it once an hour. A success of
    `whole_job` settles what failed before it in every job but those `apart`, which it has no part of.
    """
    heard: dict[int, tuple[Problems, tuple[str, ...]]] = {}

    def of_feeds() -> tuple[Problems, tuple[str, ...]]:
        """What only the warehouse tells, and how the keys begin of what it does not tell now. One that sleeps is asked
        once an hour, and again by a process that begins anew."""
        hour = instants.hour(now(), PAST_THE_HOUR)
        if hour not in heard or not warehouse.sleeps:
            heard.clear()
            try:
                heard[hour] = late_feeds(warehouse, feeds, now()), ()
            except WarehouseBusy:
                heard[hour] = {}, _OF_FEEDS
            except WarehouseRefused as error:
                refused = f"the warehouse cannot be asked: {str(error).splitlines()[0][:SHOWN]}"
                heard[hour] = {_UNREACHED: refused}, _OF_FEEDS
        return heard[hour]

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Failed or warning checks, failed or long runs, late feeds: told once, and once more when over.",
    )
    def watch(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        told: dict[str, Problems] = json.loads(context.cursor or "{}")
        there = context.repository_def
        wrong = {
            **failing_checks(context.instance, there.asset_graph.asset_check_keys if there else ()),
            **troubled_runs(context.instance, there.job_names if there else (), whole_job, apart, now()),
        }
        late, unknown = of_feeds()
        wrong |= late
        # A channel that is not set any more is told anew when it is set again.
        told = {channel.name: told.get(channel.name, {}) for channel in told_by}
        sent, errors, known = 0, [], dict(wrong)
        for channel in told_by:
            was = told[channel.name]
            # What was late still is, as far as anybody can tell.
            still = wrong | {key: text for key, text in was.items() if key.startswith(unknown)}
            known |= still
            begun = {key: text for key, text in still.items() if key not in was}
            over = {key: text for key, text in was.items() if key not in still}
            if not begun and not over:
                continue
            subject = f"c360: {len(begun)} new problems, {len(over)} over"
            try:
                channel.send(
                    subject, [*(f"problem: {t}" for t in begun.values()), *(f"over: {t}" for t in over.values())]
                )
            # smtplib's and urllib's errors among them, and what a password or an address says that they cannot send.
            except (OSError, ValueError) as error:
                errors.append(f"{channel.name}: {_shown(error)}")
                continue
            told[channel.name] = {key: was.get(key, text) for key, text in still.items()}
            sent += 1
        if errors and not sent:
            raise dg.Failure(description=f"nobody could be told: {'; '.join(errors)}")
        context.update_cursor(json.dumps(told))
        if errors:
            return dg.SkipReason(f"told by {sent}; not by {'; '.join(errors)}")
        return dg.SkipReason(
            f"{len(known)} problems; {sent} messages sent" if sent else f"{len(known)} problems, all told"
        )

    return watch


def failing_checks(instance: dg.DagsterInstance, keys: Iterable[dg.AssetCheckKey]) -> Problems:
    """Checks whose last word is that they failed or warn."""
    records = last_checks(instance, list(keys))
    found = [check_status(key, record) for key, record in records.items()]
    return {
        f"check {c.asset}:{c.check} {c.status}": f"check {c.check} of {c.asset} {c.status}"
        for c in found
        if c.status in ("failed", "warns")
    }


def troubled_runs(
    instance: dg.DagsterInstance, jobs: Iterable[str], whole_job: str, apart: Collection[str], now: datetime
) -> Problems:
    """Jobs whose last run failed, and runs that take longer than they should. Of `jobs` those count that have a name of
    ours: what a person makes by hand in the UI they watch themselves."""
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]

    def last(job: str) -> dg.RunRecord | None:
        return next(iter(instance.get_run_records(dg.RunsFilter(job_name=job, statuses=ended), limit=1)), None)

    whole = last(whole_job)
    settled = whole.end_time or 0.0 if whole and whole.dagster_run.is_success else 0.0
    problems = {}
    for job in jobs:
        record = None if job.startswith("__") else last(job)
        if record and record.dagster_run.is_failure and (job in apart or (record.end_time or 0) > settled):
            problems[f"job {job}"] = (
                f"run {record.dagster_run.run_id[:8]} of {job} failed: {_why(instance, record.dagster_run.run_id)}"
            )
    for record in instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        run, since = record.dagster_run, record.start_time
        if since and now - datetime.fromtimestamp(since, UTC) > LONG:
            problems[f"long {run.run_id}"] = (
                f"run {run.run_id[:8]} of {run.job_name} takes longer than {int(LONG.total_seconds() / 60)} minutes"
            )
    return problems


def late_feeds(warehouse: Warehouse, feeds: Mapping[str, Feed], now: datetime) -> Problems:
    """Feeds whose newest object, or newest event, is older than it may be; one that never came is not awaited.

    Raises:
        WarehouseBusy: if it cannot be read soon.
        WarehouseRefused: if its server refuses, or is not reached.
    """
    try:
        with warehouse.reading(WAIT) as session:
            if "staging.object_ledger" not in session.tables():
                return {}
            loaded = dict(session.rows("select feed, max(loaded_at) from staging.object_ledger group by feed"))
            bounded = [feed for feed in feeds.values() if feed.events_within_hours is not None]
            at = instants.utc(now)
            happened = newest_events(session, bounded, at)
    except NoWarehouse:
        return {}
    problems = {}
    for name, feed in sorted(feeds.items()):
        for kind, what, newest, hours in (
            (LATE, "nothing since", loaded.get(name), feed.fresh_within_hours),
            (OLD, "its newest event is of", happened.get(name), feed.events_within_hours),
        ):
            if is_late(newest, hours, at):
                problems[f"{kind} {name}"] = (
                    f"feed {name} is late: {what} {newest:%Y-%m-%d %H:%M}, {hours:g} hours allowed"
                )
    return problems


def _shown(error: Exception) -> str:
    """What went wrong, without the text that could not be sent: that may be a password."""
    return f"{type(error).__name__} in {error.encoding}" if isinstance(error, UnicodeEncodeError) else str(error)


def _why(instance: dg.DagsterInstance, run_id: str) -> str:
    """The first line of what a step, or else the run, says of its failure."""
    for kind in (dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE):
        for entry in instance.all_logs(run_id, of_type=kind):
            event = entry.dagster_event
            error = event.step_failure_data.error if event and event.is_step_failure else None
            while error is not None and error.cause is not None:
                error = error.cause
            text = (str(error.message) if error else entry.user_message or str(event.message if event else "")).strip()
            if text:
                return text.splitlines()[0][:SHOWN]
    return "no step says why"
