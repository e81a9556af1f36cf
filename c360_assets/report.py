"""Report: one page that says what came in, what was refused and why, and how every check stands and stood.

Belongs here: what the page tells, and the asset that keeps it. The page needs nothing beside itself: no script, no
font, no network.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
from jinja2 import Environment, PackageLoader, StrictUndefined

from c360_assets import instants, output
from c360_assets.feeds import Feed
from c360_assets.freshness import is_late
from c360_assets.landing import Bucket
from c360_assets.status import FeedStatus, check_status, finished_checks, status_of
from c360_assets.warehouse import NoWarehouse, Session, Warehouse

KEY = dg.AssetKey(["serving", "report"])
TREND = 12
REASONS = 30
RAW = 160


@dataclass(frozen=True)
class Report:
    """What is told. `refused`: per feed and reason, most records first; `troubled`: checks that fail or warn."""

    made_at: str
    engine: str
    verdict: str
    summary: list[str]
    feeds: list[dict[str, Any]]
    refused: list[dict[str, Any]]
    troubled: list[dict[str, Any]]
    sound: list[dict[str, Any]]
    issues: list[dict[str, Any]]

    def page(self) -> str:
        """One HTML page."""
        told = {each.name: getattr(self, each.name) for each in fields(self)}
        return str(_template().render(told | {"refused": self.refused[:REASONS], "left_out": self._left_out()}))

    def _left_out(self) -> str:
        left = self.refused[REASONS:]
        return f"And {len(left)} more reasons, with {sum(r['count'] for r in left)} records." if left else ""

    def metadata(self) -> dict[str, dg.MarkdownMetadataValue]:
        """The same in short, for the asset in Dagster: without what records say, because that would stay there."""
        tables = {
            "what came in": _markdown(
                ["feed", "last_loaded", "freshness", "received", "accepted", "duplicates", "quarantined", "waiting"],
                [f for f in self.feeds if f["objects"] or f["waiting"]],
            ),
            "what was refused": _markdown(["feed", "reason", "count"], self.refused[:REASONS], self._left_out()),
            "checks that fail or warn": _markdown(["status", "asset", "check", "at"], self.troubled),
        }
        told = {"summary": "\n\n".join(self.summary)} | {name: text for name, text in tables.items() if text}
        return {name: dg.MarkdownMetadataValue(text) for name, text in told.items()}


def report_of(
    feeds: Mapping[str, Feed],
    bucket: Bucket,
    warehouse: Warehouse,
    instance: dg.DagsterInstance,
    checks: Sequence[dg.AssetCheckKey],
    now: datetime | None = None,
    between: Callable[[], object] = lambda: None,
) -> Report:
    """How the home stands. `between`: done before each of the many checks is asked for."""
    now = now or instants.now()
    status = status_of(feeds, bucket, warehouse, instance, list(checks))
    told = []
    for key in sorted(checks, key=lambda k: k.to_user_string()):
        between()
        told.append(_checked(instance, key))
    troubled = sorted((c for c in told if c["status"] in ("failed", "warns")), key=lambda c: str(c["status"]))
    shown = [_fed(f, feeds[f.feed], now) for f in status.feeds]
    try:
        with warehouse.reading() as session:
            refused, issues = _refused(session), _issues(session)
    except NoWarehouse:
        refused, issues = [], []
    failed = sum(c["status"] == "failed" for c in troubled)
    count_passed = sum(c["status"] == "passed" for c in told)
    late = [f["feed"] for f in shown if f["is_late"]]
    return Report(
        made_at=f"{now:%Y-%m-%d %H:%M}",
        engine=warehouse.engine,
        verdict="failed" if failed else "warns" if troubled or late else "good",
        summary=[
            f"{failed} checks failed, {len(troubled) - failed} warn, {count_passed} passed.",
            f"{sum(f.received for f in status.feeds):,} records received, "
            f"{sum(f.open_refusals for f in status.feeds):,} refusals are open.",
            f"Late: {', '.join(late)}." if late else "No feed is late.",
        ],
        feeds=shown,
        refused=refused,
        troubled=troubled,
        sound=[c for c in told if c not in troubled],
        issues=issues,
    )


def report_asset(
    feeds: Mapping[str, Feed],
    bucket: Callable[[], Bucket],
    warehouse: Warehouse,
    home: Path,
    after: Sequence[dg.AssetKey],
    checks: Sequence[dg.AssetCheckKey],
    between: Callable[[], object] = lambda: None,
) -> dg.AssetsDefinition:
    """The page, written anew when all that is `after` has been made."""

    @dg.asset(
        key=KEY,
        deps=list(after),
        description="One page: what came in, what was refused and why, every check with its trend, freshness per feed.",
    )
    def report(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        told = report_of(feeds, bucket(), warehouse, context.instance, checks, between=between)
        path = home / "report.html"
        path.write_text(told.page())
        return dg.MaterializeResult(metadata={**told.metadata(), "page": dg.MetadataValue.path(path)})

    return report


def _template() -> Any:
    # What a source sends stands in the page: it is shown, and does nothing.
    return Environment(
        loader=PackageLoader("c360_assets", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    ).get_template("report.html")


def _markdown(names: Sequence[str], rows: Sequence[Mapping[str, Any]], below: str = "") -> str:
    """Nothing where there are no rows."""
    if not rows:
        return ""
    return f"{output.markdown(names, [[row[name] for name in names] for row in rows])}\n\n{below}".rstrip()


def _fed(status: FeedStatus, feed: Feed, now: datetime) -> dict[str, Any]:
    told, late = [], False
    for what, newest, bound in (
        ("", status.last_loaded, feed.fresh_within_hours),
        ("events ", status.newest_event, feed.events_within_hours),
    ):
        if bound is not None:
            late |= is_late(newest, bound, now)
            word = "never came" if newest is None else "late" if is_late(newest, bound, now) else "fresh"
            told.append(f"{what}{word}, within {bound:g} h")
    last = status.last_loaded
    shown = f"{last:%Y-%m-%d %H:%M}" if last else None
    return asdict(status) | {"is_late": late, "freshness": "; ".join(told) or "no bound", "last_loaded": shown}


def _checked(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> dict[str, Any]:
    words = [check_status(key, record) for record in finished_checks(instance, key)[:TREND]]
    told = words[0] if words else check_status(key, None)
    return asdict(told) | {
        "at": f"{told.at:%Y-%m-%d %H:%M}" if told.at else None,
        "trend": [w.status for w in reversed(words)],
    }


def _refused(session: Session) -> list[dict[str, Any]]:
    """Per feed and reason: how many, and the newest."""
    if "clean.quarantine" not in session.tables():
        return []
    found: dict[tuple[str, str], list[tuple[Any, ...]]] = defaultdict(list)
    for feed, reasons, *rest in session.rows(
        f"select feed, reasons, _key, _row, substr(raw, 1, {RAW}) from clean.quarantine order by batch desc, _key, _row"
    ):
        for reason in json.loads(reasons):
            found[feed, reason].append(tuple(rest))
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        {
            "feed": feed,
            "reason": reason,
            "count": len(rows),
            "key": rows[0][0],
            "row": rows[0][1],
            "raw": rows[0][2] or "",
        }
        for (feed, reason), rows in ordered
    ]


def _issues(session: Session) -> list[dict[str, Any]]:
    if "gold.issue_log" not in session.tables():
        return []
    rows = session.rows(
        "select issue, severity, subject, count(*) from gold.issue_log where issue <> 'refused' "
        "group by issue, severity, subject order by severity desc, count(*) desc, issue, subject"
    )
    return [dict(zip(("issue", "severity", "subject", "count"), row, strict=True)) for row in rows]
