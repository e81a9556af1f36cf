"""The star and the stock on generated files with faults, against the oracle: whatever comes late, and equal to a rebuild."""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from c360_assets.landing import Bucket
from generator import customers, shop, till
from generator.faults import Faults
from generator.objects import GeneratedObject
from generator.shop_truth import shop_events, star, stock
from generator.till_truth import till_truth
from generator.truth import truth_of_generated
from tests.architecture import flow
from tests.engine import analytics, late, reports, vault, views
from tests.engine.analytics import Purchase, Sold, Version
from tests.parts import UNIT_TESTS, Platform, digest, manifest_of, settings_at

TABLES = (
    "gold.fct_order_items", "gold.fct_orders", "gold.fct_pos_lines", "gold.customer_sales", "gold.product_category_days",
    "core.inventory",
)  # fmt: skip
MODELS = (
    "--exclude-resource-type", "test", "--select", "+top_customers", "+product_category_sales", "+inventory",
    "fct_orders_changes", "fct_order_items_changes", "fct_pos_lines_changes", "+daily_sales_summary",
    "+customer_segments", "+segment_moves", "+cohort_retention", "+basket_affinity", "+anomalies", "+issue_log",
    "+vault", "+vw_customer_360", "+vw_product_analytics", "+vw_order_analytics", "+vw_customer_moments", "+vw_stock",
    "+segment_counts", "+segment_move_counts", "+feed_days",
)  # fmt: skip
AS_OF = (
    "top_customers", "customer_segments", "segment_moves", "cohort_retention", "basket_affinity", "anomalies", "product_category_sales",
)  # fmt: skip
# Models with unit tests beside them; those of the tills are run where the tills are tested.
TESTED = (
    "inventory", "anomalies", "product_categories", "fct_orders", "fct_order_items", "fct_pos_lines", "product_category_days",
    "customer_sales", "top_customers", "customer_segments", "segment_moves", "cohort_retention", "basket_affinity",
)  # fmt: skip
# What a row may name before it comes, if ever it does.
AWAITED = {("fct_order_items", "fct_orders"), ("dim_product", "dim_category"), ("product_categories", "dim_category")}
# These are of all days that there were.
OF_ALL_DAYS = ("top_customers", "anomalies", "product_category_sales")


@dataclass(frozen=True)
class Believed:
    """What the tables of analytics said at an instant, row by row."""

    day: date
    known_at: datetime
    tables: dict[str, list[str]]


def objects_of(seed: int) -> list[GeneratedObject]:
    run: dict[str, Any] = {"days": 2, "interval": 8 * 3600, "seed": seed, "start": datetime(2026, 1, 10)}
    people = customers.CustomerSpec(
        customers=60, rows_per_file=40, faults=Faults(late=0.3, deletes=0.05, reinserts=0.5), **run
    )
    sales = shop.ShopSpec(customers=60, products=40, orders_per_file=24, faults=shop.SHOP_MIX, **run)
    tills = till.TillSpec(stores=3, receipts_per_object=15, faults=till.TILL_MIX, **run)
    return [*customers.generate(people), *shop.generate(sales), *till.generate(tills), *more_tills(tills)]


def more_tills(spec: till.TillSpec) -> list[GeneratedObject]:
    """What chance gives with other seeds, in stores with names of their own."""
    return [
        replace(each, body=each.body.replace(b'"STORE_', f'"S{seed}ORE_'.encode()))
        for seed in (spec.seed + 1, spec.seed + 2)
        for each in till.generate(replace(spec, seed=seed))
    ]


def landed(platform: Platform, objects: list[GeneratedObject]) -> None:
    feeds = {each.name.split("/")[0] for each in objects}
    for each in objects:
        feed, name = each.name.split("/", 1)
        platform.put(name, each.body, feed)
    for feed in sorted(feeds):
        platform.load(feed)


