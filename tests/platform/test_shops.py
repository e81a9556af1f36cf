"""Two real shops, each by declarations of its own: every row accounted for, every total confirmed by SQLite, any order."""

from __future__ import annotations

import csv
import io
import random
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from c360_assets import entities
from c360_assets.landing import Bucket
from c360_assets.settings import Settings
from tests.parts import Platform, on_both, project_with, settings_at

Table = list[dict[str, str]]
MODELS = (
    "--exclude-resource-type", "test", "--select", "+top_customers", "+product_category_sales", "+customer_segments",
    "+cohort_retention", "+accounting", "dim_customer", "+dim_product", "+imputed_value",
)  # fmt: skip
GOLD = ("fct_orders", "fct_order_items", "customer_sales", "product_category_days")


def declared(name: str, entity: str, columns: str, time: str, more: str = "") -> str:
    """A feed's table of the source, in yml; `more` are further fields."""
    shown = "".join(f"\n          - {{name: {column}}}" for column in columns.split())
    return f"""
      - name: {name}
        columns:{shown}
        config:
          meta:
            feed:
              prefix: {name}/
              formats: [csv]
              required: [{columns.split()[0]}]
              entity: {entity}
              event_time: {time}
{"".join(f"              {line}{chr(10)}" for line in more.splitlines())}"""


def named(name: str) -> str:
    return "{name: '" + name + r"_(\d{14})'}"


@dataclass
class Shop:
    """What one shop sends. `days`: (feed, name, body) of its objects; `tables`: its files as they are, for SQLite."""

    feeds: str
    tables: Mapping[str, Table]
    days: list[tuple[str, str, bytes]]
    totals: Sequence[tuple[str, str]]
    entity: entities.Declaration | None = None
    shared: list[str] = field(default_factory=list)

    def project(self, folder: Path) -> Path:
        head = "sources:\n  - name: staging\n    schema: staging\n    tables:"
        made = project_with(folder, {"models/staging/shop_of_theirs.yml": head + self.feeds}, shop=True)
        if self.entity:
            entities.write(self.entity, made)
        return made

    def sqlite(self) -> sqlite3.Connection:
        database = sqlite3.connect(":memory:")
        for name, rows in self.tables.items():
            columns = list(rows[0])
            database.execute(f"create table {name} ({', '.join(columns)})")
            places = ", ".join("?" * len(columns))
            database.executemany(
                f"insert into {name} values ({places})", [[r[c] or None for c in columns] for r in rows]
            )
        return database


def read(path: Path) -> Table:
    with path.open(newline="", encoding="utf-8-sig") as text:
        return list(csv.DictReader(text))


def written(rows: Iterable[Mapping[str, str]]) -> bytes:
    rows = list(rows)
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]))
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().encode()


def by_day(feed: str, rows: Table, day_of: Callable[[dict[str, str]], str]) -> list[tuple[str, str, bytes]]:
    """One object per day, named after it."""
    days = defaultdict(list)
    for row in rows:
        days[day_of(row)[:10]].append(row)
    return [(feed, f"{feed}_{day.replace('-', '')}000000.csv", written(found)) for day, found in sorted(days.items())]


