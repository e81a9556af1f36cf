"""Feeds: what is declared is read, what is wrong is told with file, feed and field, and names state instants."""

from __future__ import annotations

import copy
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from c360_assets.declared import DeclarationError
from c360_assets.feeds import EventTime, Feed, find_feed, load_feeds
from c360_assets.settings import PROJECT

GOOD: dict[str, Any] = {
    "name": "visits",
    "description": "Visits as received.",
    "columns": [{"name": "Visitor"}, {"name": "page"}, {"name": "at"}, {"name": "lsn"}, {"name": "op"}],
    "config": {
        "meta": {
            "feed": {
                "prefix": "visits/",
                "formats": ["csv", "json"],
                "required": ["visitor"],
                "kind": "upsert",
                "entity": "visitor",
                "map": {"visitor_id": "visitor"},
                "event_time": {"column": "at", "name": r"visits_(\d{14})", "file_time": True, "zone": "Europe/Berlin"},
                "position": {"column": "lsn"},
                "operation": {"column": "op", "upsert": ["I", "U"], "delete": ["D"]},
                "overwrite": "append",
                "delimiter": ";",
                "fresh_within_hours": 1.5,
            }
        }
    },
}
UNSET = object()


def document(*tables: Any) -> str:
    return yaml.safe_dump({"sources": [{"name": "staging", "tables": list(tables)}]})


def load(folder: Path, *tables: Any) -> dict[str, Feed]:
    (folder / "visits.yml").write_text(document(*tables))
    return load_feeds([folder])


def with_field(path: str, value: Any) -> dict[str, Any]:
    """The good table with one field of its feed set, or taken away."""
    table = copy.deepcopy(GOOD)
    place = table["config"]["meta"]["feed"]
    *parents, last = path.split(".")
    for parent in parents:
        place = place[parent]
    if value is UNSET:
        del place[last]
    else:
        place[last] = value
    return table


def with_table(**fields: Any) -> dict[str, Any]:
    return copy.deepcopy(GOOD) | fields


def test_a_declaration_is_read_to_the_last_field(tmp_path: Path) -> None:
    feed = load(tmp_path, GOOD)["visits"]
    assert feed.columns == ("visitor", "page", "at", "lsn", "op")
    assert (feed.prefix, feed.formats, feed.required) == ("visits/", ("csv", "json"), frozenset({"visitor"}))
    assert (feed.kind, feed.entity, feed.overwrite, feed.delimiter) == ("upsert", "visitor", "append", ";")
    assert feed.fresh_within_hours == 1.5
    assert feed.description == "Visits as received."
    assert (feed.event_time.column, feed.event_time.file_time, feed.event_time.zone) == ("at", True, "Europe/Berlin")
    assert feed.event_time.name is not None
    assert not feed.payload


def test_what_may_be_left_out_has_its_default(tmp_path: Path) -> None:
    meta = {"feed": {"prefix": "/raw/", "formats": ["json"]}}
    feed = load(tmp_path, {"name": "raw", "columns": [{"name": "payload"}], "config": {"meta": meta}})["raw"]
    assert feed.prefix == "raw/"
    assert feed.payload
    assert (feed.kind, feed.entity, feed.overwrite, feed.delimiter) == ("upsert", None, None, ",")
    assert (feed.required, feed.fresh_within_hours) == (frozenset(), None)
    assert feed.event_time == EventTime()


