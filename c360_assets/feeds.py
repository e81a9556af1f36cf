"""Feeds: the declarations in dbt/models/staging/*.yml as validated, typed values.

Belongs here: reading and checking what a feed declares. The yml is read, not dbt's manifest, so that a wrong
declaration is an error at load, before anything is built. Knows nothing of S3, Dagster or the warehouse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml

from c360_assets import instants
from c360_assets.declared import DeclarationError, Fields, list_of, mapping_of, pattern_of
from c360_assets.expectations import Expectation, check_imputation, take_expectations

FORMATS = ("csv", "json", "parquet")
# A row states a whole record; a change of one; one of all that there are; what is known of one; a line of a receipt;
# what somebody did.
KINDS = ("upsert", "events", "snapshot", "partial", "lines", "clicks")
OVERWRITES = ("replace", "append")
SOURCE = "staging"

# What a feed of kind `lines` may state of a line, of the refund on its receipt, and of an item cancelled afterwards.
LINE = (
    "store_id", "city", "transaction_id", "customer_id", "currency", "payment_method",
    "product_id", "unit_price", "quantity", "cancelled",
    "refund_transaction_id", "refund_amount", "refund_method", "refund_time",
    "cancelled_transaction_id", "cancelled_product_id",
)  # fmt: skip
# What a feed of kind `clicks` may state of an event.
CLICK = (
    "event_id", "event_type", "customer_id", "session_id", "product_id", "amount", "page_url", "device_type",
)  # fmt: skip
_MAPPED = {"lines": LINE, "clicks": CLICK}
_NEEDED = {
    "lines": ("store_id", "transaction_id", "product_id", "unit_price", "quantity"),
    "clicks": ("event_type",),
}
# Units in which the instant of an event may be counted since 1970, where it is no date and time.
UNITS = ("seconds", "milliseconds", "microseconds")


@dataclass(frozen=True)
class EventTime:
    """Where a row's event time comes from, in this order: the column, the object's name, what a full load without
    times is given, the file's own time."""

    column: str | None = None
    name: re.Pattern[str] | None = None
    initial: datetime | None = None
    file_time: bool = False
    zone: str = "UTC"

    def in_name(self, key: str) -> datetime | None:
        """The instant that the object's name states, UTC without zone; None where it states none or an unclear one."""
        found = self.name.search(key.rsplit("/", 1)[-1]) if self.name else None
        if not found:
            return None
        try:
            local = datetime.strptime(found.group(1)[:14], "%Y%m%d%H%M%S").replace(tzinfo=ZoneInfo(self.zone))
            utc = local.astimezone(UTC)
        except (ValueError, OverflowError):
            return None
        # Skipped by the clocks, or passed twice: not an instant.
        if utc.astimezone(ZoneInfo(self.zone)).replace(fold=0) != local or local.replace(fold=1).astimezone(UTC) != utc:
            return None
        return utc.replace(tzinfo=None)

    def of_object(self, key: str, present: frozenset[str], file_time: datetime) -> datetime | None:
        """The one instant of all rows of an object, or None where each row has to state its own."""
        if self.column in present:
            return None
        if self.name and self.name.search(key.rsplit("/", 1)[-1]):
            return self.in_name(key)
        if self.column and self.initial:
            return self.initial
        return file_time if self.file_time else None


@dataclass(frozen=True)
class Feed:
    """One feed, as declared. `columns` are those of its staging table, in order; `payload` feeds have that one only."""

    name: str
    description: str
    prefix: str
    formats: tuple[str, ...]
    columns: tuple[str, ...]
    required: frozenset[str]
    kind: str
    entity: str | None
    event_time: EventTime
    overwrite: str | None
    delimiter: str
    fresh_within_hours: float | None
    events_within_hours: float | None
    base64: tuple[str, ...]
    nulls: tuple[str, ...] = ()
    map: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    strip: Mapping[str, str] = field(default_factory=dict)
    expect: tuple[Expectation, ...] = ()

    @property
    def payload(self) -> bool:
        return self.columns == ("payload",)

    @property
    def tombstones(self) -> bool:
        """May a record be null? In a stream of changes that says again that a key is gone."""
        return self.payload and self.kind == "events"

    def replaces(self, key: str) -> bool:
        """Does a new version of the object replace the one before? If undeclared: of lines, or if its name is dated."""
        if self.overwrite:
            return self.overwrite == "replace"
        return self.kind == "lines" or self.event_time.in_name(key) is not None