def northwind(folder: Path) -> Shop:
    tables = {
        name: read(folder / f"{name}.csv")
        for name in ("orders", "order_details", "products", "categories", "customers")
    }
    tables["orders"] = [
        {k: v for k, v in row.items() if k.startswith(("order", "customer"))} for row in tables["orders"]
    ]
    ordered = {row["orderID"]: row["orderDate"] for row in tables["orders"]}
    nulls = 'nulls: ["NULL"]\n'
    feeds = (
        declared("nw_customers", "customer", "customerid companyname city region country phone", named("nw_customers"),
                 nulls + "map: {customer_id: customerid, last_name: companyname, state: region}")
        + declared("nw_categories", "category", "categoryid categoryname", named("nw_categories"),
                   "map: {category_id: categoryid, category_name: categoryname}")
        + declared("nw_products", "product", "productid productname categoryid unitprice unitsinstock", named("nw_products"),
                   "map: {product_id: productid, product_name: productname, category_id: categoryid, price: unitprice}")
        + declared("nw_orders", "shop_order", "orderid customerid orderdate", "{column: orderdate}",
                   "map: {order_id: orderid, customer_id: customerid, order_date: orderdate}")
        + declared("nw_details", "order_item", "orderid productid unitprice quantity", named("nw_details"),
                   "join: {order_item_id: [orderid, productid]}\n"
                   "map: {order_id: orderid, product_id: productid, price: unitprice}")
    )  # fmt: skip
    start = "19960101000000"
    days = [
        *(
            (f"nw_{name}", f"nw_{name}_{start}.csv", written(tables[name]))
            for name in ("customers", "categories", "products")
        ),
        *by_day("nw_orders", tables["orders"], lambda row: row["orderDate"]),
        *by_day("nw_details", tables["order_details"], lambda row: ordered[row["orderID"]]),
    ]
    revenue = "sum(cast(round(unitPrice * 10000) as integer) * quantity)"
    joined = "order_details join orders using (orderID) join products p using (productID)"
    joined = joined.replace(
        "order_details", "(select orderID, productID, unitPrice, quantity from order_details)"
    ).replace("products p", "(select productID, categoryID from products)")
    totals = [
        ("select count(*), count(distinct customer_id), cast(min(ordered_at) as date)::varchar from gold.fct_orders",
         "select count(*), count(distinct customerID), min(substr(orderDate, 1, 10)) from orders"),
        ("select cast(sum(amount) * 10000 as bigint), cast(sum(units) as bigint) from gold.fct_orders",
         f"select {revenue}, sum(quantity) from order_details"),
        ("select customer_id, count(*) from gold.fct_orders group by 1", "select customerID, count(*) from orders group by 1"),
        ("select customer_id, cast(net_revenue * 10000 as bigint) from gold.customer_sales",
         f"select customerID, {revenue} from {joined} group by 1"),
        ("select category_name, cast(sum(gross_revenue) * 10000 as bigint) from gold.product_category_sales group by 1",
         f"select categoryName, {revenue} from {joined} join categories using (categoryID) group by 1"),
        ("select cast(sales_date as varchar), cast(sum(units_sold) as bigint) from gold.product_category_sales group by 1",
         f"select substr(orderDate, 1, 10), sum(quantity) from {joined} group by 1"),
        ("select product_id, cast(sum(quantity) as bigint), cast(sum(amount) * 10000 as bigint) from gold.fct_order_items group by 1",
         f"select productID, sum(quantity), {revenue} from order_details group by 1"),
        ("select d.country, count(*) from gold.fct_orders o join gold.dim_customer d using (customer_key) group by 1",
         "select country, count(*) from orders join customers using (customerID) group by 1"),
        ("select substr(cast(order_day as varchar), 1, 7), cast(sum(amount) * 10000 as bigint) from gold.fct_orders group by 1",
         f"select substr(orderDate, 1, 7), {revenue} from {joined} group by 1"),
        ("select count(*) from core.customer where customer_id not in (select customer_id from gold.customer_sales)",
         "select count(*) from customers where customerID not in (select customerID from orders)"),
        ("select customer_id, revenue_rank from gold.top_customers where revenue_rank <= 10",
         f"select customerID, rank() over (order by {revenue} desc) from {joined} group by 1 order by 2 limit 10"),
        ("select count_items, count(*) from gold.fct_orders group by 1",
         "select n, count(*) from (select count(*) n from order_details group by orderID) group by 1"),
        ("select count(*) from core.customer where state is null", "select count(*) from customers where region = 'NULL'"),
    ]  # fmt: skip
    return Shop(feeds, tables, days, totals)