WRONG: list[tuple[str, Any, tuple[str, ...]]] = [
    ("prefix", UNSET, ("prefix", "missing")),
    ("prefix", None, ("prefix", "missing")),
    ("prefix", 7, ("prefix", "'7' is no text")),
    ("formats", UNSET, ("formats", "missing")),
    ("formats", "csv", ("formats", "'csv' is no list")),
    ("formats", ["csv", "xml"], ("formats", "'xml'", "csv, json, parquet")),
    ("formats", ["csv", 1], ("formats", "'1' is no text")),
    ("required", ["visitor", "email"], ("required", "'email' is not declared", "visitor, page, at, lsn, op")),
    ("required", "visitor", ("required", "no list")),
    ("kind", "insert", ("kind", "'insert'", "upsert")),
    ("overwrite", "keep", ("overwrite", "'keep'", "replace, append")),
    ("entity", ["customer"], ("entity", "no text")),
    ("delimiter", "||", ("delimiter", "'||'", "one character")),
    ("delimiter", "", ("delimiter", "one character")),
    ("fresh_within_hours", "24", ("fresh_within_hours", "'24' is no number")),
    ("events_within_hours", "1", ("events_within_hours", "'1' is no number")),
    ("fresh_within_hours", True, ("fresh_within_hours", "no number")),
    ("map", {"visitor_id": "id"}, ("map", "visitor_id", "'id' is not declared")),
    ("map", ["visitor"], ("map", "no mapping")),
    ("join", {"visitor_id": ["visitor", "id"]}, ("join: visitor_id: 2", "'id' is not declared")),
    ("join", {"visitor_id": ["visitor"]}, ("join: visitor_id", "two columns or more")),
    ("join", {"visitor_id": "visitor"}, ("join: visitor_id", "no list")),
    ("expect", [{"column": "paige", "null_share": 0.1}], ("expect: 1: column", "'paige' is not declared")),
    ("impute", {"page": {"value": 1}}, ("impute: page: value", "'1' is no text")),
    ("event_time", "at", ("event_time", "no mapping")),
    ("event_time", {}, ("event_time", "column, name or file_time")),
    ("event_time", {"zone": "UTC"}, ("event_time", "column, name or file_time")),
    ("event_time.column", "when", ("event_time: column", "'when' is not declared")),
    ("event_time.name", "visits_([0-9", ("event_time: name", "no regular expression")),
    ("event_time.name", r"visits_\d{14}", ("event_time: name", "no group")),
    ("event_time.file_time", "yes, please", ("event_time: file_time", "no true or false")),
    ("event_time.zone", "Berlin", ("event_time: zone", "'Berlin' is no time zone")),
    ("event_time.zone", "../UTC", ("event_time: zone", "no time zone")),
    ("event_time.colum", "at", ("event_time", "colum", "is not known", "column, file_time, initial, name, unit, zone")),
    ("position", {"column": "offset"}, ("position: column", "'offset' is not declared")),
    ("position", {"columns": ["lsn"]}, ("position", "columns", "is not known")),
    ("operation.column", "operation", ("operation: column", "'operation' is not declared")),
    ("operation.delete", ["D", "U"], ("operation", "'U' stands for two operations")),
    ("operation.delete", "D", ("operation", "delete", "no list")),
    ("operation.truncate", ["T"], ("operation", "truncate", "is not known")),
    ("prefx", "visits/", ("prefx", "is not known", "prefix")),
    ("event_time.initial", "long ago", ("event_time: initial", "'long ago' is no instant")),
    ("kind", "snapshot", ("event_time: column", "a snapshot has the instant of its file")),
    ("guard", 0.5, ("guard", "is not known")),
]
SNAPSHOT = {
    "prefix": "days/",
    "formats": ["csv"],
    "entity": "visitor",
    "kind": "snapshot",
    "event_time": {"name": r"day_(\d{14})"},
}
ENVELOPE = {"prefix": "stream/", "formats": ["json"], "entity": "visitor", "kind": "events"}


@pytest.mark.parametrize(
    ("feed", "changes", "told"),
    [
        (SNAPSHOT, {"guard": 2}, ("guard: 2", "share from 0 to 1")),
        (SNAPSHOT, {"event_time": {"zone": "UTC"}}, ("event_time", "give name or file_time")),
        (SNAPSHOT, {"operation": {"delete": ["D"]}}, ("operation", "take it away")),
        (ENVELOPE, {"kind": "upsert", "event_time": {"file_time": True}}, ("kind: 'upsert'", "say events")),
        (ENVELOPE, {"formats": ["csv"]}, ("formats", "an envelope is json")),
        (ENVELOPE, {"event_time": {"file_time": True}}, ("event_time: file_time", "stands in the envelope")),
    ],
)
def test_a_snapshot_or_envelope_that_cannot_be_is_told(
    tmp_path: Path, feed: dict[str, Any], changes: dict[str, Any], told: tuple[str, ...]
) -> None:
    columns = [{"name": "payload"}] if feed is ENVELOPE else [{"name": "visitor"}]

    def table(**changed: Any) -> dict[str, Any]:
        return {"name": "visits", "columns": columns, "config": {"meta": {"feed": feed | changed}}}

    found = load(tmp_path, table())["visits"]
    assert (found.kind, found.tombstones) == (feed["kind"], feed is ENVELOPE)
    with pytest.raises(DeclarationError) as error:
        load(tmp_path, table(**changes))
    assert all(part in str(error.value) for part in told), error.value


def test_a_full_load_without_times_has_the_initial_one() -> None:
    time = EventTime(column="at", initial=datetime(1970, 1, 1), file_time=True)
    assert time.of_object("LOAD00000001.csv", frozenset({"id"}), datetime(2026, 1, 1)) == datetime(1970, 1, 1)
    assert time.of_object("20260101-101112123.csv", frozenset({"id", "at"}), datetime(2026, 1, 1)) is None


