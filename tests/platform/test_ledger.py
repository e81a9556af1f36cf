"""The ledger: what becomes of an object that comes again, changed, cut, empty, broken, gone, under any name, in any order."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from c360_assets import staging
from c360_assets.feeds import Feed
from c360_assets.landing import Bucket, Listed
from c360_assets.settings import PROJECT
from c360_assets.warehouse import Session, Warehouse
from tests.parts import Platform, Row, command_environment, digest, settings_at

NO_TESTS = ("--exclude-resource-type", "test")
HEADER = "customer_id,city"


def table(*rows: str, header: str = HEADER) -> bytes:
    return "\n".join([header, *rows, ""]).encode()


def etag(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()


def another(platform: Platform, name: str) -> Platform:
    """A platform with an empty home and prefix of its own, on the same S3."""
    settings = settings_at(platform.settings.home.parent / name)
    return Platform(settings, Bucket(platform.bucket.client, platform.bucket.name, name)).begin()


def staged(platform: Platform) -> dict[str, str]:
    """A digest of each table in staging, without what the clock or a batch's name puts there."""
    return {
        name: digest(platform.rows(f"select * exclude ({exclude}), {marks} from staging.{name}"))
        for name, exclude, marks in (
            ("customers", "_loaded_at, _batch, _superseded_at", "_superseded_at is not null"),
            ("refused_rows", "refused_at, _batch, _superseded_at", "_superseded_at is not null"),
            ("object_ledger", "last_modified, batch, loaded_at", "true"),
        )
    }


# --- one platform, three rounds of objects: each test looks at its own objects


@dataclass
class Round:
    """What the tables held after a round, by the name of the object."""

    statuses: dict[str, list[str]] = field(default_factory=dict)
    batches: dict[str, list[str]] = field(default_factory=dict)
    accounting: dict[tuple[str, str], Row] = field(default_factory=dict)
    quarantine: dict[str, list[Row]] = field(default_factory=dict)
    received: dict[str, int] = field(default_factory=dict)
    objects: int = 0


@dataclass
class Story:
    platform: Platform
    rounds: list[Round] = field(default_factory=list)

    def play(self, *arguments: str) -> None:
        """Loads and builds what was put, and notes what is there now."""
        loaded = self.platform.load(batches=20)
        self.platform.build(*arguments)
        noted = Round(objects=loaded.objects)
        for key, status, batch in self.platform.rows(
            "select key, status, batch from staging.object_ledger order by batch"
        ):
            noted.statuses.setdefault(name_of(key), []).append(status)
            noted.batches.setdefault(name_of(key), []).append(batch)
        for key, tag, *counts in self.platform.rows(
            "select _key, _etag, received, accepted, quarantined, duplicates from clean.accounting"
        ):
            assert (name_of(key), tag) not in noted.accounting
            noted.accounting[name_of(key), tag] = tuple(counts)
        for key, *refused in self.platform.rows(
            "select _key, _row, stage, raw, reasons from clean.quarantine order by all"
        ):
            noted.quarantine.setdefault(name_of(key), []).append(tuple(refused))
        noted.received = {
            name_of(key): count
            for key, count in self.platform.rows(
                "select _key, count(*) from staging.customers where _superseded_at is null group by all"
            )
        }
        self.rounds.append(noted)

    def history(self, prefix: str) -> list[Row]:
        return self.platform.rows(
            "select customer_id, city, cast(cast(valid_from as date) as varchar), cast(cast(valid_to as date) as varchar), ended_by "
            f"from core.customer_history where customer_id like '{prefix}-%' order by all"
        )


def name_of(key: str) -> str:
    return key.rsplit("/", 1)[-1]