def load_feeds(folders: Iterable[Path]) -> dict[str, Feed]:
    """Every feed declared in the yml files of the folders, by name.

    Raises:
        DeclarationError: naming file, feed and field, for the first thing that is wrong.
    """
    feeds: dict[str, Feed] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.yml")):
            for table in _tables(path):
                where = f"{path}: {table['name']}"
                config = mapping_of(table.get("config"), f"{where}: config")
                meta = mapping_of(config.get("meta"), f"{where}: config: meta")
                if "feed" not in meta:
                    continue
                feed = _feed(path, table, meta["feed"])
                if feed.name in feeds:
                    raise DeclarationError(f"{path}: feed '{feed.name}' is declared twice")
                twin = next((f for f in feeds.values() if _overlap(f.prefix, feed.prefix)), None)
                if twin:
                    raise DeclarationError(
                        f"{path}: feed '{feed.name}': prefix: '{feed.prefix}' and that of feed '{twin.name}', "
                        f"'{twin.prefix}', lie in one another"
                    )
                feeds[feed.name] = feed
    return feeds


def find_feed(feeds: Mapping[str, Feed], name: str) -> Feed:
    """The feed of that name, or a DeclarationError that lists what there is."""
    if name not in feeds:
        raise DeclarationError(f"feed '{name}' is not declared; there are: {', '.join(sorted(feeds)) or 'none'}")
    return feeds[name]


def _tables(path: Path) -> Iterable[dict[str, Any]]:
    try:
        document = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise DeclarationError(f"{path}: no YAML: {error}") from None
    for source in list_of(mapping_of(document, str(path)).get("sources"), f"{path}: sources"):
        if mapping_of(source, f"{path}: sources").get("name") == SOURCE:
            for table in list_of(source.get("tables"), f"{path}: tables"):
                if not isinstance(table, dict) or not isinstance(table.get("name"), str):
                    raise DeclarationError(f"{path}: a table of source '{SOURCE}' has no name")
                yield table