@pytest.mark.parametrize(("path", "value", "told"), WRONG, ids=lambda v: str(v) if isinstance(v, str) else "")
def test_a_wrong_field_is_told_with_file_feed_and_field(
    path: str, value: Any, told: tuple[str, ...], tmp_path: Path
) -> None:
    load(tmp_path, GOOD)
    with pytest.raises(DeclarationError) as error:
        load(tmp_path, with_field(path, value))
    for part in (str(tmp_path / "visits.yml"), "feed 'visits'", *told):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ([with_table(name="Visits")], ("feed 'Visits'", "lower case")),
        ([with_table(name="visits-eu")], ("feed 'visits-eu'", "lower case")),
        ([with_table(name=7)], ("has no name",)),
        (["visits"], ("has no name",)),
        ([with_table(columns=[])], ("feed 'visits'", "columns", "none")),
        ([with_table(columns=[*GOOD["columns"], {"name": "PAGE"}])], ("feed 'visits'", "columns", "'page'", "twice")),
        ([with_table(columns=[*GOOD["columns"], {"name": "_key"}])], ("feed 'visits'", "columns", "'_key'", "ours")),
        ([with_table(columns=[*GOOD["columns"], {"type": "text"}])], ("feed 'visits'", "columns")),
        ([with_table(columns=[*GOOD["columns"], "email"])], ("feed 'visits'", "columns")),
        ([with_table(columns="visitor, page")], ("feed 'visits'", "columns")),
        ([with_table(config=["meta"])], ("visits", "config", "no mapping")),
        ([with_table(config={"meta": "feed"})], ("visits", "meta", "no mapping")),
        ([with_table(config={"meta": {"feed": "visits/"}})], ("feed 'visits'", "no mapping")),
        ([GOOD, GOOD], ("feed 'visits'", "twice")),
        ([GOOD, with_field("prefix", "visits/eu") | {"name": "eu"}], ("feed 'eu'", "prefix", "'visits/eu/'", "'visits'")),
        ([with_field("prefix", "visits/eu"), GOOD | {"name": "all"}], ("feed 'all'", "prefix", "'visits/eu/'")),
        ([with_field("prefix", "/")], ("feed 'visits'", "prefix")),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_a_wrong_table_is_told_with_file_and_feed(tables: list[Any], told: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(DeclarationError) as error:
        load(tmp_path, *tables)
    for part in (str(tmp_path / "visits.yml"), *told):
        assert part in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["sources: [", "- a\n- b\n", "just text", "sources: text", "sources:\n  - staging\n", "sources: {name: staging}"],
)
def test_a_file_that_is_no_declaration_is_told_with_its_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "broken.yml").write_text(text)
    with pytest.raises(DeclarationError, match=r"broken\.yml"):
        load_feeds([tmp_path])


def test_prefixes_that_only_begin_alike_are_apart(tmp_path: Path) -> None:
    feeds = load(tmp_path, with_field("prefix", "visits"), with_field("prefix", "visits_eu") | {"name": "eu"})
    assert {feed.prefix for feed in feeds.values()} == {"visits/", "visits_eu/"}


def test_tables_without_a_feed_and_sources_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("")
    (tmp_path / "b.yml").write_text(yaml.safe_dump({"models": [{"name": "m"}]}))
    (tmp_path / "c.yml").write_text(yaml.safe_dump({"sources": [{"name": "other", "tables": [{"name": "T"}]}]}))
    assert load(tmp_path, {"name": "object_ledger"}, GOOD).keys() == {"visits"}


def test_the_same_feed_in_two_files_is_told(tmp_path: Path) -> None:
    (tmp_path / "again.yml").write_text(document(GOOD))
    with pytest.raises(DeclarationError, match="'visits' is declared twice"):
        load(tmp_path, GOOD)


def test_the_shipped_declarations_load() -> None:
    feeds = load_feeds([PROJECT / "dbt" / "models" / "staging"])
    customers = feeds["customers"]
    assert customers.required == {"customer_id"}
    assert customers.entity == "customer"
    assert customers.event_time.in_name("x/customer_20241105235339.csv") == datetime(2024, 11, 5, 23, 53, 39)
    assert all(feed.description and feed.columns for feed in feeds.values())


def test_an_unknown_feed_is_told_with_those_there_are() -> None:
    with pytest.raises(
        DeclarationError, match="'custmers' is not declared; there are: categories, clickstream, customers"
    ):
        find_feed(load_feeds([PROJECT / "dbt" / "models" / "staging"]), "custmers")
    with pytest.raises(DeclarationError, match="there are: none"):
        find_feed({}, "customers")