def assert_equals_truth(platform: Platform, sent: list[GeneratedObject]) -> None:
    """`sent`: in the order of sending."""
    people = truth_of_generated([o for o in sent if o.name.startswith("customers/")]).truth
    events = shop_events([o for o in sent if not o.name.startswith(("customers/", "pos/"))])
    expected = star(events, people)

    def rows(table: str, where: str, renamed: dict[str, str]) -> list[dict[str, Any]]:
        found = platform.table(table, where)
        return [{name: row[column] for name, column in renamed.items()} for row in found]

    def same(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
        columns = list(wanted[0])
        left, right = ({repr(tuple(_plain(r[c]) for c in columns)) for r in table} for table in (found, wanted))
        assert left == right, f"only found: {sorted(left - right)[:3]}; only wanted: {sorted(right - left)[:3]}"
        assert len(found) == len(wanted)

    def of(wanted: list[dict[str, Any]]) -> dict[str, str]:
        return {
            name: {"product_from": "product_key", "customer_from": "customer_key"}.get(name, name) for name in wanted[0]
        }

    found = rows("gold.fct_order_items", "true", of(expected.order_items))
    same(_from_keys(found), expected.order_items)
    same(_from_keys(rows("gold.fct_orders", "true", of(expected.orders))), expected.orders)
    shop_only = "customer_id not in (select customer_id from gold.fct_pos_lines where customer_id is not null)"
    bought_in_shop_only = [
        row for row in expected.customer_sales
        if (row["customer_id"],) not in platform.rows("select distinct customer_id from gold.fct_pos_lines where customer_id is not null")
    ]  # fmt: skip
    same(rows("gold.customer_sales", shop_only, of(expected.customer_sales)), bought_in_shop_only)
    ledger = platform.rows("select key, max_by(last_modified, batch) from staging.object_ledger group by key")
    modified = {key.removeprefix(f"{platform.bucket.prefix}/"): at for key, at in ledger}
    lines = till_truth([o for o in sent if o.name.startswith("pos/")], modified).lines
    in_stock = {(r["store_id"], r["product_id"]): r["stock"] for r in platform.table("core.inventory")}
    assert in_stock == stock(lines, events["stock_counts"])


def assert_analytics(platform: Platform) -> None:
    """As of the last day, and of the days before it: what came after a day has no say in its table."""
    purchases = [
        Purchase(*row)
        for row in platform.rows(
            """
            select customer_id, currency, cast(ordered_at as date), source || order_id, coalesce(amount, 0)
            from gold.fct_orders where is_sale and customer_id is not null
            union all
            select customer_id, currency, sales_date, case when kind = 'sale' then store_id || transaction_id end,
                case when kind = 'sale' then amount else -amount end
            from gold.fct_pos_lines where customer_id is not null
            """
        )
    ]
    bought = platform.rows(
        """
        select source || order_id, product_id, order_day from gold.fct_order_items
        where is_sale and product_id is not null and order_day is not null
        union all
        select store_id || transaction_id, product_id, sales_date from gold.fct_pos_lines
        where kind = 'sale' and product_id is not null
        """
    )
    last = max(p.day for p in purchases if p.name)
    seen = []
    for day in (last, last - timedelta(1), last - timedelta(400)):
        of = f"_as_of(timestamp '{day} 00:00:00')"
        segments = (
            "select customer_id, currency, days_since_purchase, count_purchases, cast(net_revenue as varchar), "
            "recency_score, frequency_score, monetary_score, segment from gold.customer_segments"
        )
        cohorts = "select cohort_month, months_since, count_customers, count_active from gold.cohort_retention"
        pairs = "select product_id, other_product_id, count_both, round(lift, 9) from gold.basket_affinity"
        wanted = (
            analytics.segments(purchases, day),
            analytics.cohorts(purchases, day),
            analytics.affinity(bought, day),
        )
        for table, rows in zip((segments, cohorts, pairs), wanted, strict=True):
            assert set(platform.rows(table + of)) == rows
            if day == last:
                assert rows and set(platform.rows(table)) == rows
        assert_top(platform, purchases, day, of)
        assert_categories(platform, day, of)
        seen.append(wanted)
    assert seen[0] != seen[1] and seen[0][2] != seen[1][2]
    moves = "select customer_id, currency, segment_before, segment from gold.segment_moves"
    before = {row[:2]: row[-1] for row in analytics.segments(purchases, last - timedelta(30))}
    after = {row[:2]: row[-1] for row in seen[0][0]}
    assert set(platform.rows(moves)) == {
        (*key, before.get(key), after.get(key)) for key in before | after if before.get(key) != after.get(key)
    }


def analytics_now(platform: Platform) -> Believed:
    """The tables as they stand, with the day they are of and when the newest of their objects came."""
    ((known_at,),) = platform.rows("select max(loaded_at) from staging.object_ledger")
    ((day,),) = platform.rows("select max(as_of_day) from gold.customer_segments")
    return Believed(day, known_at, {name: _ordered(platform, f"gold.{name}") for name in AS_OF})


def analytics_known(platform: Platform, then: Believed) -> Believed:
    """The same tables made again, by what had come then."""
    known = {}
    for name in AS_OF:
        day = "9999-12-30" if name in OF_ALL_DAYS else then.day
        of = f"(timestamp '{day} 00:00:00', timestamp '{then.known_at}')"
        known[name] = _ordered(platform, f"gold.{name}_as_of{of}")
    return replace(then, tables=known)


def _ordered(platform: Platform, table: str) -> list[str]:
    return sorted(map(repr, platform.rows(f"select * from {table}")))


def assert_top(platform: Platform, purchases: Sequence[Purchase], day: date, of: str) -> None:
    """The most revenue up to the day, beside the name that its end found."""
    net: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for purchase in purchases:
        if purchase.day <= day:
            net[purchase.currency, purchase.customer] += purchase.net
    ranks = {key: 1 + sum(other > value for of, other in net.items() if of[0] == key[0]) for key, value in net.items()}
    names = dict(
        platform.rows(
            f"""
            select customer_id, last_name from core.customer_history
            where cast(valid_from as date) <= date '{day}' and (valid_to is null or cast(valid_to as date) > date '{day}')
            """
        )
    )
    top = platform.rows(
        f"select currency, customer_id, revenue_rank, net_revenue, is_known, last_name from gold.top_customers{of}"
    )
    assert {tuple(row) for row in top} == {
        (*key, rank, net[key], key[1] in names, names.get(key[1])) for key, rank in ranks.items() if rank <= 100
    }


def assert_categories(platform: Platform, day: date, of: str) -> None:
    """The days up to this one, in the categories that its end knew."""
    sold = [
        Sold(*row)
        for row in platform.rows(
            """
            select product_id, ordered_at, order_day, currency, source || order_id, coalesce(quantity, 0), coalesce(amount, 0), 0
            from gold.fct_order_items where is_sale and order_day is not null
            union all
            select product_id, sold_at, sales_date, currency, case when kind = 'sale' then store_id || transaction_id end,
                case when kind = 'sale' then quantity else 0 end, case when kind = 'sale' then amount else 0 end,
                case when kind = 'refund' then amount else 0 end
            from gold.fct_pos_lines
            """
        )
    ]
    versions: dict[str, dict[str, list[Version]]] = {}
    for entity, texts in (("product", "category_id, category"), ("category", "category_name")):
        found = versions[entity] = defaultdict(list)
        for key, begun, ended, *told in platform.rows(
            f"select {entity}_id, valid_from, valid_to, {texts} from core.{entity}_history"
        ):
            found[key].append(Version(begun, ended, tuple(told)))
    shown = (
        "select sales_date, category_id, category_name, currency, count_purchases, cast(units_sold as varchar), "
        f"cast(gross_revenue as varchar), cast(refunds as varchar) from gold.product_category_sales{of}"
    )
    rows = platform.rows(shown)
    assert set(rows) == analytics.category_sales(sold, versions["product"], versions["category"], day)
    assert len(rows) == len(set(rows))


def assert_issues(platform: Platform) -> None:
    """Each kind against the tables that it is told from."""
    found: dict[str, int] = dict(platform.rows("select issue, count(*) from gold.issue_log group by issue"))

    def count(sql: str) -> int:
        ((number,),) = platform.rows(f"select count(*) from {sql}")
        return int(number)

    def unknown(member: str) -> int:
        facts = ("fct_order_items", "fct_pos_lines")
        return sum(
            count(f"(select distinct {member}_id from gold.{fact} where {member}_match = 'unknown')") for fact in facts
        )

    entities = platform.rows("select table_name from information_schema.tables where table_name like '%_ties'")
    wanted = {
        "refused": count("clean.quarantine"),
        "tie": sum(count(f"core.{table}") for (table,) in entities),
        "replaced": count("core.pos_line_replaced"),
        "unknown_customer": unknown("customer"),
        "unknown_product": unknown("product"),
        "order_missing": count("gold.fct_order_items where ordered_at is null"),
        "amounts_differ": count("gold.fct_orders where order_amount <> items_amount"),
        "negative_stock": count("core.inventory where stock < 0"),
        "imputed": count("(select distinct feed, _key, column_name, rule from core.imputed_value)"),
    }
    assert found == {issue: number for issue, number in wanted.items() if number}
    assert {"refused", "replaced", "unknown_customer", "unknown_product", "order_missing"} <= found.keys()
    # Of an item whose order has not come nobody knows when it was sold, and so not whether its product is known.
    assert platform.rows("select distinct product_match from gold.fct_order_items where ordered_at is null") == [
        ("undated",)
    ]


def assert_keys(platform: Platform) -> None:
    """A key that a model declares tells its rows apart, and one that names a row of another table finds it."""
    _, manifest = manifest_of(platform.warehouse, platform.project)
    refers, keys = flow.references(manifest), flow.primary_keys(manifest)
    for table in {r.table for r in refers} | {r.to for r in refers}:
        several = f"select 1 from gold.{table} group by {', '.join(keys[table])} having count(*) > 1"
        assert platform.rows(several) == [], table
    for each in refers:
        pairs = list(zip(each.columns, each.to_columns, strict=True))
        same = " and ".join(f"named.{to} = rows_of.{column}" for column, to in pairs)
        given = " and ".join(f"rows_of.{column} is not null" for column in each.columns)
        ((count, lost),) = platform.rows(
            f"select count(*), count(case when not exists (select 1 from gold.{each.to} as named where {same}) then 1 end) "
            f"from gold.{each.table} as rows_of where {given}"
        )
        assert count and (not lost or (each.table, each.to) in AWAITED), each


def assert_only_what_is_touched_is_written(platform: Platform) -> None:
    """And what a wrong clock dates ahead makes no day the last one."""
    landed(platform, [late.refused()])
    platform.build("--exclude-resource-type", "test", "--select", "shop_order_rows", "quarantine")
    last_day = "select distinct as_of_day from gold.customer_segments"
    as_it_was = platform.rows(last_day)
    customer, product = late.members(platform)
    with late.marked(platform) as written:
        late.correct(platform)
        landed(platform, late.objects(customer, product))
        platform.build(*MODELS)
    for table, keys in late.touched(platform, customer, product).items():
        assert written[table] == keys, table
        assert 0 < len(keys) < len(platform.table(table)), table
    assert platform.rows(last_day) == as_it_was
    late.assert_anomalies(platform)


def contents(platform: Platform) -> dict[str, str]:
    """What every table that is refreshed by its changes holds."""
    return {table: digest([tuple(row.values()) for row in platform.table(table)]) for table in TABLES}


def made_of_these(platform: Platform) -> dict[str, list[str]]:
    """What is made anew of them in every run: the analytics, and the views."""
    names = (*AS_OF, "vw_customer_360", "vw_product_analytics", "vw_order_analytics", "vw_customer_moments", "vw_stock")
    return {name: _ordered(platform, f"gold.{name}") for name in names}


def _from_keys(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keys of versions as the instant that they begin at."""
    for row in rows:
        for name in ("product_from", "customer_from"):
            if row.get(name) is not None:
                row[name] = datetime.fromisoformat(row[name].split("@")[1].removesuffix("Z"))
    return rows


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value:.4f}"
    return value.isoformat() if isinstance(value, datetime) else str(value)


@pytest.mark.parametrize("seed", [1])
def test_any_order_gives_what_the_oracle_says_and_a_rebuild_gives(seed: int, tmp_path: Path, bucket: Bucket) -> None:
    chance = random.Random(seed)
    settings = settings_at(tmp_path / f"star-{seed}")
    platform = Platform(settings, Bucket(bucket.client, bucket.name, f"star-{seed}"), project=settings.dbt_project)
    objects = objects_of(seed)
    waiting = chance.sample(objects, len(objects))
    step = len(objects) // 2 + 1
    believed: list[Believed] = []
    for start in range(0, len(waiting), step):
        landed(platform, waiting[start : start + step])
        platform.build(*MODELS)
        believed.append(analytics_now(platform))
    assert len({repr(each) for each in believed}) == len(believed)
    assert [analytics_known(platform, each) for each in believed] == believed
    assert_equals_truth(platform, waiting)
    assert_analytics(platform)
    assert_issues(platform)
    views.assert_right(platform)
    vault.assert_holds(platform)
    found = reports.page(platform)
    if os.environ.get("C360_WRITE_DOCS"):
        reports.PAGE.write_text(found)
    assert found == reports.PAGE.read_text(), "docs/analyses.md is not true any more: C360_WRITE_DOCS=1 writes it anew"
    assert_only_what_is_touched_is_written(platform)
    before, stands, shown = contents(platform), vault.contents(platform), made_of_these(platform)
    platform.build("--full-refresh", *MODELS)
    assert contents(platform) == before and vault.contents(platform) == stands
    assert made_of_these(platform) == shown
    assert_keys(platform)
    _, manifest = manifest_of(platform.warehouse, platform.project)
    units = {unit["name"] for unit in manifest["unit_tests"].values() if unit["model"] in TESTED}
    assert {unit["model"] for unit in manifest["unit_tests"].values()} >= set(TESTED)
    built = platform.build("--select", *TESTED, "--resource-type", "model", "--resource-type", UNIT_TESTS)
    assert set(built) == units | set(TESTED)