AGAIN = ("customer_20240101000000.csv", table("again-1,Rome", "again-2,Oslo"))
TIMED = table("timed-1,Rome,2024-02-01", "timed-2,Oslo,2024-02-01", header=f"{HEADER},updated_at")
INSTANT = table("instant-1,Rome")
WHOLE = table("cut-1,Rome", "cut-2,Oslo", "cut-3,Bonn", "cut-4,Bern")
CUT = WHOLE[: WHOLE.index(b"cut-3") + 4]
GROWING = [("2024-03-01T00:00:00+00:00", table("append-1,Rome")), ("2024-03-02T00:00:00+00:00", table("append-1,Oslo"))]
A, B = table("aba-1,Rome", "aba-2,Rome"), table("aba-1,Oslo")
BACK = [
    ("2024-03-01T00:00:00+00:00", table("back-1,Rome")),
    ("2024-03-02T00:00:00+00:00", table("back-1,Oslo")),
    ("2024-03-03T00:00:00+00:00", table("back-1,Rome")),
]
ZIPPED = gzip.compress(table(*(f"zip-{n},{hashlib.md5(str(n).encode()).hexdigest()}" for n in range(100))), mtime=0)
STATED = f"{HEADER},updated_at,source_position"
FIRST = table("taken-1,Rome,2024-04-01,9", "taken-2,Rome,2024-04-01,9", "taken-3,Rome,2024-04-01,9", header=STATED)
CORRECTED = table("taken-3,Oslo,2024-04-01,9", header=STATED)
# The same event as the first object's, at a lower position, and a rival at a position between.
COPY = table("taken-1,Rome,2024-04-01,3", "taken-1,Bonn,2024-04-01,5", header=STATED)
EXTRA = table("extra-1,Rome,7,", "extra-2,Oslo,8,x", header=f"{HEADER},Loyalty Points,note")
ODD = ["a b.csv", "zürich+bern.csv", "100%25&=?#.csv", "00.csv", "zz.csv"]