# --- instants in names


def time_in(name: str, zone: str = "UTC", pattern: str = r"customer_(\d{14})") -> datetime | None:
    return EventTime(name=re.compile(pattern), zone=zone).in_name(name)


@pytest.mark.parametrize(
    ("name", "zone", "instant"),
    [
        ("customer_20241105235339.csv", "UTC", datetime(2024, 11, 5, 23, 53, 39)),
        ("customer_20241105235339.csv", "Europe/Berlin", datetime(2024, 11, 5, 22, 53, 39)),
        ("customer_20240705235339.csv", "Europe/Berlin", datetime(2024, 7, 5, 21, 53, 39)),
        ("customer_20241231235959.csv", "America/New_York", datetime(2025, 1, 1, 4, 59, 59)),
        ("customer_20240229000000.csv.gz", "UTC", datetime(2024, 2, 29)),
        # The hour that the clocks skip, and the two that bound it.
        ("customer_20240331015959.csv", "Europe/Berlin", datetime(2024, 3, 31, 0, 59, 59)),
        ("customer_20240331020000.csv", "Europe/Berlin", None),
        ("customer_20240331025959.csv", "Europe/Berlin", None),
        ("customer_20240331030000.csv", "Europe/Berlin", datetime(2024, 3, 31, 1)),
        # The hour that they pass twice.
        ("customer_20241027015959.csv", "Europe/Berlin", datetime(2024, 10, 26, 23, 59, 59)),
        ("customer_20241027020000.csv", "Europe/Berlin", None),
        ("customer_20241027025959.csv", "Europe/Berlin", None),
        ("customer_20241027030000.csv", "Europe/Berlin", datetime(2024, 10, 27, 2)),
        # Half an hour, and a whole day that an island skipped.
        ("customer_20241006021500.csv", "Australia/Lord_Howe", None),
        ("customer_20240407014500.csv", "Australia/Lord_Howe", None),
        ("customer_20111230120000.csv", "Pacific/Apia", None),
        ("customer_20240331023000.csv", "UTC", datetime(2024, 3, 31, 2, 30)),
        # No instants.
        ("customer_20241305235339.csv", "UTC", None),
        ("customer_20230229000000.csv", "UTC", None),
        ("customer_20241105240000.csv", "UTC", None),
        ("customer_20241105235960.csv", "UTC", None),
        ("customer_00000000000000.csv", "UTC", None),
        ("customer_2024110523533.csv", "UTC", None),
        ("customer.csv", "UTC", None),
        ("customer_٢٠٢٤١١٠٥٢٣٥٣٣٩.csv", "UTC", None),
        # Where the zone would lead out of the calendar.
        ("customer_00010101000000.csv", "Asia/Tokyo", None),
        ("customer_99991231235959.csv", "America/New_York", None),
    ],
)  # fmt: skip
def test_an_instant_in_a_name_is_utc_or_none_where_it_is_unclear(
    name: str, zone: str, instant: datetime | None
) -> None:
    assert time_in(name, zone) == instant


def test_the_instant_is_looked_for_in_the_last_part_of_the_key_only() -> None:
    assert time_in("stream_data/customer_20240101000000/customer_20240102000000.csv") == datetime(2024, 1, 2)
    assert time_in("stream_data/customer_20240101000000/file.csv") is None


def test_more_digits_than_an_instant_has_are_finer_than_it() -> None:
    assert time_in("LOAD_20240102030405678.csv", pattern=r"LOAD_(\d{14,17})") == datetime(2024, 1, 2, 3, 4, 5)


def test_the_time_of_an_object_is_its_rows_own_else_its_names_else_its_files(tmp_path: Path) -> None:
    time = load(tmp_path, GOOD)["visits"].event_time
    filed = datetime(2024, 5, 1)
    named, unnamed = "visits/visits_20240102000000.csv", "visits/x.csv"
    assert time.of_object(named, frozenset({"at"}), filed) is None
    assert time.of_object(named, frozenset({"page"}), filed) == datetime(2024, 1, 1, 23)
    assert time.of_object(unnamed, frozenset({"page"}), filed) == filed
    # A name that states an unclear instant gives none: the file's own time would be a guess.
    assert time.of_object("visits/visits_20240331023000.csv", frozenset(), filed) is None
    without = load(tmp_path, with_field("event_time.file_time", False))["visits"].event_time
    assert without.of_object(unnamed, frozenset(), filed) is None