def olist(folder: Path, first_day: str = "") -> Shop:
    def file(name: str) -> Table:
        return read(folder / f"{name}.csv")

    everything = file("olist_orders_dataset")
    ordered = {row["order_id"]: row for row in everything if row["order_purchase_timestamp"] >= first_day}
    persons = {row["customer_id"]: row for row in file("olist_customers_dataset")}
    # A day's export names the person, and says when the address was given; their own file has one customer per order.
    orders = [
        {
            "order_id": row["order_id"],
            "customer_unique_id": persons[row["customer_id"]]["customer_unique_id"],
            "order_status": row["order_status"],
            "order_purchase_timestamp": row["order_purchase_timestamp"],
        }
        for row in ordered.values()
    ]
    customers = [persons[row["customer_id"]] | {"seen_at": row["order_purchase_timestamp"]} for row in ordered.values()]
    items = [row for row in file("olist_order_items_dataset") if row["order_id"] in ordered]
    payments = [row for row in file("olist_order_payments_dataset") if row["order_id"] in ordered]
    products, names = file("olist_products_dataset"), file("product_category_name_translation")
    tables = {
        "orders": orders, "customers": customers, "items": items, "payments": payments, "products": products, "names": names,
    }  # fmt: skip
    feeds = (
        declared("ol_customers", "customer",
                 "customer_unique_id customer_zip_code_prefix customer_city customer_state seen_at", "{column: seen_at}",
                 "map: {customer_id: customer_unique_id, street: customer_zip_code_prefix, city: customer_city, "
                 "state: customer_state}")
        + declared("ol_names", "category", "product_category_name product_category_name_english", named("ol_names"),
                   "map: {category_id: product_category_name, category_name: product_category_name_english}")
        + declared("ol_products", "product", "product_id product_category_name", named("ol_products"),
                   "map: {category_id: product_category_name}")
        + declared("ol_orders", "shop_order", "order_id customer_unique_id order_status order_purchase_timestamp",
                   "{column: order_purchase_timestamp}",
                   "map: {customer_id: customer_unique_id, order_date: order_purchase_timestamp}")
        + declared("ol_items", "order_item", "order_id order_item_id product_id price quantity", named("ol_items"),
                   "join: {order_item_id: [order_id, order_item_id]}\nimpute: {quantity: {value: '1'}}")
        + declared("ol_payments", "payment", "order_id payment_sequential payment_type payment_value", named("ol_payments"),
                   "join: {payment_id: [order_id, payment_sequential]}")
    )  # fmt: skip

    def bought(row: dict[str, str]) -> str:
        return ordered[row["order_id"]]["order_purchase_timestamp"]

    days = [
        ("ol_products", "ol_products_20160101000000.csv", written(products)),
        ("ol_names", "ol_names_20160101000000.csv", (folder / "product_category_name_translation.csv").read_bytes()),
        *by_day("ol_customers", customers, lambda row: row["seen_at"]),
        *by_day("ol_orders", orders, lambda row: row["order_purchase_timestamp"]),
        *by_day("ol_items", items, bought),
        *by_day("ol_payments", payments, bought),
    ]
    cents, paid = "sum(cast(round(price * 100) as integer))", "sum(cast(round(payment_value * 100) as integer))"
    sold = "items join orders using (order_id) where order_status not in ('canceled', 'unavailable')"
    at_last = "(select customer_unique_id, customer_state, customer_city, customer_zip_code_prefix, max(seen_at) from customers group by 1)"
    totals = [
        ("select order_status, count(*) from gold.fct_orders group by 1", "select order_status, count(*) from orders group by 1"),
        ("select count(*), count(distinct customer_id) from gold.fct_orders",
         "select count(*), count(distinct customer_unique_id) from orders"),
        ("select cast(sum(amount) * 100 as bigint), count(*) from gold.fct_order_items where is_sale",
         f"select {cents}, count(*) from {sold}"),
        ("select cast(sum(amount) * 100 as bigint) from gold.fct_orders", f"select {cents} from items"),
        ("select coalesce(category_id, 'none'), cast(sum(gross_revenue) * 100 as bigint), cast(sum(units_sold) as bigint) "
         "from gold.product_category_sales group by 1",
         "select coalesce(product_category_name, 'none'), sum(cents), sum(n) from (select product_id, "
         f"{cents} as cents, count(*) as n from {sold} group by 1) join products using (product_id) group by 1"),
        ("select category_name, count(*) from gold.dim_product where category_id is not null and is_current group by 1",
         "select product_category_name_english, count(*) from products "
         "left join names using (product_category_name) where product_category_name is not null group by 1"),
        ("select substr(cast(order_day as varchar), 1, 7), cast(sum(amount) * 100 as bigint) from gold.fct_order_items where is_sale group by 1",
         f"select substr(order_purchase_timestamp, 1, 7), {cents} from {sold} group by 1"),
        ("select customer_id, cast(net_revenue * 100 as bigint) from gold.customer_sales where net_revenue > 0",
         f"select customer_unique_id, {cents} from {sold} group by 1"),
        ("select customer_id, cast(net_revenue * 100 as bigint) from gold.top_customers where revenue_rank <= 10",
         f"select customer_unique_id, {cents} from {sold} group by 1 order by 2 desc limit 10"),
        ("select d.state, count(*) from gold.fct_orders o join gold.dim_customer d using (customer_key) group by 1",
         "select customer_state, count(*) from customers group by 1"),
        ("select customer_id, city, state, street from core.customer",
         f"select customer_unique_id, customer_city, customer_state, customer_zip_code_prefix from {at_last}"),
        # Who moved has as many versions as addresses one after the other.
        ("select count(*) from core.customer_history",
         "select sum(address is not before) from (select customer_zip_code_prefix || customer_city || customer_state as address, "
         "lag(customer_zip_code_prefix || customer_city || customer_state) over (partition by customer_unique_id order by seen_at) "
         "as before from (select distinct * from customers))"),
        ("select payment_type, cast(sum(payment_value) * 100 as bigint), count(*) from core.payment group by 1",
         f"select payment_type, {paid}, count(*) from payments group by 1"),
        ("select count(*) from gold.fct_orders where count_items = 0",
         "select count(*) from orders where order_id not in (select order_id from items)"),
        ("select count(*) from core.imputed_value where _key not like '%again%'", "select count(*) from items"),
    ]  # fmt: skip
    payment = entities.Declaration(
        "payment", ("payment_id",), entities.columns_of("order_id,payment_type,payment_value:decimal(18,4)"), {}
    )
    return Shop(feeds, tables, days, totals, payment)


