"""What is held of a person: every row that names them in any table, and none of another."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from c360_assets import erasure_proof, persons
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


def test_ids_that_are_a_part_of_others_and_an_object_that_is_named_after_somebody(
    tmp_path: Path, bucket: Bucket
) -> None:
    """What the object says of others is not of whom its name names; in the vault the hash key stands for the id."""
    settings = settings_at(tmp_path / "home")
    platform = Platform(settings, bucket, project=settings.dbt_project).begin()
    ids = ("lee@x.org", "ann.lee@x.org", "cust.1", "cust.1.2", "ller-1", "Müller-1", "urn:7", "urn:7:b", "o'b")
    told = [f"{each},A,,Ulm,,2026-01-0{day}T00:00:00Z" for each in ids for day in (1, 2)]
    # One object bears a name, one says nothing new, and one has a quote in an id.
    platform.put("lee@x.org.csv", (HEAD + "\n".join(told)).encode())
    platform.put(
        "more.csv", (HEAD + '\n"a""b",A,,Ulm,,2026-01-01T00:00:00Z\nlee@x.org,A,,Rome,,2026-01-03T00:00:00Z').encode()
    )
    platform.sync("customers")
    for customer, count in {**dict.fromkeys(ids, 2), 'a"b': 1, "lee@x.org": 3}.items():
        with platform.warehouse.reading() as session:
            found = persons.held(session, customer, platform.feeds)
        of = {row["customer_id"] for rows in found.values() for row in rows if row.get("customer_id")}
        assert of == {customer}
        assert len(found["staging.customers"]) == len(found["vault.sat_customer"]) == count
        assert len(found["core.customer"]) == len(found["vault.hub_customer"]) == 1
        assert ("staging.object_ledger" in found) == (customer == "lee@x.org")


def test_the_proof_looks_into_every_part_of_an_object(tmp_path: Path, bucket: Bucket) -> None:
    """Several zipped files one after the other, and text of two bytes a letter, which no reader takes."""
    platform = Platform(settings_at(tmp_path / "home"), bucket)
    line = f"{HEAD}C9,Di,C1 of here,Ulm,,2026-01-01T00:00:00Z\n"
    zipped = gzip.compress(HEAD.encode(), mtime=0) + gzip.compress(line.encode(), mtime=0)
    bodies = {"a.csv.gz": zipped, "b.csv": line.encode("utf-16"), "c.csv": line.replace("C1", "C11").encode("utf-16")}
    for name, body in bodies.items():
        platform.put(name, body)
    found = erasure_proof.in_objects(bucket, platform.feeds, erasure_proof.Marks("C1"))
    assert {key.split("/")[-1]: count for key, count in found.items()} == {"a.csv.gz": 1, "b.csv": 1}