def _feed(path: Path, table: dict[str, Any], declared: Any) -> Feed:
    name = table["name"]
    where = f"{path}: feed '{name}'"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise DeclarationError(f"{where}: name: must be lower case letters, digits and _")
    columns = tuple(_column(c, where) for c in list_of(table.get("columns"), f"{where}: columns"))
    if not columns:
        raise DeclarationError(f"{where}: columns: there are none")
    doubled = sorted({c for c in columns if columns.count(c) > 1} | {c for c in columns if c.startswith("_")})
    if doubled:
        raise DeclarationError(f"{where}: columns: '{doubled[0]}' stands twice or begins with _, which is ours")

    field = Fields(where, declared)
    prefix = field.take("prefix", str).strip("/")
    if not prefix:
        raise DeclarationError(f"{where}: prefix: is empty; a feed has a folder of its own")
    formats = field.texts("formats")
    for f in formats:
        if f not in FORMATS:
            raise DeclarationError(f"{where}: formats: '{f}' is not known; it may be: {', '.join(FORMATS)}")
    required = frozenset(field.texts("required", ()))
    entity = field.take("entity", str, None)
    kind = field.choice("kind", KINDS, "upsert")
    overwrite = field.choice("overwrite", OVERWRITES, None)
    nulls = field.texts("nulls", ())
    delimiter = field.take("delimiter", str, ",")
    if len(delimiter) != 1:
        raise DeclarationError(f"{where}: delimiter: '{delimiter}' is not one character")
    base64 = field.texts("base64", ())
    if base64 and (columns != ("payload",) or entity):
        raise DeclarationError(f"{where}: base64: is for feeds of whole JSON objects and no entity")
    fresh, events = (field.take(f"{what}_within_hours", (int, float), None) for what in ("fresh", "events"))

    time = Fields(f"{where}: event_time", field.take("event_time", dict, {}))
    event_time = EventTime(
        column=time.take("column", str, None),
        name=pattern_of(f"{where}: event_time: name", time.take("name", str, None)),
        initial=_instant(f"{where}: event_time: initial", time.take("initial", str, None)),
        file_time=time.take("file_time", bool, False),
        zone=_zone(f"{where}: event_time: zone", time.take("zone", str, "UTC")),
    )
    if time.choice("unit", UNITS, None) and kind != "clicks":
        raise DeclarationError(f"{where}: event_time: unit: is for feeds of kind clicks; here give dates and times")
    time.end()
    position = Fields(f"{where}: position", field.take("position", dict, {}))
    operation = Fields(f"{where}: operation", field.take("operation", dict, {}))
    named = {
        "event_time: column": event_time.column,
        "position: column": position.take("column", str, None),
        "operation: column": operation.take("column", str, None),
    }
    codes = [*operation.texts("upsert", ()), *operation.texts("delete", ())]
    twice = sorted({c for c in codes if codes.count(c) > 1})
    if twice:
        raise DeclarationError(f"{where}: operation: '{twice[0]}' stands for two operations")
    position.end()
    operation.end()
    mapping, strip = field.take("map", dict, {}), {}
    payload = columns == ("payload",)
    joined = _joined(where, field, kind, payload)
    if kind in _MAPPED:
        strip = _take_mapped(where, field, mapping, kind)
    if kind == "lines":
        _take_lines(where, field, payload)
    if kind == "snapshot":
        _take_snapshot(where, field, event_time, {**named, "operation": codes})
    elif payload and entity and kind not in _MAPPED:
        _check_envelope(where, kind, event_time, formats, {**named, "operation": codes})
    expect = take_expectations(where, field.take("expect", list, []), columns, payload)
    check_imputation(where, field.take("impute", dict, {}), columns, required, kind, payload)
    field.end()

    named |= {f"map: {target}": received for target, received in mapping.items()}
    named |= {f"join: {target}: {number}": c for target, parts in joined.items() for number, c in enumerate(parts, 1)}
    named |= {f"required: {column}": column for column in required}
    for what, column in named.items():
        # The fields of a payload are told apart in clean, where the document is read.
        if column is not None and column not in columns and not payload:
            raise DeclarationError(
                f"{where}: {what}: column '{column}' is not declared; there are: {', '.join(columns)}"
            )
    if events is not None and not entity:
        raise DeclarationError(f"{where}: events_within_hours: the feed has no entity, so nothing in it has a time")
    if entity and not (event_time.column or event_time.name or event_time.file_time or (payload and kind == "events")):
        raise DeclarationError(
            f"{where}: event_time: give column, name or file_time; an event without a time has no place"
        )
    return Feed(
        name=name,
        description=str(table.get("description") or ""),
        prefix=f"{prefix}/",
        formats=formats,
        columns=columns,
        required=required,
        kind=kind,
        entity=entity,
        event_time=event_time,
        overwrite=overwrite,
        delimiter=delimiter,
        fresh_within_hours=fresh,
        events_within_hours=events,
        base64=base64,
        nulls=nulls,
        map={
            target: (received,) if isinstance(received, str) else tuple(received)
            for target, received in mapping.items()
        },
        strip=strip,
        expect=expect,
    )