def sent(platform: Platform, objects: Iterable[tuple[str, str, bytes]]) -> None:
    feeds = set()
    for feed, name, body in objects:
        platform.put(name, body, feed=feed)
        feeds.add(feed)
    for feed in sorted(feeds):
        platform.load(feed, objects=1000)


def shuffled(shop: Shop, seed: int) -> list[tuple[str, str, bytes]]:
    """The objects in any order, some of them twice under another name."""
    chance = random.Random(seed)
    again = [(feed, f"again-{name}", body) for feed, name, body in chance.sample(shop.days, len(shop.days) // 20)]
    objects = [*shop.days, *again]
    chance.shuffle(objects)
    return objects


def assert_totals(platform: Platform, shop: Shop) -> None:
    database = shop.sqlite()
    for ours, theirs in shop.totals:
        found = sorted(tuple(map(str, row)) for row in platform.rows(ours))
        wanted = sorted(tuple(map(str, row)) for row in database.execute(theirs).fetchall())
        assert found == wanted, ours
        assert wanted


def assert_accounted(platform: Platform, objects: Iterable[tuple[str, str, bytes]]) -> None:
    """Every row of every object, and how many of them are new to us: each once, whatever was sent twice."""
    received: dict[str, int] = defaultdict(int)
    distinct: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for feed, name, body in objects:
        rows = list(csv.reader(io.StringIO(body.decode("utf-8-sig"))))[1:]
        received[feed] += len(rows)
        # What says the same of the same instant is one event; the instant is the file's where a row has none.
        stamp = "" if feed in ("ol_customers", "ol_orders", "nw_orders") else name.removeprefix("again-")
        distinct[feed] |= {(stamp, *_told(feed, row)) for row in rows}
    found: dict[str, tuple[Any, ...]] = {
        feed: tuple(map(int, counts))
        for feed, *counts in platform.rows(
            "select feed, sum(received), sum(accepted), sum(quarantined), sum(duplicates) from clean.accounting group by 1"
        )
    }
    assert found == {
        feed: (count, len(distinct[feed]), 0, count - len(distinct[feed])) for feed, count in received.items()
    }


def _told(feed: str, row: list[str]) -> list[str]:
    # Olist's customer has a number per order that we do not take: what is left may be said twice.
    return row[1:] if feed == "ol_customers" else row


def gold_of(platform: Platform) -> dict[str, set[str]]:
    """Every row of the gold tables, as text."""
    return {
        table: {repr({k: str(v) for k, v in row.items()}) for row in platform.table(f"gold.{table}")} for table in GOLD
    }


def home_of(shop: Shop, folder: Path, bucket: Bucket, settings: Settings | None = None) -> Platform:
    (folder / "project").mkdir(parents=True)
    made = settings or settings_at(folder / "home")
    own = Bucket(bucket.client, f"{bucket.name}-{folder.name}", bucket.prefix)
    own.ensure()
    return Platform(made, own, project=shop.project(folder / "project"))


@pytest.mark.parametrize("name", ["northwind", pytest.param("olist", marks=on_both)])
def test_a_shop_comes_to_the_totals_that_sqlite_confirms_whatever_the_order(
    name: str, shared: Path, tmp_path: Path, bucket: Bucket
) -> None:
    data = shared / "data"
    shop = northwind(data / "northwind" / "csv") if name == "northwind" else olist(data / "olist")
    platform = home_of(shop, tmp_path / name, bucket)
    objects = shuffled(shop, 7)
    half = len(objects) // 2
    for part in (objects[:half], objects[half:]):
        sent(platform, part)
        platform.build(*MODELS, *(["+payment"] if shop.entity else []))
    assert_totals(platform, shop)
    assert_accounted(platform, objects)


@on_both
def test_the_same_days_in_order_and_shuffled_with_copies_give_the_same_gold_on_both_engines(
    shared: Path, tmp_path: Path, bucket: Bucket, on_snowflake: Settings
) -> None:
    """Fifty days on each: DuckDB takes them in order, fakesnow as they come."""
    shop = olist(shared / "data" / "olist", first_day="2018-07-10")
    in_order = home_of(shop, tmp_path / "in-order", bucket)
    sent(in_order, shop.days)
    in_order.build(*MODELS, "+payment")
    assert_totals(in_order, shop)
    as_they_come = home_of(shop, tmp_path / "as-they-come", bucket, on_snowflake)
    objects = shuffled(shop, 3)
    for part in (objects[::2], objects[1::2]):
        sent(as_they_come, part)
        as_they_come.build(*MODELS, "+payment")
    assert_accounted(as_they_come, objects)
    found, wanted = gold_of(as_they_come), gold_of(in_order)
    for table in GOLD:
        assert sorted(found[table] - wanted[table])[:2] == sorted(wanted[table] - found[table])[:2], table
