"""Change events as Debezium and AWS DMS write them, and snapshots under their guard, landed as files."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from c360_assets import entities, history, quarantine
from c360_assets.landing import Bucket
from c360_assets.quarantine import Choice
from generator import debezium, dms
from generator.changes_truth import truth_of_changes
from generator.debezium import DEBEZIUM_MIX, DebeziumSpec
from generator.dms import DMS_MIX, DmsSpec
from generator.objects import GeneratedObject
from generator.truth import CUSTOMERS, fold
from tests.engine.streams import assert_equals_truth
from tests.parts import Platform, project_with, settings_at

BUILD = ("--exclude-resource-type", "test", "--select", "+customer", "+customer_ties", "+customer_history")
DAYS = """
sources:
  - name: staging
    schema: staging
    tables:
      - name: customer_days
        columns: [{name: customer_id, data_type: varchar}, {name: city, data_type: varchar}]
        config:
          meta:
            feed: {prefix: customer_days/, formats: [csv], entity: customer, kind: snapshot, event_time: {name: 'day_(\\d{14})'}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a feed of daily snapshots."""
    return project_with(tmp_path_factory.mktemp("days"), {"models/staging/customer_days.yml": DAYS})


def land(platform: Platform, feed: str, objects: Iterable[GeneratedObject]) -> list[GeneratedObject]:
    """Puts them as they were sent; what stands of a name is the last of it."""
    sent: dict[str, GeneratedObject] = {}
    for each in objects:
        platform.put(Path(each.name).name, each.body, feed)
        sent[each.name] = each
    return list(sent.values())


@pytest.mark.parametrize("connector", ["mysql", "postgresql"])
def test_debezium_with_every_fault_comes_to_what_its_envelopes_say(connector: str, platform: Platform) -> None:
    spec = DebeziumSpec(
        customers=400, rows_per_file=150, days=1, interval=10_800, seed=3, connector=connector, truncate=True, wrapped=connector == "mysql",
        faults=DEBEZIUM_MIX,
    )  # fmt: skip
    objects = list(debezium.generate(spec))
    sent = land(platform, "customers_debezium", objects[: len(objects) // 2])
    platform.load("customers_debezium")
    platform.build(*BUILD)
    sent = land(platform, "customers_debezium", objects)
    platform.sync("customers_debezium")
    truth = fold(CUSTOMERS, truth_of_changes(sent))
    assert len(truth.current) > 50 and any(row["ended_by"] == "delete" for row in truth.history)
    assert_equals_truth(platform, truth)


def test_dms_beside_debezium_with_every_fault_comes_to_what_both_say(platform: Platform) -> None:
    objects = list(
        dms.generate(DmsSpec(customers=400, rows_per_file=150, days=1, interval=10_800, seed=5, faults=DMS_MIX))
    )
    beside = list(debezium.generate(DebeziumSpec(customers=100, rows_per_file=90, days=1, interval=21_600, seed=6)))
    sent = land(platform, "customers_dms", reversed(objects))
    said = land(platform, "customers_debezium", beside)
    platform.load("customers_dms", objects=4)
    platform.load("customers_debezium")
    platform.build()
    events = [*truth_of_changes(sent), *truth_of_changes(said)]
    assert {e.key for e in truth_of_changes(sent)} & {e.key for e in truth_of_changes(said)}
    truth = fold(CUSTOMERS, events)
    assert any(row["valid_from"].year == 1970 for row in truth.history)
    assert_equals_truth(platform, truth)


def test_rows_of_a_full_load_are_in_no_order_and_tie(platform: Platform) -> None:
    platform.put("LOAD00000001.csv", b"customer_id,city\nC2,Bonn\nC1,Rome\n", "customers_dms")
    platform.put("LOAD00000002.csv", b"customer_id,city\nC1,Oslo\n", "customers_dms")
    platform.load("customers_dms")
    platform.build(*BUILD)
    assert platform.rows("select customer_id, rule from core.customer_ties") == [("C1", "content")]
    assert platform.rows("select distinct position from core.customer_log") == [(None,)]


def test_of_what_comes_at_the_instant_of_a_truncate_the_position_decides(platform: Platform) -> None:
    """As a transaction of PostgreSQL that writes, empties the table and writes again: one time, rising LSNs."""

    def envelope(lsn: int, op: str, key: str | None = None) -> str:
        after = {"customer_id": key, "city": "Rome"} if key else None
        return json.dumps(
            {"op": op, "before": None, "after": after, "source": {"ts_ms": 1_700_000_000_000, "lsn": lsn}}
        )

    lacking = envelope(8, "u", "C2").replace("Rome", "__debezium_unavailable_value")
    body = "\n".join((envelope(5, "c", "C1"), envelope(6, "t"), envelope(7, "c", "C2"), lacking))
    platform.put("one.json", body.encode(), "customers_debezium")
    platform.sync("customers_debezium")
    assert platform.rows("select customer_id from core.customer") == [("C2",)]
    assert platform.rows("select count(*) from core.customer_ties") == [(0,)]
    assert platform.rows("select reasons from clean.quarantine") == [('["unavailable_value:city"]',)]
    platform.build("--full-refresh", *BUILD)
    assert platform.rows("select customer_id from core.customer") == [("C2",)]


def test_real_envelopes_come_to_the_last_state_that_they_name(shared: Path, platform: Platform) -> None:
    case = json.loads((shared / "referee" / "debezium_envelopes.json").read_text())
    body = "\n".join(json.dumps(envelope) for envelope in case["envelopes"])
    platform.put("real.json", body.encode(), "customers_debezium")
    platform.sync("customers_debezium")
    expected = {str(row["id"]): row for row in case["expected_last_state"]}
    found = {row["customer_id"]: row for row in platform.table("core.customer")}
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        assert {n: found[key][n] for n in row if n != "id"} == {n: v for n, v in row.items() if n != "id"}
    assert platform.rows("select received, accepted, duplicates, quarantined from clean.accounting") == [
        (len(case["envelopes"]), len(case["envelopes"]) - 1, 1, 0)  # the tombstone says nothing new
    ]


def test_a_snapshot_that_lacks_too_many_is_held_until_it_is_released(
    tmp_path: Path, bucket: Bucket, project: Path
) -> None:
    platform = Platform(settings_at(tmp_path / "home"), bucket, project=project)

    def day(number: int, customers: Iterable[int], city: str = "Rome") -> None:
        rows = "".join(f"C{n},{city}\n" for n in customers)
        platform.put(f"day_202401{number:02}000000.csv", f"customer_id,city\n{rows}".encode(), "customer_days")
        platform.sync("customer_days")

    def current() -> set[str]:
        return {key for (key,) in platform.rows("select customer_id from core.customer")}

    day(1, range(10))
    day(2, range(9))
    assert current() == {f"C{n}" for n in range(9)}
    day(4, range(3), "Oslo")  # a cut file: 6 of 9 are missing
    assert len(current()) == 9
    customer = entities.find_entity(project, "customer")
    with platform.warehouse.reading() as session:
        told = {row["effect"]: row["notes"] for row in history.explain(session, customer, ["C5"])}
    assert told["held back"] == (
        "the snapshot lacks the key, but 6 of 9 keys as well: it deletes when a person releases it"
    )
    assert platform.rows("select count(*) from core.customer where city = 'Oslo'") == [(3,)]
    with platform.warehouse.reading() as session:
        (held,) = quarantine.entries(session, Choice(reason="too_many_deletes"))
    assert (held.stage, held.row) == ("guard", 0)
    assert held.raw == "lacks 6 of the 9 keys of 2024-01-02T00:00:00.000000Z"
    assert platform.rows("select sum(quarantined), sum(received) = sum(accepted) from clean.accounting") == [(0, True)]
    day(3, range(4, 9))  # comes later, lies between: now 2 of its 5 lack, and 3 that it lacks are there
    assert platform.rows(
        "select verdict, count_missing, count_before from clean.customer_snapshots order by event_time"
    ) == [("stands", 0, 0), ("stands", 1, 10), ("stands", 4, 9), ("held", 5, 5)]
    quarantine.decide(platform.warehouse, [held], "release", "")
    platform.build()
    assert current() == {"C0", "C1", "C2"}
    with platform.warehouse.reading() as session:
        assert quarantine.entries(session, Choice()) == []
    assert platform.rows(
        "select ended_by, count(*) from core.customer_history where customer_id = 'C8' group by all"
    ) == [("delete", 1)]


def test_a_file_with_a_key_that_cannot_be_read_deletes_nothing(tmp_path: Path, bucket: Bucket, project: Path) -> None:
    platform = Platform(settings_at(tmp_path / "home"), bucket, project=project)
    platform.put("day_20240101000000.csv", b"customer_id,city\nC1,Rome\nC2,Rome\nC3,Rome\n", "customer_days")
    platform.put("day_20240102000000.csv", b"customer_id,city\nC1,Rome\n ,Rome\nC3,Rome\n", "customer_days")
    platform.sync("customer_days")
    assert platform.rows("select count(*) from core.customer") == [(3,)]
    assert platform.rows("select verdict from clean.customer_snapshots order by event_time") == [
        ("stands",),
        ("incomplete",),
    ]
    with platform.warehouse.reading() as session:
        refused = quarantine.entries(session, Choice())
    quarantine.decide(platform.warehouse, refused, "dismiss", "a trailer, no customer")
    platform.build()
    assert platform.rows("select customer_id from core.customer order by 1") == [("C1",), ("C3",)]


def test_a_part_that_cannot_be_read_or_is_empty_leaves_it_open_what_the_whole_lacks(
    tmp_path: Path, bucket: Bucket, project: Path
) -> None:
    platform = Platform(settings_at(tmp_path / "home"), bucket, project=project)
    first, second = (b"customer_id,city\n" + b"".join(b"C%d,Rome\n" % n for n in range(*p)) for p in ((0, 6), (6, 10)))
    packed = gzip.compress(second)
    platform.put("day_20240101000000.csv", first + second.split(b"\n", 1)[1], "customer_days")
    platform.put("day_20240102000000_a.csv", first, "customer_days")
    platform.put("day_20240102000000_b.csv.gz", packed[: len(packed) // 2], "customer_days")
    platform.put("day_20240103000000_a.csv", first, "customer_days")
    platform.put("day_20240103000000_b.csv", b"", "customer_days")
    platform.load("customer_days")
    platform.build(*BUILD)
    verdicts = "select verdict from clean.customer_snapshots order by event_time"
    assert platform.rows(verdicts) == [("stands",), ("incomplete",), ("incomplete",)]
    assert platform.rows("select count(*) from core.customer") == [(10,)]
    platform.put("day_20240102000000_b.csv.gz", packed, "customer_days")
    platform.put("day_20240103000000_b.csv", second.replace(b"C9,Rome\n", b""), "customer_days")
    platform.load("customer_days")
    platform.build(*BUILD)
    assert platform.rows(verdicts) == [("stands",), ("stands",), ("stands",)]
    assert platform.rows("select count(*) from core.customer") == [(9,)]


def test_what_was_implied_stays_known_since_its_file_came_also_after_a_rebuild(
    tmp_path: Path, bucket: Bucket, project: Path
) -> None:
    platform = Platform(settings_at(tmp_path / "home"), bucket, project=project)
    for number, body in ((1, b"C1,Rome\nC2,Rome\n"), (2, b"C1,Rome\n"), (3, b"C1,Oslo\n")):
        platform.put(f"day_202401{number:02}000000.csv", b"customer_id,city\n" + body, "customer_days")
        platform.load("customer_days")
    loaded = "select cast(loaded_at as varchar) from staging.object_ledger order by key"
    first, second, _ = [at for (at,) in platform.rows(loaded)]
    for arguments in ((), ("--full-refresh",)):
        platform.build(*arguments, *BUILD)
        held = "select count(*) from core.customer_as_of(timestamp '2024-01-05', timestamp '{}')"
        assert platform.rows(held.format(first)) == [(2,)]
        assert platform.rows(held.format(second)) == [(1,)]