def _joined(where: str, field: Fields, kind: str, payload: bool) -> dict[str, tuple[str, ...]]:
    """{entity column: the received ones that it is made of}: where a source numbers its items within each order."""
    inner = Fields(f"{where}: join", field.take("join", dict, {}))
    found = {target: inner.texts(target) for target in list(inner.left)}
    for target, parts in found.items():
        if payload or kind in _MAPPED:
            raise DeclarationError(f"{where}: join: {target}: not in a feed of this kind; map its fields")
        if len(parts) < 2:
            raise DeclarationError(f"{where}: join: {target}: give two columns or more, or map the one")
    return found


def _take_mapped(where: str, field: Fields, mapping: Mapping[str, Any], kind: str) -> dict[str, str]:
    """What a feed states in words of its own, in ours. The dbt macros read it; here it is checked."""
    constants = field.take("constants", dict, {})
    strip = field.take("strip", dict, {})
    for name, pattern in strip.items():
        pattern_of(f"{where}: strip: {name}", str(pattern), groups=0)
    for what, names in {"map": mapping, "constants": constants, "strip": strip}.items():
        unknown = sorted(set(names) - set(_MAPPED[kind]))
        if unknown:
            raise DeclarationError(
                f"{where}: {what}: '{unknown[0]}' is not known; it may be: {', '.join(_MAPPED[kind])}"
            )
    missing = [n for n in _NEEDED[kind] if n not in mapping and n not in constants]
    if missing:
        raise DeclarationError(f"{where}: map: {missing[0]}: is missing; a feed of kind {kind} cannot do without it")
    return {name: str(pattern) for name, pattern in strip.items()}


def _take_lines(where: str, field: Fields, payload: bool) -> None:
    """What only lines of receipts have."""
    nested = field.take("lines", str, None)
    for name in ("returns", "adjustments"):
        pattern_of(f"{where}: {name}", field.take(name, str, None), groups=0)
    if payload and nested is None:
        raise DeclarationError(f"{where}: lines: is missing; name the array in which the lines of a receipt stand")
    if nested is not None and not payload:
        raise DeclarationError(f"{where}: lines: '{nested}' is for feeds whose one column is payload")


def _take_snapshot(where: str, field: Fields, time: EventTime, stated: Mapping[str, Any]) -> None:
    """A file states all that there are, at its one instant; what it lacks is deleted, as far as the guard allows."""
    guard = field.take("guard", (int, float), 0.5)
    if not 0 <= guard <= 1:
        raise DeclarationError(f"{where}: guard: {guard} is no share from 0 to 1 of the keys that a file may lack")
    for what, value in stated.items():
        if value:
            raise DeclarationError(
                f"{where}: {what}: a snapshot has the instant of its file; take it away, or declare another kind"
            )
    if not (time.name or time.file_time):
        raise DeclarationError(f"{where}: event_time: give name or file_time; a snapshot has the instant of its file")


def _check_envelope(
    where: str, kind: str, time: EventTime, formats: tuple[str, ...], stated: Mapping[str, Any]
) -> None:
    if kind != "events":
        raise DeclarationError(
            f"{where}: kind: '{kind}' with the one column payload; say events, for Debezium's envelope"
        )
    if formats != ("json",):
        raise DeclarationError(f"{where}: formats: an envelope is json, not {', '.join(formats)}")
    for what, value in {**stated, "event_time: name": time.name, "event_time: file_time": time.file_time}.items():
        if value:
            raise DeclarationError(f"{where}: {what}: stands in the envelope; take it away")


def _column(declared: Any, where: str) -> str:
    name = mapping_of(declared, f"{where}: columns").get("name")
    if not isinstance(name, str) or not name:
        raise DeclarationError(f"{where}: columns: '{declared}' has no name")
    return name.lower()


def _instant(where: str, text: str | None) -> datetime | None:
    """UTC without zone."""
    if text is None:
        return None
    try:
        return instants.read(text)
    except ValueError:
        raise DeclarationError(f"{where}: '{text}' is no instant; say for example 1970-01-01T00:00:00Z") from None


def _zone(where: str, name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise DeclarationError(f"{where}: '{name}' is no time zone; say for example Europe/Berlin") from None
    return name


def _overlap(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)
