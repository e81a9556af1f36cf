"""What is held of a person: every row that names them in any table, and none of another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from c360_assets import persons
from c360_assets.landing import Bucket
from tests.parts import Platform, settings_at

HEAD = "customer_id,first_name,email,city,signup_date,updated_at\n"
ROWS = (
    "C1,Ann,ann@example.org,Ulm,,2026-01-01T00:00:00Z\nC10,Bob,bob@example.org,Ulm,,2026-01-01T00:00:00Z\n"
    "C1,Ann,ann@example.org,Rome,,2026-01-02T00:00:00Z\nC1,Ann,ann@example.org,Oslo,no date,2026-01-03T00:00:00Z\n"
    # An id of digits, and everything else that has them.
    "12,Cy,cy@example.org,Bonn,,2026-01-01T00:00:00Z\nC9,Di,di@example.org,12 Long Street,,2026-01-01T10:12:05Z\n"
)


def receipt(number: int, customer: str) -> dict[str, object]:
    line = {"product_id": "P1", "quantity": 1, "unit_price": "2.50", "amount": "2.50"}
    return {
        "transaction_id": f"T{number}",
        "store_id": "S1",
        "customer_id": customer,
        "timestamp": "2026-01-02T10:00:00Z",
        "currency": "EUR",
        "items": [line],
    }


def test_every_row_that_names_a_person_is_told_and_none_of_another(tmp_path: Path, bucket: Bucket) -> None:
    platform = Platform(settings_at(tmp_path / "home"), bucket).begin()
    platform.put("customer_20260103000000.csv", (HEAD + ROWS).encode())
    buyers = ("C1", "C10", "C1", "C9", "12")
    receipts = [receipt(n, c) for n, c in enumerate(buyers)]
    receipts[3] |= {"store_id": "12", "items": [{"product_id": "12", "quantity": 12, "price": "12.50"}]}
    platform.put("r.json", "\n".join(json.dumps(told) for told in receipts).encode(), "pos")
    platform.load("customers")
    platform.load("pos")
    platform.build()
    with platform.warehouse.reading() as session:
        found = persons.held(session, "C1", platform.feeds)
        numbered = persons.held(session, "12", platform.feeds)
        listed = [t for t in session.tables() if t.split(".")[0] in persons.SCHEMAS and "__" not in t]
        everywhere = {
            t: sum(persons.names("C1", row) for row in session.rows(f"select * from {t}")) for t in sorted(listed)
        }
        for nobody in ("C11", "10", "50"):
            with pytest.raises(persons.NobodyFound, match=f"'{nobody}'"):
                persons.held(session, nobody, platform.feeds)
    assert len(found["staging.customers"]) == 3 and len(found["staging.pos"]) == 2
    assert found["clean.customer_rows"] and any("no date" in str(row) for row in found["clean.customer_rows"])
    assert [row["city"] for row in found["core.customer"]] == ["Rome"]
    # Whatever else names the person is a view of these.
    views = {"clean.quarantine", "core.customer_history", "core.v_customer_change_data", "staging.json_raw_data"}
    missed = {table for table, count in everywhere.items() if count and table not in found}
    assert views <= missed
    assert missed <= {
        name
        for (name,) in platform.rows("select lower(table_schema || '.' || table_name) from information_schema.views")
    }
    assert not any("bob@" in str(row) for rows in found.values() for row in rows)
    assert numbered.keys() >= {"staging.customers", "staging.pos", "clean.customer_rows", "core.customer"}
    assert all(row.get("customer_id", "12") == "12" for rows in numbered.values() for row in rows)
    (receipt_row,) = numbered["staging.pos"]
    assert '"T4"' in receipt_row["payload"] and len(numbered["staging.customers"]) == 1
