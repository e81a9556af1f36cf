"""What the engines read differently comes to the same: numbers that a document spells otherwise, texts that are empty.

The table in docs/snowflake.md names these tests; those of the SQL's text are in tests/architecture/test_arithmetic.py.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from c360_assets.landing import Bucket
from c360_assets.settings import PROJECT
from tests.parts import Platform, Row, project_with, settings_at

# --- numbers: VARIANT writes them anew, DuckDB leaves most as they are

RECEIPTS = (
    '{"store_id": 7, "transaction_id": 101, "customer_id": 17, "timestamp": "2026-03-01T12:00:00Z", "items": ['
    '{"product_id": 5, "price": 2.50, "quantity": 2.0}, {"product_id": "p", "price": 1e1, "quantity": 3E0},'
    '{"product_id": "q", "price": 0.1000, "quantity": 10e-1}, {"product_id": "r", "price": 1.0E-3, "quantity": 1.0e2},'
    '{"product_id": "s", "price": -0.0, "quantity": -1.0}, {"product_id": "t", "price": 1.0e11, "quantity": 1.00}]}',
    '{"store_id": 7, "transaction_id": 102, "timestamp": "2026-03-01T12:00:00Z", "items": [],'
    '"refund": {"transaction_id": 101, "refund_amount": 5.00, "timestamp": "2026-03-01T13:00:00Z"}}',
)
LINES = (
    "select store_id, transaction_id, line, kind, product_id, quantity, unit_price, amount, customer_id, refund_of "
    "from core.pos_line order by 1, 2, 3",
    "select _row, line, product_id, reasons from clean.retail_pos_rejected order by 1, 2",
    "select unit, received, accepted, quarantined, duplicates from clean.accounting order by 1",
)


def written_anew(document: str) -> str:
    """As VARIANT has it: a whole number without a fraction, any other as the shortest text of its double."""

    def number(text: str) -> int | float:
        value = Decimal(text)
        return int(value) if value == value.to_integral_value() else float(value)

    return json.dumps(json.loads(document, parse_float=number))


def lines_of(platform: Platform, *receipts: str) -> list[list[Row]]:
    platform.put("2026/03/01/12/a", "".join(receipts).encode(), feed="pos")
    platform.sync("pos")
    return [platform.rows(sql) for sql in LINES]


def beside(platform: Platform, folder: Path) -> Platform:
    """A home and a prefix of its own, of the same project."""
    bucket = replace(platform.bucket, prefix="beside")
    return Platform(settings_at(folder / "beside"), bucket, project=platform.project)


def test_numbers_of_a_document_come_to_the_same_however_they_are_written(platform: Platform, tmp_path: Path) -> None:
    anew = [written_anew(receipt) for receipt in RECEIPTS]
    assert '"price": 10, "quantity": 3' in anew[0] and '"price": 2.5, "quantity": 2}' in anew[0]
    found = lines_of(platform, *RECEIPTS)
    assert lines_of(beside(platform, tmp_path), *anew) == found
    sold, refused, _ = found
    assert [(r[4], r[5], r[6]) for r in sold if r[3] == "sale"] == [
        ("5", Decimal(2), Decimal("2.5")), ("p", Decimal(3), Decimal(10)), ("q", Decimal(1), Decimal("0.1")),
        ("r", Decimal(100), Decimal("0.001")),
    ]  # fmt: skip
    assert [(r[3], r[7]) for r in sold if r[3] != "sale"] == [("refund", Decimal(5))]
    assert {r[2] for r in refused} == {"s", "t"}
    # Staging has them as they came: what VARIANT forgets is not lost.
    ((kept,),) = platform.rows("select payload from staging.pos where position('1.0E-3' in payload) > 0")
    assert '"price": 2.50, "quantity": 2.0' in kept


def test_an_id_that_is_a_fraction_is_one_id_where_the_feed_strips_it(tmp_path: Path, bucket: Bucket) -> None:
    """The one thing that numbers leave: an id written as 17.0 is 17 to VARIANT and stays 17.0 on DuckDB."""
    declared = (PROJECT / "dbt" / "models" / "staging" / "pos.yml").read_text()
    stripped = declared.replace("lines: items", 'lines: items\n              strip: {customer_id: "[.]0$"}')
    project = project_with(tmp_path, {"models/staging/pos.yml": stripped})
    platform = Platform(settings_at(tmp_path / "home"), bucket, project=project)
    receipt = RECEIPTS[0].replace('"customer_id": 17', '"customer_id": 17.0')
    found = lines_of(platform, receipt)
    assert {row[8] for row in found[0]} == {"17"}
    assert lines_of(beside(platform, tmp_path), written_anew(receipt)) == found


# --- empty texts: two things to both engines, but a COPY may take one for the other

HEAD = ("customer_id", "city", "updated_at")
CSV = 'customer_id,city,updated_at\nC1,,2024-01-01\nC1,"",2024-01-02\nC1," ",2024-01-03\n"",Rome,2024-01-04\n'
JSON = [
    {"customer_id": "C1", "city": "", "updated_at": "2024-01-01"},
    {"customer_id": "C1", "city": None, "updated_at": "2024-02-02"},
    {"customer_id": "C1", "updated_at": "2024-02-03"},
    {"customer_id": "C1", "city": " ", "updated_at": "2024-02-04"},
    {"customer_id": "", "city": "Rome", "updated_at": "2024-02-05"},
]
PARQUET = [
    ("C1", "", "2024-01-01"),
    ("C1", None, "2024-03-02"),
    (None, "Rome", "2024-03-03"),
    ("", "Rome", "2024-03-04"),
]


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(dict(zip(HEAD, zip(*PARQUET, strict=True), strict=True))), out)
    return out.getvalue()


def test_nothing_and_an_empty_text_are_one_state_of_whichever_format(platform: Platform) -> None:
    platform.put("a.csv", CSV.encode())
    platform.put("b.json", "\n".join(map(json.dumps, JSON)).encode())
    platform.put("c.parquet", parquet())
    platform.sync()
    # Nobody ever said a city: one version, and what says the same of one instant is one event.
    assert platform.rows("select customer_id, city, cast(valid_from as date) = '2024-01-01', valid_to is null "
                         "from core.customer_history") == [("C1", None, True, True)]  # fmt: skip
    log = "select count(*), count(distinct event_time), count(city) from core.customer_log"
    assert platform.rows(log) == [(7, 7, 0)]
    refused = "select reasons, count(*) from clean.quarantine group by reasons"
    assert platform.rows(refused) == [('["missing_key:customer_id"]', 4)]
    # In staging a CSV has no empty text; in the other formats it is what they say.
    staged = (
        "select count(city), sum(case when city = '' then 1 else 0 end) from staging.customers where _key like '%.{}'"
    )
    assert platform.rows(staged.format("csv")) == [(2, 0)]
    assert platform.rows(staged.format("json")) == [(3, 1)]
    assert platform.rows(staged.format("parquet")) == [(3, 1)]
