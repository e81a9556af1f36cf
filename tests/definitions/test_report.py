"""The page that tells how the data stands: what came in, what was refused, every check with its trend."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import dagster as dg

from c360_assets.definitions import build_defs
from c360_assets.report import REASONS, report_of
from tests.parts import Platform, read_already

HEADER = "customer_id,city,signup_date,updated_at\n"
NASTY = "<script>alert(1)</script>"


@dg.asset(key=["staging", "customers"])
def customers() -> None: ...


def check_that(passes: bool) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=customers)
    def sound() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=passes)

    return sound


def checked(instance: dg.DagsterInstance, *passed: bool) -> dg.AssetCheckKey:
    """A check that was run so often, with these outcomes."""
    for outcome in passed:
        dg.materialize([customers, check_that(outcome)], instance=instance)
    return dg.AssetCheckKey(customers.key, "sound")


def stopped_before_its_check(instance: dg.DagsterInstance) -> None:
    """A run that planned the check and came to its end without it."""

    @dg.asset(key=["staging", "customers"])
    def breaks() -> None:
        raise ValueError("no bucket")

    assert not dg.materialize([breaks, check_that(True)], instance=instance, raise_on_error=False).success


def page_of(platform: Platform, instance: dg.DagsterInstance, *checks: dg.AssetCheckKey, later: float = 0) -> str:
    now = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=later)
    return report_of(platform.feeds, platform.bucket, platform.warehouse, instance, checks, now).page()


def test_an_empty_home_has_a_page_too(platform: Platform, instance: dg.DagsterInstance) -> None:
    text = page_of(platform, instance, checked(instance))
    assert (
        "Nothing is open." in text and "No check fails or warns." in text and "Nothing ever came of: customers" in text
    )


def test_the_page_says_what_came_in_what_was_refused_and_how_checks_stood(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    body = HEADER + f"1,Rome,,2024-01-01\n2,{NASTY},soon,2024-01-01\n,Oslo,,2024-01-01\n"
    platform.put("a.csv", body.encode())
    platform.sync()
    platform.put("b.csv", body.encode())
    text = page_of(platform, instance, checked(instance, True, False, True, False))
    row = re.search(r'<tr><td class="name">customers</td>.*?</tr>', text, re.DOTALL)
    assert row and re.findall(r'class="n">(\d+)', row[0]) == ["1", "1", "3", "1", "0", "2"]
    assert "bad_date:signup_date" in text and "missing_column:customer_id" not in text
    assert 'aria-label="passed, failed, passed, failed"' in text
    assert text.count(">sound<") == 1, "what is troubled stands not among what is sound"
    assert '<div class="verdict failed">' in text and "1 checks failed, 0 warn, 0 passed." in text
    # What a source sends is shown, and does nothing.
    assert "<script" not in text and "&lt;script&gt;" in text


def test_a_record_stands_under_each_of_its_reasons_and_the_newest_is_shown(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    for name, row in (("b", "2,Rome,soon,2024-01-01"), ("a", ",Oslo,later,2024-01-01")):
        platform.put(f"{name}.csv", f"{HEADER}{row}\n".encode())
        platform.sync()
    told = report_of(platform.feeds, platform.bucket, platform.warehouse, instance, ())
    assert [(r["reason"], r["count"], r["key"].rsplit("/")[-1], "Oslo" in r["raw"]) for r in told.refused] == [
        ("bad_date:signup_date", 2, "a.csv", True),
        ("missing_key:customer_id", 1, "a.csv", True),
    ]


def test_of_very_many_reasons_the_page_says_how_many_it_leaves_out(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    for number in range(REASONS + 3):
        rows = "1,x,y\n" * (1 if number < 3 else 2)
        platform.put(f"{number}.csv", f"customer_id,c{number:02},c{number:02}\n{rows}".encode())
    platform.sync()
    text = page_of(platform, instance, checked(instance))
    assert len(re.findall(r"<td>duplicate_column:", text)) == REASONS
    assert "And 3 more reasons, with 3 records." in text


def test_a_check_that_a_stopped_run_only_planned_stands_as_it_stood(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    key = checked(instance, False)
    stopped_before_its_check(instance)
    assert "1 checks failed, 0 warn, 0 passed." in page_of(platform, instance, key)


def test_a_feed_is_shown_as_late_when_it_is(platform: Platform, instance: dg.DagsterInstance) -> None:
    platform.put("a.csv", (HEADER + "1,Rome,,2024-01-01\n").encode())
    platform.sync()
    assert "No feed is late." in page_of(platform, instance, later=23)
    text = page_of(platform, instance, later=25)
    assert "Late: customers." in text and "late, within 24 h" in text and '<div class="verdict warns">' in text


def test_the_page_stands_alone(platform: Platform, instance: dg.DagsterInstance) -> None:
    asked: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            asked.extend(f"{tag} {name}" for name, _ in attributes if name in ("src", "href", "data", "action"))

    text = page_of(platform, instance, checked(instance, True))
    Reader().feed(text)
    assert asked == [] and "url(" not in text and "@import" not in text


def test_a_run_writes_the_page_and_says_where_and_what_is_in_it(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    platform.put("a.csv", (HEADER + f"1,Rome,,2024-01-01\n2,{NASTY},soon,2024-01-01\n,Oslo,,2024-01-01\n").encode())
    platform.sync()
    defs = build_defs(read_already(platform.settings), bucket=lambda: platform.bucket)
    job = defs.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey(["serving", "report"])])
    (made,) = result.asset_materializations_for_node("serving__report")
    written = platform.settings.home / "report.html"
    assert made.metadata["page"].value == str(written) and "State of the data" in written.read_text()
    told = {name: str(made.metadata[name].value) for name in ("summary", "what came in", "what was refused")}
    assert "3 records received, 2 refusals are open." in told["summary"]
    assert re.search(
        r"^\| customers \| [\d: -]+ \| fresh, within 24 h \| 3 \| 1 \| 0 \| 2 \| 0 \|$", told["what came in"], re.M
    )
    assert "| customers | bad_date:signup_date | 1 |" in told["what was refused"]
    # What a record says stays out of Dagster's storage.
    assert "alert" not in str(made.metadata)