@pytest.fixture(scope="module")
def story(s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Story:
    client = boto3.client(
        "s3", endpoint_url=s3_endpoint, region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t"
    )
    bucket = Bucket(client, "t-ledger-story", "stream_data")
    bucket.ensure()
    home = tmp_path_factory.mktemp("ledger") / "home"
    story = Story(Platform(settings_at(home), bucket).begin())
    put = story.platform.put

    put(*AGAIN)
    put("timed.csv", TIMED)
    put("customer_20240102000000.csv", INSTANT)
    put("customer_20240103000000.csv", CUT)
    put("growing.csv", GROWING[0][1], mtime=GROWING[0][0])
    put("customer_20240104000000.csv", A)
    put("back.csv", BACK[0][1], mtime=BACK[0][0])
    put("customer_20240105000000.csv", b"")
    put("header.csv", f"{HEADER}\n".encode())
    put("customer_20240106000000.csv.gz", ZIPPED[:-200])
    put("notes.xlsx", b"PK")
    put("no_key.csv", table("Rome", "Oslo", header="city"))
    put("extra.csv", EXTRA, mtime=GROWING[0][0])
    for number, name in enumerate(reversed(ODD)):
        put(name, table(f"odd-{number},Rome"), mtime=GROWING[0][0])
    put("customer_20240107000000.csv", FIRST)
    put("taken_copy.csv", COPY)
    story.play(*NO_TESTS)

    put(*AGAIN)
    put("timed_copy.csv", TIMED)
    put("customer_20240102120000.csv", INSTANT)
    put("customer_20240103000000.csv", WHOLE)
    put("growing.csv", GROWING[1][1], mtime=GROWING[1][0])
    put("customer_20240104000000.csv", B)
    put("back.csv", BACK[1][1], mtime=BACK[1][0])
    put("customer_20240106000000.csv.gz", ZIPPED)
    put("customer_20240107000000.csv", CORRECTED)
    story.play(*NO_TESTS)

    put("customer_20240104000000.csv", A)
    put("back.csv", BACK[2][1], mtime=BACK[2][0])
    story.play(*NO_TESTS)
    return story


def test_the_same_object_put_again_is_nothing_new(story: Story) -> None:
    name, body = AGAIN
    for noted in story.rounds:
        assert noted.statuses[name] == ["loaded"]
        assert noted.accounting[name, etag(body)] == (2, 2, 0, 0)
        assert noted.received[name] == 2
    assert story.rounds[1].objects == 8
    assert story.rounds[2].objects == 2


def test_a_copy_under_another_name_is_loaded_and_all_its_rows_are_duplicates(story: Story) -> None:
    last = story.rounds[-1]
    assert last.statuses["timed_copy.csv"] == ["loaded"]
    assert last.received["timed_copy.csv"] == 2
    assert last.accounting["timed.csv", etag(TIMED)] == (2, 2, 0, 0)
    assert last.accounting["timed_copy.csv", etag(TIMED)] == (2, 0, 0, 2)
    assert len(story.history("timed")) == 2


def test_a_copy_whose_name_states_another_instant_brings_no_ops_that_are_accepted(story: Story) -> None:
    last = story.rounds[-1]
    assert last.accounting["customer_20240102120000.csv", etag(INSTANT)] == (1, 1, 0, 0)
    log = "select cast(event_time as varchar) from core.customer_log where customer_id = 'instant-1' order by all"
    assert story.platform.rows(log) == [("2024-01-02 00:00:00",), ("2024-01-02 12:00:00",)]
    assert story.history("instant") == [("instant-1", "Rome", "2024-01-02", None, None)]


def test_an_object_cut_in_half_counts_until_the_whole_one_takes_its_place(story: Story) -> None:
    name = "customer_20240103000000.csv"
    before, after = story.rounds[0], story.rounds[1]
    assert before.statuses[name] == ["loaded"]
    assert before.accounting[name, etag(CUT)] == (3, 2, 1, 0)
    assert before.quarantine[name] == [(3, "reading", "cut-", '["too_few_fields"]')]

    assert after.statuses[name] == ["superseded", "loaded"]
    assert after.accounting[name, etag(WHOLE)] == (4, 4, 0, 0)
    assert after.accounting[name, etag(CUT)] == (3, 2, 1, 0)
    assert name not in after.quarantine
    marks = (
        "select _etag, count(*), count(_superseded_at), count(distinct _superseded_at) from staging.{} "
        f"where _key like '%{name}' group by all order by 2"
    )
    assert story.platform.rows(marks.format("customers")) == [(etag(CUT), 2, 2, 1), (etag(WHOLE), 4, 0, 0)]
    assert story.platform.rows(marks.format("refused_rows")) == [(etag(CUT), 1, 1, 1)]
    assert [city for _, city, *_ in story.history("cut")] == ["Rome", "Oslo", "Bonn", "Bern"]


def test_each_version_of_an_object_without_an_instant_in_its_name_adds_events_at_its_own_file_time(
    story: Story,
) -> None:
    assert story.rounds[1].statuses["growing.csv"] == ["loaded", "loaded"]
    assert story.rounds[1].received["growing.csv"] == 2
    assert [story.rounds[1].accounting["growing.csv", etag(body)] for _, body in GROWING] == [(1, 1, 0, 0)] * 2
    assert story.history("append") == [
        ("append-1", "Oslo", "2024-03-02", None, None),
        ("append-1", "Rome", "2024-03-01", "2024-03-02", "update"),
    ]


def test_a_b_a_under_a_key_with_an_instant_leaves_a_alone(story: Story) -> None:
    name = "customer_20240104000000.csv"
    assert [noted.statuses[name] for noted in story.rounds] == [
        ["loaded"],
        ["superseded", "loaded"],
        ["superseded", "superseded", "loaded"],
    ]
    assert [noted.received[name] for noted in story.rounds] == [2, 1, 2]
    assert story.history("aba") == [
        ("aba-1", "Rome", "2024-01-04", None, None),
        ("aba-2", "Rome", "2024-01-04", None, None),
    ]
    received, accepted, quarantined, duplicates = story.rounds[-1].accounting[name, etag(A)]
    assert (received, quarantined) == (4, 0)
    assert accepted + duplicates == 4


def test_a_b_a_under_a_key_without_an_instant_is_three_events(story: Story) -> None:
    assert story.rounds[-1].statuses["back.csv"] == ["loaded", "loaded", "loaded"]
    assert [(city, since, until) for _, city, since, until, _ in sorted(story.history("back"), key=lambda v: v[2])] == [
        ("Rome", "2024-03-01", "2024-03-02"),
        ("Oslo", "2024-03-02", "2024-03-03"),
        ("Rome", "2024-03-03", None),
    ]
    assert story.rounds[-1].accounting["back.csv", etag(BACK[0][1])] == (2, 2, 0, 0)
    assert story.rounds[-1].accounting["back.csv", etag(BACK[1][1])] == (1, 1, 0, 0)


def test_an_object_without_bytes_and_one_without_records_are_in_the_ledger_and_account_for_nothing(
    story: Story,
) -> None:
    first = story.rounds[0]
    assert first.statuses["customer_20240105000000.csv"] == ["empty"]
    assert first.statuses["header.csv"] == ["loaded"]
    assert first.accounting["customer_20240105000000.csv", etag(b"")] == (0, 0, 0, 0)
    assert first.accounting["header.csv", etag(f"{HEADER}\n".encode())] == (0, 0, 0, 0)
    assert not {"customer_20240105000000.csv", "header.csv"} & (first.received.keys() | first.quarantine.keys())


def test_a_truncated_gzip_is_one_refusal_until_the_whole_one_lands(story: Story) -> None:
    name = "customer_20240106000000.csv.gz"
    before, after = story.rounds[0], story.rounds[1]
    assert before.statuses[name] == ["unreadable"]
    assert [(row, stage) for row, stage, *_ in before.quarantine[name]] == [(0, "reading")]
    assert name not in before.received  # not even what could be unpacked before the cut
    assert before.accounting[name, etag(ZIPPED[:-200])] == (1, 0, 1, 0)

    assert after.statuses[name] == ["unreadable", "loaded"]
    assert name not in after.quarantine
    assert after.accounting[name, etag(ZIPPED)] == (100, 100, 0, 0)
    assert after.accounting[name, etag(ZIPPED[:-200])] == (1, 0, 1, 0)
    assert len(story.history("zip")) == 100


def test_an_object_of_unknown_format_is_one_refusal(story: Story) -> None:
    assert story.rounds[0].statuses["notes.xlsx"] == ["unreadable"]
    assert story.rounds[-1].quarantine["notes.xlsx"] == [(0, "reading", "", '["unknown_format"]')]
    assert story.rounds[-1].accounting["notes.xlsx", etag(b"PK")] == (1, 0, 1, 0)


def test_a_missing_required_column_refuses_every_row_with_its_text(story: Story) -> None:
    assert story.rounds[0].statuses["no_key.csv"] == ["loaded"]
    assert story.rounds[-1].quarantine["no_key.csv"] == [
        (1, "reading", "Rome", '["missing_column:customer_id"]'),
        (2, "reading", "Oslo", '["missing_column:customer_id"]'),
    ]
    assert story.rounds[-1].accounting["no_key.csv", etag(table("Rome", "Oslo", header="city"))] == (2, 0, 2, 0)


def test_unknown_columns_are_kept(story: Story) -> None:
    extra = "select customer_id, _extra from staging.customers where customer_id like 'extra-%' order by 1"
    assert story.platform.rows(extra) == [
        ("extra-1", '{"loyalty points":"7","note":null}'),
        ("extra-2", '{"loyalty points":"8","note":"x"}'),
    ]
    assert len(story.history("extra")) == 2


def test_keys_may_hold_blanks_umlauts_and_signs_and_come_in_any_order(story: Story) -> None:
    for name in ODD:
        assert story.rounds[0].statuses[name] == ["loaded"]
        assert story.rounds[0].received[name] == 1
    keys = "select distinct _key from staging.customers where customer_id like 'odd-%' order by 1"
    assert story.platform.rows(keys) == [(f"stream_data/customers/{name}",) for name in sorted(ODD)]
    assert len(story.history("odd")) == len(ODD)


def test_an_event_whose_object_was_replaced_stays_where_another_object_holds_a_copy(story: Story) -> None:
    """The acceptance passes to the copy, and the position is what the copies that stand have."""
    name = "customer_20240107000000.csv"
    before, after = story.rounds[0], story.rounds[1]
    assert before.accounting[name, etag(FIRST)] == (3, 3, 0, 0)
    assert before.accounting["taken_copy.csv", etag(COPY)] == (2, 1, 0, 1)
    assert after.accounting["taken_copy.csv", etag(COPY)] == (2, 2, 0, 0)
    assert after.accounting[name, etag(CORRECTED)] == (1, 1, 0, 0)
    log = "select customer_id, city, regexp_replace(position, '^0+', '') from core.customer_log where customer_id like 'taken-%' order by all"
    assert story.platform.rows(log) == [("taken-1", "Bonn", "5"), ("taken-1", "Rome", "3"), ("taken-3", "Oslo", "9")]
    assert [(key, city) for key, city, *_ in story.history("taken")] == [("taken-1", "Bonn"), ("taken-3", "Oslo")]


def test_the_log_names_an_object_that_stands_as_where_an_event_came_from(story: Story) -> None:
    lost = """
        select log.customer_id, log.city, split_part(log._key, '/', -1), log._row
        from core.customer_log as log
        where not exists (
            select 1 from staging.customers as staged
            where staged._key = log._key and staged._etag = log._etag and staged._row = log._row and staged._superseded_at is null
        )
    """
    assert story.platform.rows(lost) == []


def test_after_all_of_it_every_check_passes_and_core_is_what_the_standing_objects_give_alone(story: Story) -> None:
    story.platform.build()
    alone = another(story.platform, "alone")
    alone.put("taken_copy.csv", COPY)
    for instant, body in (("0101000000", AGAIN[1]), ("0102000000", INSTANT), ("0102120000", INSTANT), ("0103000000", WHOLE),
                          ("0104000000", A), ("0107000000", CORRECTED)):  # fmt: skip
        alone.put(f"customer_2024{instant}.csv", body)
    alone.put("customer_20240106000000.csv.gz", ZIPPED)
    alone.put("timed.csv", TIMED)
    odd = [(GROWING[0][0], table(*(f"odd-{number},Rome" for number in range(len(ODD)))))]
    for number, (mtime, body) in enumerate([*BACK, *GROWING, (GROWING[0][0], EXTRA), *odd]):
        alone.put(f"file_{number}.csv", body, mtime=mtime)
    alone.load()
    alone.build(*NO_TESTS)
    shown = (
        "select customer_id, city, valid_from, valid_to, change_type, ended_by from core.customer_history order by all"
    )
    assert alone.rows(shown) == story.platform.rows(shown)
    assert alone.digest() == story.platform.digest()


# --- what changes while we look


@dataclass(frozen=True)
class Shifting(Bucket):
    """A bucket in which something happens between listing and reading."""

    meanwhile: Callable[[], Any] = lambda: None

    def listed(self, feed: Feed) -> Iterator[Listed]:
        found = list(super().listed(feed))
        self.meanwhile()
        yield from found


def load_while(platform: Platform, meanwhile: Callable[[], Any]) -> staging.Loaded:
    bucket = platform.bucket
    shifting = Platform(platform.settings, Shifting(bucket.client, bucket.name, bucket.prefix, meanwhile))
    return shifting.load()


def test_an_object_gone_before_it_was_read_is_noted_and_loaded_when_it_lands_again(platform: Platform) -> None:
    platform.put("customer_20240101000000.csv", table("1,Rome"))
    body = table("2,Oslo")
    key = platform.put("customer_20240102000000.csv", body)
    loaded = load_while(platform, lambda: platform.bucket.client.delete_object(Bucket=platform.bucket.name, Key=key))
    assert loaded.by_status == {"loaded": 1, "gone": 1}
    platform.build(*NO_TESTS)
    assert platform.rows("select split_part(_key, '/', -1), received from clean.accounting") == [
        ("customer_20240101000000.csv", 1)
    ]

    platform.put("customer_20240102000000.csv", body)
    assert platform.sync().by_status == {"loaded": 1}
    ledger = "select status from staging.object_ledger where key = '{}' order by batch"
    assert platform.rows(ledger.format(key)) == [("gone",), ("loaded",)]
    assert platform.rows(f"select received, accepted from clean.accounting where _key = '{key}'") == [(1, 1)]
    assert platform.rows("select customer_id, city from core.customer order by 1") == [("1", "Rome"), ("2", "Oslo")]
    assert platform.load().objects == 0


def test_an_object_overwritten_before_it_was_read_is_left_to_the_next_load(platform: Platform) -> None:
    name = "customer_20240101000000.csv"
    platform.put(name, table("1,Rome"))
    platform.put("other.csv", table("2,Bonn"))
    changes = iter(range(20))

    def overwrite() -> None:
        number = next(changes, None)
        assert number is not None, "the load follows an object that is overwritten all the time"
        platform.put(name, table(f"1,Oslo{number}"))

    assert load_while(platform, overwrite).by_status == {"loaded": 1}
    assert platform.rows("select customer_id from staging.customers") == [("2",)]
    assert platform.rows("select split_part(key, '/', -1) from staging.object_ledger") == [("other.csv",)]

    platform.put(name, table("1,Bern"))
    assert platform.sync().by_status == {"loaded": 1}
    assert platform.rows("select customer_id, city from core.customer order by 1") == [("1", "Bern"), ("2", "Bonn")]


# --- batches


def test_batches_are_bounded_by_objects_and_by_bytes_and_all_is_loaded_in_the_end(platform: Platform) -> None:
    body = table("1,Rome")
    for number in range(7):
        platform.put(f"customer_2024010100000{number}.csv", body)
    assert platform.load(objects=3, batches=1).objects == 3
    assert platform.load(objects=3).batches == 2
    per_batch = "select count(*) from staging.object_ledger group by batch order by batch"
    assert platform.rows(per_batch) == [(3,), (3,), (1,)]

    platform.put("customer_20240102000000.csv", table(*["1,Rome"] * 500))  # more than the bound, and taken alone
    for number in range(1, 6):
        platform.put(f"customer_2024010200000{number}.csv", body)
    assert platform.load(size=2 * len(body)).batches in (3, 4)
    sizes = platform.rows("select count(*), sum(size) from staging.object_ledger group by batch order by batch")[3:]
    assert all(count == 1 or size <= 2 * len(body) for count, size in sizes)
    assert platform.load().objects == 0
    assert platform.rows("select count(*), count(distinct key) from staging.object_ledger") == [(13, 13)]


# --- large objects


BIG = int(os.environ.get("C360_BIG_TESTS") or 0) * 500 or 30  # MB

LOAD_AND_MEASURE = """
    import resource

    from c360_assets import local, staging
    from c360_assets.feeds import load_feeds
    from c360_assets.settings import PROJECT, Settings
    from c360_assets.warehouse import open_warehouse

    settings = Settings.load()
    feed = load_feeds([PROJECT / "dbt" / "models" / "staging"])["customers"]
    loaded = staging.load_new(
        feed, local.landing_bucket(settings), open_warehouse(settings), settings.spool, objects=500, size=1 << 30
    )
    print(loaded.rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_a_large_object_is_loaded_in_memory_that_does_not_grow_with_it(
    platform: Platform, s3_endpoint: str, tmp_path: Path
) -> None:
    rows = BIG * 10_000
    file = tmp_path / "customer_20240101000000.csv"
    with file.open("w") as out:
        print("customer_id,first_name,last_name,email,street,city,state,country", file=out)
        for start in range(0, rows, 10_000):
            out.writelines(
                f"{n},First{n},Last{n},mail{n}@example.org,Some Street {n} in the district,City{n % 997},State,Country\n"
                for n in range(start, start + 10_000)
            )
    assert file.stat().st_size > BIG * 900_000
    platform.bucket.put(platform.feeds["customers"], file)
    file.unlink()
    script = tmp_path / "load.py"
    script.write_text(textwrap.dedent(LOAD_AND_MEASURE))
    environment = command_environment(platform.settings.home, platform.bucket, s3_endpoint, platform.warehouse)
    told = subprocess.run(
        [sys.executable, script],
        env=environment | {"PYTHONPATH": str(PROJECT)}, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    loaded, peak = int(told[0]), int(told[1])
    assert loaded == rows
    # Reader and spool take some 400 MB whatever the size, the writer at most the 1 GB that it is given.
    assert peak < 1_500, f"{peak} MB"


# --- crashes


class Crash(Exception):
    pass


class Counted:
    """A warehouse that fails at the n-th thing it is asked, and counts what it is asked."""

    def __init__(self, inner: Warehouse, fail_at: int | None = None) -> None:
        self.inner = inner
        self.fail_at = fail_at
        self.asked: list[str] = []

    def _step(self, what: str) -> None:
        self.asked.append(what)
        if len(self.asked) == self.fail_at:
            raise Crash(what)

    @contextmanager
    def writing(self, purpose: str) -> Iterator[Session]:
        self._step(f"open: {purpose}")
        with self.inner.writing(purpose) as session:
            execute, rows = session.execute, session.rows

            def counted_execute(sql: str, parameters: Any = ()) -> None:
                if sql != "rollback":
                    self._step(sql)
                execute(sql, parameters)

            def counted_rows(sql: str, parameters: Any = ()) -> list[Row]:
                self._step(sql)
                return rows(sql, parameters)

            session.execute, session.rows = counted_execute, counted_rows  # type: ignore[method-assign]
            yield session
            self._step(f"close: {purpose}")


def load_through(platform: Platform, warehouse: Any) -> None:
    limits: Any = {"objects": 500, "size": 1 << 30}
    staging.load_new(platform.feeds["customers"], platform.bucket, warehouse, platform.settings.spool, **limits)


def put_versions(platform: Platform, number: int, version: int) -> None:
    """A version of two objects of the number's own, with rows and refusals: all that a load writes is written anew."""
    rows = [f"{number}-a,Rome{version}", f"{number}-b", f",nobody{version}"]
    platform.put(f"customer_2024010100{number // 60:02}{number % 60:02}.csv", table(*rows))
    platform.put(f"log_{number}.csv", table(f"{number}-c,Bonn{version}"), mtime=f"2024-02-0{version}T00:00:00+00:00")


def test_a_first_load_that_dies_at_any_statement_is_made_good_by_the_next_one(platform: Platform) -> None:
    put_versions(platform, 0, 1)
    counted = Counted(platform.warehouse)
    load_through(platform, counted)
    undisturbed = staged(platform)
    kinds = [sql.split("(")[0].split(" add column")[0] for sql in counted.asked]
    # One of the many columns of a table stands for the others.
    points = [n for n, kind in enumerate(kinds) if kind not in kinds[:n] or "alter table" not in kind]
    assert len(points) > 20
    for n in points:
        settings = settings_at(platform.settings.home.parent / f"crash-{n}")
        crashed = Platform(settings, platform.bucket)
        with pytest.raises(Crash):
            load_through(crashed, Counted(crashed.warehouse, n + 1))
        assert not list(settings.spool.glob("*")), f"spool left by a crash at {counted.asked[n]}"
        crashed.load()
        assert staged(crashed) == undisturbed, f"after a crash at {counted.asked[n]}"


def test_later_loads_that_die_at_any_statement_give_the_same_staging_and_core(platform: Platform) -> None:
    undisturbed = another(platform, "undisturbed")
    put_versions(undisturbed, 0, 1)
    undisturbed.load()
    put_versions(undisturbed, 0, 2)
    counted = Counted(undisturbed.warehouse)
    load_through(undisturbed, counted)
    first = next(n for n, sql in enumerate(counted.asked) if sql.startswith("\n") or "select key" in sql)
    points = range(first, len(counted.asked))
    assert len(points) > 10

    for p in (platform, undisturbed):
        for n in points:
            put_versions(p, n, 1)
        p.load()
    for n in points:
        put_versions(platform, n, 2)
        with pytest.raises(Crash):
            load_through(platform, Counted(platform.warehouse, n + 1))
        platform.load()
        put_versions(undisturbed, n, 2)
    undisturbed.load()
    put_versions(platform, 0, 1)
    platform.load()
    put_versions(platform, 0, 2)
    platform.sync()
    undisturbed.build(*NO_TESTS)
    assert platform.digest() == undisturbed.digest()
