"""Products beside customers, a third entity by its declaration alone, and a declaration that changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from c360_assets import entities, plan
from c360_assets.landing import Bucket
from tests.parts import BuildFailed, Platform, at_length, forget_manifest, project_with, settings_at

ITEMS = """
sources:
  - name: staging
    schema: staging
    tables:
      - name: parcels
        columns:
          - {name: orderid, data_type: varchar}
          - {name: line, data_type: varchar}
          - {name: product_id, data_type: varchar}
          - {name: price, data_type: varchar}
          - {name: note, data_type: varchar}
          - {name: changed_at, data_type: varchar}
        config:
          meta:
            feed:
              prefix: parcels/
              formats: [csv]
              required: [orderid, line]
              entity: parcel
              map: {order_id: orderid}
              event_time: {column: changed_at, zone: Europe/Berlin}
"""
ITEM = entities.Declaration(
    "parcel",
    ("order_id", "line"),
    entities.columns_of("product_id,price:decimal(18,4)"),
    entities.columns_of("note"),
)
IMPUTED = """              overwrite: replace
              impute:
                note: {value: it's bare}
                price: {product_of: [line, product_id]}
"""
BUILD = ("--exclude-resource-type", "test", "--select", "+parcel", "+parcel_history")
HEADER = "orderid,line,product_id,price,note,changed_at\n"


def test_a_products_price_has_a_history(platform: Platform) -> None:
    header = "product_id,product_name,category,price,currency,stock_quantity,updated_at\n"
    platform.put(
        "a.csv", (header + "P1,Cup,Home,2.50,EUR,9,2024-01-01\nP1,Cup,Home,2.5,EUR,4,2024-02-01\n").encode(), "products"
    )
    platform.put(
        "b.csv", (header + "P1,Cup,Home,3,EUR,2,2024-03-01\nP1,Cup,Home,much,EUR,2,2024-04-01\n").encode(), "products"
    )
    platform.sync("products")
    assert platform.rows("select cast(price as varchar), cast(valid_from as date)::varchar from core.product_history order by 2") == [
        ("2.5000", "2024-01-01"), ("3.0000", "2024-03-01"),
    ]  # fmt: skip
    assert platform.rows("select reasons from clean.quarantine") == [('["bad_decimal:price"]',)]
    assert platform.rows("select sum(received), sum(accepted), sum(quarantined) from clean.accounting") == [(4, 3, 1)]


def test_an_entity_comes_by_its_declaration_alone_and_a_changed_one_by_a_rebuild(
    tmp_path: Path, bucket: Bucket
) -> None:
    project = project_with(tmp_path, {"models/staging/parcels.yml": ITEMS})
    entities.write(ITEM, project)
    platform = Platform(settings_at(tmp_path / "home"), bucket, project=project)
    rows = "O1,1,P1,5,a,2024-01-01 01:00\nO1,1,P1,5,b,2024-01-02 01:00\nO1,2,P2,7,,2024-01-01 01:00\nO1,,P2,7,,2024-01-01 01:00\n"
    platform.put("a.csv", (HEADER + rows).encode(), "parcels")
    platform.sync("parcels")
    versions = "select order_id, line, cast(price as varchar), note, cast(valid_from as varchar) from core.parcel_history order by 1, 2, 5"
    assert platform.rows(versions) == [
        ("O1", "1", "5.0000", "b", "2024-01-01 00:00:00"), ("O1", "2", "7.0000", None, "2024-01-01 00:00:00"),
    ]  # fmt: skip
    assert platform.rows("select reasons from clean.quarantine") == [('["missing_key:line"]',)]
    assert platform.rows("select received, accepted, quarantined from clean.accounting") == [(4, 3, 1)]

    log = project / "models" / "core" / "parcel.yml"
    log.write_text(
        log.read_text()
        .replace("tracked: [product_id, price]", "tracked: [product_id, price, note]")
        .replace("type1: [note]", "")
    )
    forget_manifest(project)
    with pytest.raises(
        BuildFailed, match=r"note was type 1 varchar and becomes tracked varchar.*c360 sync --plan --rebuild"
    ):
        platform.build()
    assert len(platform.rows(versions)) == 2
    with plan.rehearsal(platform.settings, platform.warehouse, "") as rehearsed:
        copy = Platform(rehearsed, bucket, project=project)
        copy.build("--full-refresh", *BUILD)
        effects = plan.effects(platform.warehouse, copy.warehouse, [ITEM])
    assert [(e.of, e.effect, e.count, e.examples) for e in effects] == [("parcel", "spliced", 1, ("O1 1",))]
    platform.build("--full-refresh")
    assert [row[3] for row in platform.rows(versions)] == ["a", "b", None]

    log.write_text(
        log.read_text().replace("[product_id, price, note]", "[product_id, price, note]\n          personal: [note]")
    )
    feed = project / "models" / "staging" / "parcels.yml"
    feed.write_text(feed.read_text() + IMPUTED)
    forget_manifest(project)
    platform = Platform(platform.settings, bucket, project=project)
    with pytest.raises(BuildFailed, match=r"parcels.note is imputed: value it's bare; parcels.price is imputed: prod"):
        platform.build()
    platform.build("--full-refresh")
    assert [row[3] for row in platform.rows(versions)] == ["a", "b", "it's bare"]
    later = "O2,1,P3,,x,2024-01-03 01:00\nO2,2,4,,,2024-01-03 01:00\n,2,4,,,2024-01-03 01:00\n"
    key = platform.put("b.csv", (HEADER + later).encode(), "parcels")
    platform.sync("parcels")
    assert platform.rows(versions)[3:] == [
        ("O2", "1", None, "x", "2024-01-03 00:00:00"), ("O2", "2", "8.0000", "it's bare", "2024-01-03 00:00:00"),
    ]  # fmt: skip
    # Each value imputed is on record, with its rule, unless it is about a person; what was received stays as it was, and
    # a row refused is none.
    assert platform.rows(
        "select _row, column_name, rule, value from core.imputed_value where _key like '%b.csv' order by 1, 2"
    ) == [(2, "note", "value it's bare", None), (2, "price", "product of line and product_id", "8.0000")]
    assert platform.rows("select price, note from staging.parcels where orderid = 'O2' and line = '2'") == [
        (None, None)
    ]
    corrected = later.replace("O2,2,4,,,", "O2,2,4,9,y,")
    assert platform.put("b.csv", (HEADER + corrected).encode(), "parcels") == key
    platform.sync("parcels")
    assert platform.rows(versions)[4:] == [("O2", "2", "9.0000", "y", "2024-01-03 00:00:00")]
    assert platform.rows("select count(*) from core.imputed_value where _key like '%b.csv'") == [(0,)]


def test_a_column_that_is_declared_later_has_what_came_of_it_all_along(tmp_path: Path, bucket: Bucket) -> None:
    project = project_with(tmp_path, {"models/staging/parcels.yml": ITEMS})
    entities.write(ITEM, project)
    platform = Platform(settings_at(tmp_path / "home"), bucket, project=project)
    rows = "O1,1,P1,5,a,2024-01-01 01:00,12 kg\nO1,2,P2,7,,2024-01-01 01:00,\n"
    platform.put("a.csv", (HEADER.strip() + ", Weight\n" + rows).encode(), "parcels")
    platform.load("parcels")
    platform.build(*BUILD)

    feed, log = (project / "models" / place for place in ("staging/parcels.yml", "core/parcel.yml"))
    feed.write_text(
        feed.read_text().replace("- {name: note,", "- {name: weight, data_type: varchar}\n          - {name: note,")
    )
    log.write_text(log.read_text().replace("tracked: [product_id, price]", "tracked: [product_id, price, weight]"))
    forget_manifest(project)
    platform = Platform(platform.settings, bucket, project=project)
    platform.load("parcels")
    with pytest.raises(BuildFailed, match=r"weight is new \(tracked varchar\)"):
        platform.build(*BUILD)
    weighed = entities.Declaration(
        "parcel", ITEM.key, entities.columns_of("product_id,price:decimal(18,4),weight"), ITEM.type1
    )
    with plan.rehearsal(platform.settings, platform.warehouse, "") as rehearsed:
        copy = Platform(rehearsed, bucket, project=project)
        copy.build("--full-refresh", *BUILD)
        effects = plan.effects(platform.warehouse, copy.warehouse, [weighed])
    assert [(e.of, e.effect, e.count, e.examples) for e in effects] == [("parcel", "changed", 1, ("O1 1",))]
    platform.build("--full-refresh", *BUILD)
    assert platform.rows("select line, weight from core.parcel order by 1") == [("1", "12 kg"), ("2", None)]


@at_length
def test_a_feed_that_comes_to_mean_something_else_is_told_and_a_new_one_just_comes(
    tmp_path: Path, bucket: Bucket
) -> None:
    project = project_with(tmp_path, {"models/staging/parcels.yml": ITEMS})
    entities.write(ITEM, project)
    platform = Platform(settings_at(tmp_path / "home"), bucket, project=project)
    platform.put("a.csv", (HEADER + "O1,1,P1,5,a,2024-01-01 01:00\n").encode(), "parcels")
    platform.load("parcels")
    platform.build(*BUILD)
    feed = project / "models" / "staging" / "parcels.yml"
    (feed.parent / "others.yml").write_text(ITEMS.replace("parcels", "others"))
    forget_manifest(project)
    platform = Platform(platform.settings, bucket, project=project)
    platform.put("b.csv", (HEADER + "O2,1,P1,5,a,2024-01-01 01:00\n").encode(), "others")
    platform.load("others")
    platform.build(*BUILD)
    assert platform.rows("select count(*) from core.parcel") == [(2,)]
    feed.write_text(feed.read_text().replace("Europe/Berlin", "UTC"))
    forget_manifest(project)
    with pytest.raises(BuildFailed, match=r"feed parcels: event_time was .*Berlin.* and becomes .*UTC"):
        platform.build(*BUILD)
    (feed.parent / "others.yml").unlink()
    feed.write_text(feed.read_text().replace("zone: UTC", "zone: Europe/Berlin"))
    forget_manifest(project)
    with pytest.raises(BuildFailed, match="feed others goes"):
        platform.build(*BUILD)


PARTS = """
sources:
  - name: staging
    schema: staging
    tables:
      - name: customer_parts
        columns: [{name: customer_id, data_type: varchar}, {name: state, data_type: varchar}, {name: phone, data_type: varchar}, {name: said_at, data_type: timestamp}]
        config:
          meta:
            feed: {prefix: customer_parts/, formats: [csv], entity: customer, kind: partial, event_time: {column: said_at}}
"""


@at_length
def test_customers_have_a_column_named_state_whatever_else_is_declared(tmp_path: Path, bucket: Bucket) -> None:
    """Type 1 columns and partial feeds let the engine keep a hash of the state: its column must not be the customer's."""
    project = project_with(tmp_path, {"models/staging/customer_parts.yml": PARTS})
    log = project / "models" / "core" / "customer.yml"
    log.write_text(
        log.read_text().replace("            - phone\n", "").replace("          personal:", "          type1: [phone]\n          personal:", 1)
    )  # fmt: skip
    platform = Platform(settings_at(tmp_path / "home"), bucket, project=project)
    head = "customer_id,city,state,phone,updated_at\n"
    platform.put("customer_20260101000000.csv", (head + "C1,Ulm,BW,1,2026-01-01T00:00:00Z\n").encode())
    platform.sync("customers")
    platform.put(
        "p.csv",
        b"customer_id,state,phone,said_at\nC1,BY,,2026-01-02 00:00\nC1,BY,2,2026-01-03 00:00\n",
        "customer_parts",
    )
    platform.sync("customer_parts")
    history = "select city, state, phone, cast(valid_from as varchar) from core.customer_history order by valid_from"
    wanted = [("Ulm", "BW", "1", "2026-01-01 00:00:00"), ("Ulm", "BY", "2", "2026-01-02 00:00:00")]
    assert platform.rows(history) == wanted
    platform.build("--full-refresh")
    assert platform.rows(history) == wanted
