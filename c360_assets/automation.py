"""Automation: when things run, and how often they are tried.

Belongs here: jobs, schedules, retries, pools, freshness; policies once, over the graph. Knows assets by key and group
only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import timedelta

import dagster as dg

POOL = "warehouse"

# Three more tries: after 10, 20 and 40 seconds, shifted a little so that two runs do not collide again.
RETRIES = dg.RetryPolicy(max_retries=3, delay=10, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)

# Minutes past the hour at which the hourly run looks for what is new, and whoever else wakes a warehouse that sleeps.
PAST_THE_HOUR = 7

SYNC = "sync"
# What a sync leaves alone, because it takes long and hurries nobody.
PREDICTIONS = "predictions"
BY_PREDICTION = {"c360/made_by": PREDICTIONS}
_PREDICTED = dg.AssetSelection.tag("c360/made_by", PREDICTIONS)

OWNER = "team:customer-data"


def pause(failures: int) -> float:
    """Seconds to wait after the n-th failed run of one batch: 30, 60, 120, ... at most an hour."""
    return float(min(30 * 2 ** (failures - 1), 3600))


def sync_job() -> dg.UnresolvedAssetJobDefinition:
    """All that is new, up to gold. Predictions have a job of their own."""
    return dg.define_asset_job(
        SYNC,
        selection=dg.AssetSelection.all() - _PREDICTED,
        executor_def=dg.in_process_executor,
        description="Everything that is new on S3, loaded in bounded batches, up to the last layer.",
    )


def made_of(feeds: Collection[str], others: Collection[str]) -> dg.AssetSelection:
    """The staging of the feeds and what is made of it, without `others`: tables that only wait for some of that."""
    staged = dg.AssetSelection.assets(*(dg.AssetKey(["staging", feed]) for feed in feeds))
    left = dg.AssetSelection.assets(*(table.split(".") for table in others)) | _PREDICTED
    return (staged.downstream() - left).materializable()


def feed_job(feed: str, others: Collection[str]) -> dg.UnresolvedAssetJobDefinition:
    """One batch of one feed and everything that is made of it, which `others` are not."""
    return dg.define_asset_job(
        f"{feed}_batch",
        selection=made_of([feed], others),
        executor_def=dg.in_process_executor,
        config={"ops": {f"staging__{feed}": {"config": {"max_batches": 1}}}},
        description=f"One batch of feed {feed} and everything that is made of it.",
    )


def seconds_job(
    feed: str, tables: Collection[str], gates: Collection[tuple[str, str]]
) -> dg.UnresolvedAssetJobDefinition:
    """One batch of one feed, up to core and to what has to be there in seconds; the worker's job."""
    keys = [dg.AssetKey(["staging", feed]), *(dg.AssetKey(table.split(".")) for table in tables)]
    checks = [dg.AssetCheckKey(dg.AssetKey(view.split(".")), name) for view, name in gates]
    selection = dg.AssetSelection.assets(*keys)
    return dg.define_asset_job(
        f"{feed}_seconds",
        selection=selection | dg.AssetSelection.checks(*checks) if checks else selection,
        executor_def=dg.in_process_executor,
        config={"ops": {f"staging__{feed}": {"config": {"max_batches": 1}}}},
        description=f"One batch of feed {feed}, up to core and to what has to be there in seconds.",
    )


