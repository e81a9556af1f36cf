"""A feed of another system by its declaration alone: Northwind's customers become customers of ours."""

from __future__ import annotations

import csv
from pathlib import Path

from c360_assets.landing import Bucket
from tests.parts import Platform, project_with, settings_at

FEED = """
sources:
  - name: staging
    schema: staging
    tables:
      - name: northwind_customers
        description: Customers of the Northwind shop.
        columns:
          - {name: customerid}
          - {name: companyname}
          - {name: contactname}
          - {name: address}
          - {name: city}
          - {name: region}
          - {name: country}
          - {name: phone}
        config:
          meta:
            feed:
              prefix: northwind/
              formats: [csv]
              required: [customerid]
              entity: customer
              map: {customer_id: customerid, last_name: companyname, first_name: contactname, street: address, state: region}
              nulls: ["NULL"]
              event_time: {file_time: true}
"""


def test_northwind_customers_load_by_a_declaration_of_their_own(shared: Path, tmp_path: Path, bucket: Bucket) -> None:
    project = project_with(tmp_path, {"models/staging/northwind.yml": FEED})
    platform = Platform(settings_at(tmp_path / "home"), bucket, project=project)
    file = shared / "data" / "northwind" / "csv" / "customers.csv"
    with file.open(newline="", encoding="utf-8-sig") as text:
        rows = list(csv.DictReader(text))
    platform.put("customers.csv", file.read_bytes(), feed="northwind_customers", mtime="2024-05-01T12:00:00+02:00")
    # A customer of the house feed lives beside them, and one that both feeds know is one customer.
    platform.put("customer_20240601000000.csv", b"customer_id,city\nALFKI,Potsdam\n1,Rome\n")
    platform.load("customers")
    platform.sync("northwind_customers")
    nulls = sum(row["region"] == "NULL" for row in rows)
    assert 0 < nulls < len(rows)
    expected = [
        (
            r["customerID"].strip(),
            r["companyName"].strip(),
            r["city"].strip(),
            r["region"] if r["region"] != "NULL" else None,
        )
        for r in rows
    ]
    found = platform.rows(
        "select customer_id, last_name, city, state from core.customer_history "
        "where valid_from = '2024-05-01 10:00:00' order by customer_id"
    )
    assert found == sorted(expected)
    assert platform.rows("select count(*) from core.customer") == [(len(rows) + 1,)]
    assert platform.rows(
        "select city, change_type from core.customer_history where customer_id = 'ALFKI' order by valid_from"
    ) == [
        ("Berlin", "insert"),
        ("Potsdam", "update"),
    ]
    assert platform.rows("select feed, received, accepted from clean.accounting order by feed") == [
        ("customers", 2, 2),
        ("northwind_customers", len(rows), len(rows)),
    ]
    unknown = platform.rows("select distinct _extra is not null from staging.northwind_customers")
    assert unknown == [(True,)]
