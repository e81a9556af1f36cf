"""A person who is forgotten: nothing of them anywhere, nothing of anybody else changed, whatever dies and whatever is landed again."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c360_assets import erasure, forgetting, local, registers, runs, staging
from c360_assets.cli import DONE
from c360_assets.erasure import ErasureError, Forgotten, Scope, erase, exactly
from c360_assets.erasure_proof import Marks
from c360_assets.forgetting import _forget_reasons
from c360_assets.landing import Bucket
from c360_assets.persons import NobodyFound
from tests.parts import Platform, on_duckdb, settings_at, without_shop

C360 = Path(sys.executable).with_name("c360")
HEAD = "customer_id,first_name,last_name,email,street,city,updated_at"
PERSON = "CUST-7"
# Of another an id of digits, which others have as a number.
NUMBER, NUMBERS_MAIL = "47110815", "max.unmistakable@example.org"
MAIL, STREET = "zoe.unmistakable@example.org", "77 Nowhere Else Lane"


def csv_of(*rows: str) -> bytes:
    return "\n".join([HEAD, *rows, ""]).encode()


def row(customer: str, city: str, day: int, mail: str = "", street: str = "") -> str:
    return f"{customer},Ann,Lee,{mail},{street},{city},2026-01-{day:02}T00:00:00Z"


MINE = [row(PERSON, "Ulm", 1, MAIL, STREET), row(PERSON, "Rome", 3, MAIL, STREET), row(PERSON, "Bern", 5, MAIL, STREET)]
# CUST-77 and CUST-70 begin as theirs does; CUST-8 has no street, so that one row is refused for its time.
OTHERS = [
    *(row(f"CUST-{n}", city, day, f"c{n}@example.org", f"{n} Long Street") for n in (70, 77, 8) for city, day in (("Oslo", 1), ("Kiel", 4))),
    "CUST-8,Ann,Lee,,,Graz,no time",
]  # fmt: skip


def parquet_of(*rows: str) -> bytes:
    names = HEAD.split(",")
    columns = list(zip(*(line.split(",") for line in rows), strict=True))
    out = io.BytesIO()
    pq.write_table(pa.table(dict(zip(names, columns, strict=True))), out)
    return out.getvalue()


def receipt(number: int, customer: str | None) -> str:
    item = {"product_id": "P1", "quantity": 1, "unit_price": "2.50", "price": "2.50"}
    told: dict[str, Any] = {
        "transaction_id": f"T{number}",
        "store_id": "S1",
        "customer_id": customer,
        "currency": "EUR",
    }
    return json.dumps(told | {"timestamp": "2026-01-02T10:00:00Z", "items": [item]}, separators=(",", ":"))


def debezium(customer: str, city: str, day: int, mail: str) -> str:
    after = {"customer_id": customer, "city": city, "email": mail}
    stamp = 1767225600000 + day * 86_400_000
    return json.dumps(
        {"before": None, "after": after, "op": "u", "ts_ms": stamp, "source": {"ts_ms": stamp, "lsn": day}}
    )


def files(mine: bool, pseudonym: str = PERSON) -> list[tuple[str, str, bytes]]:
    """(feed, name, bytes), with the person or as they would be without; every format, and one that is overwritten."""

    def kept(*rows: str) -> list[str]:
        return [line for line in rows if mine or line.split(",")[0] != PERSON]

    broken = ["CUST-8,too,few", *[f'{PERSON},"Zoe'] * mine]
    return [
        ("customers", "customer_20260101000000.csv", csv_of(*kept(OTHERS[0], MINE[0], *OTHERS[1:4]))),
        ("customers", "customer_20260103000000.csv.gz", gzip.compress(csv_of(*kept(MINE[1], *OTHERS[4:]), *broken))),
        ("customers", "customer_20260105000000.parquet", parquet_of(*kept(OTHERS[0], MINE[2]))),
        ("customers_debezium", "d.json", "\n".join([debezium("CUST-77", "Nice", 7, "n@example.org")] + [debezium(PERSON, "Faro", 6, MAIL)] * mine).encode()),
        ("pos", "r.json", ("[" + ",".join(receipt(n, c) for n, c in enumerate((pseudonym, "CUST-77", None, pseudonym))) + "]").encode()),
    ]  # fmt: skip


def of_the_shop() -> dict[str, str]:
    """{feed/name: text} of every other feed that names persons: the one, the one with a number, and another."""
    return {
        "customers_dms/dms.csv": "op,dms_timestamp,customer_id,city,email\n"
        f"U,2026-01-02T00:00:00Z,{PERSON},Lyon,{MAIL}\nU,2026-01-02T00:00:00Z,CUST-77,Metz,n@example.org\n",
        "orders/orders_20260102000000.csv": "order_id,customer_id,order_date,order_amount,order_status,payment_method\n"
        f"O1,{PERSON},2026-01-02,12.50,paid,card\nO2,CUST-8,2026-01-02,2.50,paid,card\n",
        "transactions/transactions_20260102000000.json": "\n".join(
            json.dumps({"transaction_id": f"X{n}", "customer_id": c, "order_date": "2026-01-02", "product_id": "P1", "quantity": 1, "unit_price": 2.5, "total_amount": 2.5})
            for n, c in enumerate((PERSON, "CUST-8"))
        ),
        "online_retail/retail.csv": "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        f"536365,85123A,LAMP,6,2026-01-02 08:26:00,2.55,{PERSON}.0,Italy\n536366,85123A,LAMP,6,2026-01-02 08:26:00,2.55,CUST-8.0,Italy\n"
        # A field too many: refused, and whose it is only its place tells.
        f"536367,85123A,LAMP,6,2026-01-02 08:26:00,2.55,{NUMBER}.0,Italy,\n{NUMBER},85123A,LAMP,6,2026-01-02 08:26:00,2.55,CUST-8.0,Italy,\n",
        "support_tickets/support_tickets_20260102000000.csv": "ticket_id,customer_id,issue_category,created_at,status,resolution_time_hours\n"
        f"T1,{PERSON},delivery,2026-01-02,open,\n",
        "clickstream/clicks.json": "\n".join(
            json.dumps({"event_id": f"E{n}", "event_type": "page_view", "customer_id": c, "session_id": f"S{n}", "timestamp": "2026-01-02T10:00:00Z"})
            for n, c in enumerate((PERSON, "CUST-8", int(NUMBER)))
        ),
        "dead_letters/letters.json": "\n".join(
            json.dumps({"source": "kafka", "stream": "clickstream_events", "part": "0", "position": str(n), "reason": "not_json",
                        "value_base64": b64encode(value).decode(), "key_base64": b64encode(key).decode(), "refused_at": "2026-01-02T00:00:00Z"})
            for n, (key, value) in enumerate([
                (b"", b'{"customer_id": "CUST-7", broken'), (b"CUST-7", b"x"), (b"CUST-8", b"x"), (NUMBER.encode(), b"x"),
                (b"", gzip.compress(f'{{"customer_id": {NUMBER}, broken'.encode())),
            ])
        ),
        "orders/orders_20260103000000.csv": "order_id,customer_id,order_date,order_amount,order_status,payment_method\n"
        f"O3,{NUMBER},2026-01-03,7.50,paid,card\n{NUMBER},CUST-8,2026-01-03,{NUMBER}.00,paid,card\n",
        "customers_dms/dms2.csv": "op,dms_timestamp,customer_id,city,email\n"
        f"U,2026-01-04T00:00:00Z,{NUMBER},Lyon,{NUMBERS_MAIL}\nU,2026-01-04T00:00:00Z,CUST-77,Gap {NUMBER},n@example.org\n",
    }  # fmt: skip


def loaded(
    platform: Platform, told: list[tuple[str, str, bytes]], forgotten: Callable[[], Forgotten] | None = None
) -> Platform:
    for feed, name, body in told:
        platform.put(name, body, feed, mtime="2026-01-05T00:00:00+00:00")
    for feed in dict.fromkeys(feed for feed, *_ in told):
        staging.load_new(
            platform.feeds[feed], platform.bucket, platform.warehouse, platform.settings.spool,
            objects=500, size=1 << 30, forgotten=forgotten,
        )  # fmt: skip
    return platform


def erased(platform: Platform, pseudonym: str, then: Callable[[], None] = lambda: None) -> None:
    with platform.warehouse.writing("test") as session:
        for feed in platform.feeds.values():
            with session.transaction():
                batch, now = registers.next_batch(session)
                erase(session, platform.bucket, feed, exactly(PERSON, pseudonym), Scope.of_text(PERSON), batch, now)
                then()


def told_of(platform: Platform) -> dict[str, Any]:
    """What staging and core hold, but when and under which etag it came."""
    found: dict[str, Any] = {}
    for feed in ("customers", "customers_debezium", "pos"):
        found[feed] = sorted(
            repr({n: v for n, v in row.items() if n not in ("_loaded_at", "_batch", "_etag", "_superseded_at")})
            for row in platform.table(f"staging.{feed}", "_superseded_at is null")
        )
    found["refused"] = sorted((r["_key"], r["_row"], r["reasons"]) for r in platform.table("staging.refused_rows"))
    return found


def shown(platform: Platform) -> dict[str, Any]:
    found = {}
    for table in ("customer", "customer_history", "pos_line"):
        rows = platform.table(f"core.{table}")
        late = ("known_at", "_etag", "_batch", "_loaded_batch", "batch")
        found[table] = sorted(repr({n: v for n, v in row.items() if n not in late}) for row in rows)
    found["accounting"] = sorted(
        (r["_key"], r["unit"], r["received"], r["accepted"], r["quarantined"], r["duplicates"])
        for r in platform.table("clean.accounting")
    )
    return found


@pytest.fixture
def platform(tmp_path: Path, bucket: Bucket) -> Platform:
    return Platform(settings_at(tmp_path / "home"), bucket).begin()


def bucket_beside(bucket: Bucket) -> Bucket:
    return Bucket(bucket.client, bucket.name, f"{bucket.prefix}-without")


def test_what_is_left_is_what_a_home_would_hold_that_never_met_them(platform: Platform, tmp_path: Path) -> None:
    loaded(platform, files(mine=True))
    platform.build()
    assert any(PERSON in text for text in shown(platform)["customer_history"])
    erased(platform, "forgotten-1")
    platform.build("--full-refresh")
    other = Platform(settings_at(tmp_path / "other"), bucket_beside(platform.bucket)).begin()
    loaded(other, files(mine=False, pseudonym="forgotten-1"))
    other.build()

    def same(told: dict[str, Any]) -> str:
        return json.dumps(told).replace(other.bucket.prefix, platform.bucket.prefix)

    assert same(told_of(platform)) == same(told_of(other))
    assert same(shown(platform)) == same(shown(other))
    # What S3 has now is what staging has: nothing is new, and a home that loads it holds the same.
    assert [platform.load(feed).objects for feed in platform.feeds] == [0] * len(platform.feeds)
    again = loaded(Platform(settings_at(tmp_path / "again"), platform.bucket).begin(), [])
    for feed in ("customers", "customers_debezium", "pos"):
        again.load(feed)
    assert told_of(again) == told_of(platform)
    statuses = platform.rows("select status, count(*) from staging.object_ledger group by 1 order by 1")
    assert statuses == [("erased", 5), ("loaded", 5)]


def test_what_people_wrote_of_them_about_a_refused_record_goes(platform: Platform) -> None:
    with platform.warehouse.writing("test") as session:
        registers.prepare_tables(session, [])
        for row, reason in enumerate([f"{PERSON} asked us to", "a test", f"not {PERSON}0"]):
            session.execute(
                "insert into staging.quarantine_decisions (feed, _key, _row, reason) values ('customers', 'k', ?, ?)",
                [row, reason],
            )
        _forget_reasons(session, Marks(PERSON))
    reasons = platform.rows("select reason from staging.quarantine_decisions order by _row")
    assert reasons == [("about somebody who is forgotten",), ("a test",), (f"not {PERSON}0",)]


def test_one_that_dies_between_s3_and_the_ledger_is_done_again(platform: Platform) -> None:
    loaded(platform, files(mine=True))

    def dies() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        erased(platform, "forgotten-1", dies)
    assert any(PERSON in text for text in told_of(platform)["customers"])
    # The next load takes the objects for overwritten ones, and what they held before is superseded; and still there.
    platform.load("customers")
    erased(platform, "forgotten-1")
    with platform.warehouse.reading() as session:
        held = session.rows("select count(*) from staging.customers where customer_id = ? or email = ?", [PERSON, MAIL])
        refused = session.rows("select count(*) from staging.refused_rows where position(? in raw) > 0", [PERSON + ","])
    assert held == [(0,)] and refused == [(0,)]
    platform.build()
    names = {text for (text,) in platform.rows("select customer_id from core.customer")}
    assert names == {"CUST-70", "CUST-77", "CUST-8"}


def test_who_is_forgotten_does_not_come_back_with_a_file_that_is_landed_again(platform: Platform) -> None:
    key_file = platform.settings.home / "erasure.key"
    forgotten = Forgotten.read(platform.bucket, key_file).add(platform.bucket, key_file, PERSON, "asked for it")
    entry = platform.bucket.client.get_object(Bucket=platform.bucket.name, Key=erasure.LEDGER_KEY)["Body"].read()
    assert PERSON.encode() not in entry and key_file.stat().st_mode & 0o077 == 0
    pseudonym = forgotten.pseudonym_of(PERSON)
    assert pseudonym and forgotten.pseudonym_of("CUST-77") is None
    loaded(platform, files(mine=True), lambda: Forgotten.read(platform.bucket, key_file))
    platform.build()  # the accounting of what is left adds up
    held = "".join(map(str, told_of(platform).values()))
    assert MAIL not in held and not re.search(rf"{PERSON}\b", held) and held.count(pseudonym) == 2
    for _, name, _ in files(mine=True):
        feed = {"d.json": "customers_debezium", "r.json": "pos"}.get(name, "customers")
        body = platform.bucket.client.get_object(
            Bucket=platform.bucket.name, Key=platform.bucket.folder(platform.feeds[feed]) + name
        )["Body"].read()
        body = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        assert MAIL.encode() not in body and not re.search(rb"CUST-7\b", body)


def test_under_another_key_nobody_would_be_known_and_nothing_is_loaded(platform: Platform) -> None:
    key_file = platform.settings.home / "erasure.key"
    Forgotten.read(platform.bucket, key_file).add(platform.bucket, key_file, PERSON, "asked")
    with pytest.raises(ErasureError, match=r"another key.*C360_ERASURE_KEY"):
        Forgotten.read(platform.bucket, key_file, "another")
    key_file.unlink()
    with pytest.raises(ErasureError, match=r"erasure\.key has"):
        Forgotten.read(platform.bucket, key_file)


def test_an_object_that_cannot_do_without_them_is_named_and_nothing_is_half_done(platform: Platform) -> None:
    # Without the person's line, the broken ones around it would be read as one.
    text = f'{HEAD}\n{MINE[0]}\nC2,"a"b,c,d\n{MINE[1]}\nC10,C10\n'
    key = platform.put("customer_20260101000000.csv", text.encode())
    platform.load("customers")
    before = told_of(platform)
    with pytest.raises(ErasureError, match=f"{key}: without the person.*land it again without them"):
        erased(platform, "forgotten-1")
    assert told_of(platform) == before
    assert platform.load("customers").objects == 0


def test_a_version_that_came_in_between_is_left_to_the_next_load(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, told = "customer_20260101000000.csv", csv_of(row("CUST-8", "Wien", 9))
    platform.put(name, csv_of(*MINE))
    platform.load("customers")
    kept = erasure._Version.put

    def put(version: Any, bucket: Bucket) -> str | None:
        platform.put(name, told)
        return kept(version, bucket)

    monkeypatch.setattr(erasure._Version, "put", put)
    erased(platform, "forgotten-1")
    assert platform.load("customers").objects == 1
    assert [r["customer_id"] for r in platform.table("staging.customers")] == ["CUST-8"]


def test_a_version_that_came_back_and_waits_is_loaded_after_it(platform: Platform) -> None:
    name, first = "customer_20260101000000.csv", csv_of(MINE[0], row("CUST-8", "Wien", 9))
    for body in (first, csv_of(row("CUST-8", "Graz", 9))):
        platform.put(name, body)
        platform.load("customers")
    platform.put(name, first)
    erased(platform, "forgotten-1")
    assert platform.load("customers").objects == 1
    standing = platform.table("staging.customers", "_superseded_at is null")
    assert [r["city"] for r in standing] == ["Wien"]


def test_in_every_feed_nothing_is_left_also_of_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of S3 and staging, with the certificate; what is made of staging is not made here."""
    settings = settings_at(tmp_path / "home")
    monkeypatch.setattr(runs, "sync", lambda *_, **__: DONE)
    with local.embedded_s3(settings):
        bucket = local.landing_bucket(settings)
        bucket.ensure()
        platform = Platform(settings, bucket, project=settings.dbt_project)
        shop = [(*name.split("/"), text.encode()) for name, text in of_the_shop().items()]
        loaded(platform, [*files(mine=True), *shop])  # type: ignore[list-item]
        for customer, letters in ((PERSON, 2), (NUMBER, 2)):
            told = forgetting.forget(settings, None, customer, "asked by letter", lambda _: None)  # type: ignore[arg-type]
            assert told["clean"], told["left"]
            assert told["feeds"]["dead_letters"]["dropped"] == letters and told["feeds"]["clickstream"]["changed"] == 1
            assert any(key.endswith("clicks.json") for key in told["found_in_objects"])
            assert told["found_in_tables"].keys() >= {"staging.clickstream", "staging.dead_letters", "staging.orders"}
            assert customer not in json.dumps(told)
        # Whom the number is not: an order that has it, and its amount.
        orders = platform.rows("select customer_id, order_amount from staging.orders where order_id = '47110815'")
        assert orders == [("CUST-8", "47110815.00")]
        assert platform.rows("select count(*) from staging.dead_letters") == [(1,)]
        refused = platform.rows("select raw from staging.refused_rows where feed = 'online_retail'")
        assert refused == [(f"{NUMBER},85123A,LAMP,6,2026-01-02 08:26:00,2.55,CUST-8.0,Italy,",)]
        with pytest.raises(NobodyFound):
            forgetting.forget(settings, None, "2026", "asked", lambda _: None)  # type: ignore[arg-type]