def schedules(
    sync: dg.UnresolvedAssetJobDefinition,
    pending: Callable[[], Collection[str]],
    others: Callable[[Collection[str]], Collection[str]],
    *,
    worker: Callable[[], str | None] = lambda: None,
    with_predictions: bool = False,
) -> list[dg.ScheduleDefinition]:
    """Every hour what the sensors may have missed; every night all of it and all checks, before people come to work.

    `pending` names the feeds with anything new, `others` the tables that these leave as they are. While there is a
    `worker` both stand back: it brings what is new, and makes and checks everything once a night.
    """

    @dg.schedule(
        name="hourly_sync",
        job=sync,
        cron_schedule=f"{PAST_THE_HOUR} * * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Picks up what a sensor missed or a dead run left; leaves out what has nothing new.",
    )
    def hourly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if at_work := worker():
            return dg.SkipReason(f"the worker brings it: {at_work}")
        try:
            feeds = pending()
        except Exception as error:  # noqa: BLE001 - no S3, a busy warehouse: the run would meet it too, and try again
            context.log.warning(f"what is new could not be told ({error}): all of it is run")
            return dg.RunRequest()
        if not feeds:
            return dg.SkipReason("nothing new")
        graph = context.repository_def.asset_graph
        return dg.RunRequest(asset_selection=sorted(made_of(feeds, others(feeds)).resolve(graph)))

    @dg.schedule(
        name="nightly_sync",
        job=sync,
        cron_schedule="30 2 * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="The day's last word before the reports of the morning: everything, and every check.",
    )
    def nightly() -> dg.RunRequest | dg.SkipReason:
        at_work = worker()
        return dg.SkipReason(f"the worker makes and checks it: {at_work}") if at_work else dg.RunRequest()

    return [hourly, nightly, *([_nightly_predictions()] if with_predictions else [])]


def _nightly_predictions() -> dg.ScheduleDefinition:
    job = dg.define_asset_job(
        PREDICTIONS,
        selection=_PREDICTED,
        executor_def=dg.in_process_executor,
        description="Churn risk and value of customers, forecast of sales: as of the last day, or a day of your own.",
    )
    return dg.ScheduleDefinition(
        name="nightly_predictions",
        job=job,
        cron_schedule="30 4 * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="After the night's sync, as of the last day that is over on which anything was bought.",
    )


def freshness(hours: Mapping[dg.AssetKey, float | None]) -> dict[dg.AssetKey, dg.FreshnessPolicy]:
    """A policy per asset that has a bound: it warns at the bound and fails at twice that."""
    return {
        key: dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=2 * bound), warn_window=timedelta(hours=bound))
        for key, bound in hours.items()
        if bound is not None
    }


def with_policies(
    assets: Iterable[dg.AssetSpec | dg.AssetsDefinition], fresh: Mapping[dg.AssetKey, dg.FreshnessPolicy], engine: str
) -> list[dg.AssetSpec | dg.AssetsDefinition]:
    """Group, kinds, owner and freshness of every asset, told from its key: the layer is the first part."""

    def described(spec: dg.AssetSpec) -> dg.AssetSpec:
        layer = spec.key.path[0]
        return spec.replace_attributes(
            group_name=layer,
            kinds=spec.kinds or ({"s3"} if layer == "landing" else {"python", engine}),
            owners=spec.owners or [OWNER],
            freshness_policy=fresh.get(spec.key),
        )

    return list(dg.map_asset_specs(described, assets))


@dg.logger(config_schema={}, description="Lines of ours, as they are; what Dagster says of itself is in the run.")
def plain_lines(context: dg.InitLoggerContext) -> logging.Logger:
    """The console logger: one line per message that our own code logs."""
    lines = logging.getLogger("c360.console")
    lines.propagate = False
    lines.setLevel(logging.INFO)
    if not lines.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_PlainLine())
        handler.addFilter(_is_ours)
        lines.addHandler(handler)
    return lines


class _PlainLine(logging.Formatter):
    """What the code said, without the run's and the step's names in front."""

    def format(self, record: logging.LogRecord) -> str:
        told = getattr(record, "dagster_meta", None) or {}
        return str(told.get("orig_message") or record.getMessage())


def _is_ours(record: logging.LogRecord) -> bool:
    told = getattr(record, "dagster_meta", None) or {}
    said = str(told.get("orig_message", "")).lstrip()
    from_dbt = said.startswith(("Running dbt", "Finished dbt", "A dbt subsetted", "Logging an `AssetObservation`"))
    return not told.get("dagster_event") and not from_dbt