@pytest.mark.parametrize(
    ("overwrite", "name", "replaces"),
    [
        (None, "visits_20240102000000.csv", True),
        (None, "visits.csv", False),
        (None, "visits_20240331023000.csv", False),
        ("replace", "visits.csv", True),
        ("append", "visits_20240102000000.csv", False),
    ],
)
def test_a_new_version_replaces_where_it_is_declared_else_where_the_name_gives_the_time(
    overwrite: str | None, name: str, replaces: bool, tmp_path: Path
) -> None:
    feed = load(tmp_path, with_field("overwrite", overwrite))["visits"]
    assert feed.replaces(f"stream_data/visits/{name}") is replaces


def test_every_wrong_value_of_every_field_is_a_declaration_error_and_nothing_else(tmp_path: Path) -> None:
    """Whatever stands where something else was meant, it is told, and never a traceback of ours."""
    strange: list[Any] = [7, 1.5, True, "x", ["x"], [7], [None], {"x": 1}, {1: 2}, [[]], {}, []]
    feed = GOOD["config"]["meta"]["feed"]
    nested = [f"{name}.{inner}" for name in ("event_time", "position", "operation") for inner in feed[name]]
    tables = {f"{path}: {value}": with_field(path, value) for path in [*feed, *nested] for value in strange}
    tables |= {f"{name}: {value}": with_table(**{name: value}) for name in GOOD for value in strange}
    wrong = {}
    for what, table in tables.items():
        try:
            load(tmp_path, table)
        except DeclarationError as error:
            assert "visits.yml" in str(error)
        except Exception as error:
            wrong[what] = f"{type(error).__name__}: {error}"
    assert not wrong


# --- lines of receipts

FLAT: dict[str, Any] = {
    "prefix": "shop/",
    "formats": ["csv"],
    "kind": "lines",
    "entity": "pos_line",
    "event_time": {"column": "at"},
    "map": {"transaction_id": "invoice", "product_id": "sku", "unit_price": "price", "quantity": "quantity"},
    "constants": {"store_id": "online", "currency": "EUR"},
    "strip": {"customer_id": "[.]0$"},
    "returns": "C.*",
    "adjustments": "A.*",
}
NESTED: dict[str, Any] = {
    "prefix": "till/",
    "formats": ["json"],
    "kind": "lines",
    "entity": "pos_line",
    "lines": "positions",
    "event_time": {"column": "at"},
    "map": {"store_id": "shop", "transaction_id": "nr", "product_id": "positions.sku", "unit_price": "positions.price",
            "quantity": "positions.count"},
}  # fmt: skip


def lines(feed: dict[str, Any], *columns: str) -> dict[str, Any]:
    return {"name": "till", "columns": [{"name": c} for c in columns], "config": {"meta": {"feed": feed}}}


COLUMNS = ("invoice", "sku", "price", "quantity", "at")


def test_lines_are_declared_flat_or_nested_and_their_objects_are_replaced(tmp_path: Path) -> None:
    for table in (lines(FLAT, *COLUMNS), lines(NESTED, "payload")):
        feed = load(tmp_path, table)["till"]
        assert feed.kind == "lines"
        assert feed.replaces("till/whatever")
        assert feed.payload == (table["columns"] == [{"name": "payload"}])


@pytest.mark.parametrize(
    ("feed", "columns", "told"),
    [
        (FLAT | {"lines": "items"}, COLUMNS, ("lines", "items", "payload")),
        ({k: v for k, v in NESTED.items() if k != "lines"}, ("payload",), ("lines", "missing")),
        (FLAT | {"map": {"transaction_id": "invoice"}}, COLUMNS, ("map", "product_id", "missing")),
        (FLAT | {"constants": {"shop": "x"}}, COLUMNS, ("constants", "shop", "store_id")),
        (FLAT | {"map": FLAT["map"] | {"prize": "price"}}, COLUMNS, ("map", "prize", "unit_price")),
        (FLAT | {"map": FLAT["map"] | {"city": "town"}}, COLUMNS, ("map: city", "town", "not declared")),
        (FLAT | {"strip": {"customer_id": "["}}, COLUMNS, ("strip: customer_id", "regular expression")),
        (FLAT | {"returns": "("}, COLUMNS, ("returns", "regular expression")),
        ({k: v for k, v in FLAT.items() if k != "kind"}, COLUMNS, ("adjustments", "not known")),
    ],
)
def test_wrong_lines_are_told_with_feed_and_field(
    feed: dict[str, Any], columns: tuple[str, ...], told: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(DeclarationError) as error:
        load(tmp_path, lines(feed, *columns))
    for part in ("visits.yml", "'till'", *told):
        assert part in str(error.value)