@on_duckdb
@pytest.mark.skipif(not os.environ.get("C360_ERASURE"), reason="takes minutes: make erasure runs it")
@pytest.mark.parametrize("shop", [False, True])
def test_by_command_nothing_is_left_and_everything_made_again_from_s3_holds_nothing(tmp_path: Path, shop: bool) -> None:  # fmt: skip
    home, out = tmp_path / "home", tmp_path / "files"
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("C360_", "AWS_", "DAGSTER_"))}
    environment |= {"C360_HOME": str(home)} | ({} if shop else {"C360_DBT_PROJECT": str(without_shop())})

    def run(*command: str, code: int = 0) -> str:
        done = subprocess.run([C360, *command], env=environment, capture_output=True, text=True, timeout=1800)
        assert done.returncode == code, done.stderr[-3000:]
        return done.stdout

    for feed, name, body in files(mine=True):
        path = out / feed / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    if shop:
        for name, text in of_the_shop().items():
            (out / name).parent.mkdir(exist_ok=True)
            (out / name).write_text(text)
    for folder in sorted(out.iterdir()):
        run("land", str(folder), "--feed", folder.name)
    run("sync")
    assert (
        "--yes"
        in subprocess.run(
            [C360, "forget", PERSON, "--reason", "x"], env=environment, capture_output=True, text=True
        ).stderr
    )
    before = run(
        "query", "select customer_id, city, valid_from from core.customer_history order by 1, 3", "--format", "csv"
    )
    sales = run("query", "select * from gold.daily_sales_summary order by all", "--format", "csv")

    theirs = (rb"(?<![\w-])CUST-7(?![\w-])", MAIL.encode(), STREET.encode())
    number = (rf'customer_?id\\*"?: ?\\*"?{NUMBER}'.encode(), NUMBERS_MAIL.encode())

    def traces(marks: tuple[bytes, ...] = theirs) -> list[str]:
        """A look of our own at every byte, and into what is packed."""
        pattern = re.compile(b"|".join(marks), re.IGNORECASE)
        found = []
        for path in home.rglob("*"):
            if path.is_file():
                body = path.read_bytes()
                parts = [body, gzip.decompress(body) if body[:2] == b"\x1f\x8b" else b""]
                parts += [str(pq.read_table(io.BytesIO(body)).to_pylist()).encode()] if body[:4] == b"PAR1" else []
                encoded = re.findall(rb'_base64\\*": ?\\*"([A-Za-z0-9+/=]+)', body)
                # Where dbt keeps its SQL a type stands there.
                packed = [b64decode(each) for each in encoded if each != b"VARCHAR"]
                parts += [*packed, *(gzip.decompress(each) for each in packed if each[:2] == b"\x1f\x8b")]
                found += [str(path)] * any(pattern.search(part) for part in parts)
        with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as connection:
            tables = connection.execute("select table_schema || '.' || table_name from information_schema.tables")
            for (table,) in tables.fetchall():
                if pattern.search(str(connection.execute(f"select * from {table}").fetchall()).encode()):
                    found.append(table)
        return found

    assert len(traces()) > 20
    certificate = json.loads(run("forget", PERSON, "--reason", "ticket 12", "--yes"))
    assert certificate["clean"], certificate["left"]
    assert certificate["left"] == {} and certificate["kept_by_others"] == []
    assert len(certificate["found_in_objects"]) == certificate["objects_written_anew"]
    assert any(key.endswith("customer_20260105000000.parquet") for key in certificate["found_in_objects"])
    assert certificate["found_in_store"].get("customers") == (1 if shop else None)
    assert certificate["found_in_tables"]["core.customer_log"] == 4 + shop and certificate["objects_written_anew"] >= 5
    assert PERSON not in json.dumps(certificate)

    assert traces() == []
    others = "\n".join(line for line in before.splitlines() if not line.startswith(f"{PERSON},"))
    history = "select customer_id, city, valid_from from core.customer_history order by 1, 3"
    assert run("query", history, "--format", "csv").strip() == others.strip() != before.strip()
    assert run("query", "select * from gold.daily_sales_summary order by all", "--format", "csv") == sales
    assert not list(home.glob("forgotten/*.begun"))
    for wrong, reason in (("CUST-404", "x"), (" ", "x"), ("CUST-8", "CUST-8 asked for it")):
        assert run("forget", wrong, "--reason", reason, "--yes", code=1) == ""
    if not shop:
        return
    assert len(traces(number)) > 5
    certificate = json.loads(run("forget", NUMBER, "--reason", "asked by letter", "--yes"))
    assert certificate["clean"], certificate["left"]
    assert certificate["feeds"]["dead_letters"]["dropped"] == 2 and certificate["found_in_store"]["customers"] == 1
    assert traces(number) == []
    others = "\n".join(line for line in others.splitlines() if not line.startswith(f"{NUMBER},"))
    named = run("query", "select order_id, customer_id from core.shop_order order by 1", "--format", "csv")
    assert f"{NUMBER},CUST-8" in named and f",{NUMBER}" not in named
    # The file comes once more, and the warehouse is made of nothing but S3.
    run("land", str(out / "customers"), "--feed", "customers")
    for left in (*home.glob("warehouse.*"), *home.glob("serving.*")):
        left.unlink()
    shutil.rmtree(home / "dagster")
    run("sync")
    assert run("query", history, "--format", "csv").strip() == others.strip()
    assert traces() == []
