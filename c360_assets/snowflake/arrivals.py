"""Arrivals: objects that Snowflake fetches itself, by COPY from the landing stage or by a pipe that S3 wakes.

What arrives is lines of text, with the key and the etag of their object, and nothing is believed of them: the ledger
says what is new, the transaction that writes the ledger takes the lines, and an object that is not wholly plain goes
through our reader. So what is staged is the same whichever way it came, and what Snowflake remembers of files, and for
how long, does not matter.

Plain is an object of CSV whose header names columns that are declared, once each, with the required ones among them,
whose lines have as many fields, none of them blank, none like the header again, and that holds no quote and no carriage
return. What is JSON goes through our reader: Snowflake takes documents that no standard knows.

COPY brings an object whole or not at all. A pipe may bring it in parts, in several transactions, and twice: it is whole
when its lines have as many bytes as the object, so that one that is zipped is never known to be.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from c360_assets.feeds import Feed
from c360_assets.landing import Listed
from c360_assets.reading import format_of
from c360_assets.settings import Settings
from c360_assets.snowflake.errors import is_file_gone
from c360_assets.warehouse import Session

FORMAT, STAGE = "staging.whole_lines", "staging.landing"
# COPY takes at most so many names.
FILES_AT_ONCE = 1000


def takes(feed: Feed) -> bool:
    """May objects of the feed be plain? Its delimiter stands in statements in which a ? or % is a place."""
    return "csv" in feed.formats and not feed.payload and feed.delimiter not in "?%"


def _may_be_plain(feed: Feed, listed: Listed) -> bool:
    """By its name; an empty object brings no lines."""
    format = format_of(listed.key) or (feed.formats[0] if len(feed.formats) == 1 else None)
    return format == "csv" and listed.size > 0 and not set("?%") & set(listed.key)


def table_of(feed: Feed) -> str:
    return f"staging.arrived_{feed.name}"


def pipe_of(feed: Feed) -> str:
    return f"staging.{feed.name}_pipe"


def file_format() -> str:
    """Lines as they are: nothing split, unescaped, trimmed or replaced. What is no UTF-8 is refused."""
    return (
        f"create file format if not exists {FORMAT} type = csv field_delimiter = none record_delimiter = '\\n' "
        "skip_header = 0 field_optionally_enclosed_by = none escape = none escape_unenclosed_field = none "
        "trim_space = false null_if = () empty_field_as_null = false skip_blank_lines = false "
        "skip_byte_order_mark = false replace_invalid_characters = false encoding = 'UTF8' compression = auto"
    )


def make_table(feed: Feed, name: str = "", kind: str = "transient") -> str:
    return (
        f"create {kind} table if not exists {name or table_of(feed)} "
        "(line varchar, file varchar, content_key varchar, file_row bigint)"
    )


def copy(feed: Feed, table: str = "", files: Sequence[str] = ()) -> str:
    """COPY of a feed's objects; `files` are named below the stage."""
    named = f" files = ({', '.join(_text(f) for f in files)})" if files else ""
    return (
        f"copy into {table or table_of(feed)} (line, file, content_key, file_row) from (select $1, metadata$filename, "
        f"metadata$file_content_key, metadata$file_row_number from @{STAGE}/{feed.prefix}){named} "
        f"file_format = (format_name = {FORMAT}) on_error = skip_file"
    )


def copy_objects(session: Session, feed: Feed, table: str, names: Sequence[str]) -> None:
    """Lines of the objects, named below the feed's folder, into the table; of one that is refused, none."""
    session.execute(copy(feed, table, names))


def _copy_there(session: Session, feed: Feed, table: str, names: Sequence[str]) -> None:
    """Copies those that are there still: one that was deleted since it was listed would end the COPY of all."""
    try:
        copy_objects(session, feed, table, names)
    except Exception as error:
        if not is_file_gone(error):
            raise
        # By halves until it stands alone. What was not copied is left to our reader, which knows what is gone.
        half = len(names) // 2
        for some in (names[:half], names[half:]) if half else ():
            _copy_there(session, feed, table, some)


def pipe(feed: Feed, topic_arn: str = "") -> str:
    told = f" aws_sns_topic = '{topic_arn}'" if topic_arn else ""
    return f"create pipe if not exists {pipe_of(feed)} auto_ingest = true{told} as {copy(feed)}"


def fetching_of(settings: Settings) -> Fetching | None:
    """How objects arrive, as the settings say; None where our reader reads them all."""
    if settings.loading == "read":
        return None
    return Fetching(settings.loading, settings.prefix, settings.pipe_patience)


class Fetching:
    """The way in which objects arrive: `copy`, fetched when asked for; `pipe`, there already, or awaited.

    `patience`, in seconds: an object that a pipe has not brought by then is read by us. `prefix`: of the bucket's keys,
    where the stage begins.
    """

    def __init__(self, way: str, prefix: str, patience: float) -> None:
        self._way = way
        self._prefix = f"{prefix}/" if prefix else ""
        self._patience = timedelta(seconds=patience)

    def fetch(self, session: Session, feed: Feed, plan: Sequence[Listed], now: datetime) -> Arrived:
        """What of the plan is there and plain, what is awaited yet, and what is left to our reader."""
        asked = [listed for listed in plan if takes(feed) and _may_be_plain(feed, listed)]
        if self._way == "pipe":
            asked = [listed for listed in asked if not listed.key.lower().endswith(".gz")]
        if not asked:
            return nothing_arrived(feed, plan)
        table = table_of(feed)
        if self._way == "copy":
            # Of this session: nobody else sees it, nothing is left of it, nothing is remembered of its files.
            session.execute("use schema staging")
            table = f"arriving_{feed.name}"
            session.execute(make_table(feed, table, "temporary"))
            folder = f"{self._prefix}{feed.prefix}"
            for start in range(0, len(asked), FILES_AT_ONCE):
                names = [listed.key.removeprefix(folder) for listed in asked[start : start + FILES_AT_ONCE]]
                _copy_there(session, feed, table, names)
        else:
            session.execute(make_table(feed, table))
        found = self._found(session, feed, table, asked)
        plain = [Plain(listed, *told) for listed in asked if (told := found.get(listed.key))]
        # Not there at all, or not all of it; another version, or one that is not plain, is no use to wait for.
        awaited = [
            listed
            for listed in asked
            if self._way == "pipe" and listed.key not in found and now - listed.last_modified < self._patience
        ]
        done = {p.listed.key for p in plain} | {listed.key for listed in awaited}
        return Arrived(feed, table, self._prefix, plain, awaited, [o for o in plan if o.key not in done])

    def _found(
        self, session: Session, feed: Feed, table: str, asked: Sequence[Listed]
    ) -> dict[str, tuple[int, frozenset[str]] | None]:
        """{key that arrived whole: records and columns, or None where it is another version, or not plain}."""
        objects = {listed.key: listed for listed in asked}
        found: dict[str, tuple[int, frozenset[str]] | None] = {}
        keys = sorted(objects)
        for start in range(0, len(keys), FILES_AT_ONCE):
            some = keys[start : start + FILES_AT_ONCE]
            for key, etag, lines, size, is_plain, header in session.rows(
                judged(feed, table, self._prefix, f"key in ({_places(len(some))})"), some
            ):
                listed, present = objects[key], _present(feed, header)
                if etag != listed.etag:
                    found[key] = None
                elif self._way == "copy" or size - listed.size in (0, 1):
                    # The last line may have no end.
                    found[key] = (int(lines) - 1, present) if is_plain and present else None
        return found


@dataclass(frozen=True)
class Plain:
    """An object whose lines can be taken as they are: how many records it has, and which of the feed's columns."""

    listed: Listed
    rows: int
    present: frozenset[str]


@dataclass(frozen=True)
class Arrived:
    """What of a plan arrived and is plain, is awaited yet, or is left to our reader."""

    feed: Feed
    table: str
    prefix: str
    plain: list[Plain]
    awaited: list[Listed]
    left: list[Listed]

    def take(self, session: Session, batch: str, now: datetime, keys: Collection[str]) -> None:
        """Rows of the plain objects that are still what they were, by their keys, in the ledger's transaction."""
        named = [f"{p.listed.key} {p.listed.etag}" for p in self.plain if p.listed.key in keys]
        for start in range(0, len(named), FILES_AT_ONCE):
            some = named[start : start + FILES_AT_ONCE]
            chosen = f"key || ' ' || etag in ({_places(len(some))})"
            taking = taken(self.feed, self.table, self.prefix, chosen, "cast(? as timestamp_ntz)", "?")
            session.execute(taking, [now, batch, *some])

    def forget(self, session: Session) -> None:
        """Lines of what the ledger has, by whomever it was loaded, are not kept."""
        if self.table == table_of(self.feed):
            session.execute(forgotten(self.feed, self.prefix, "?"), [self.feed.name])


def nothing_arrived(feed: Feed, plan: Sequence[Listed]) -> Arrived:
    """Our reader reads all of the plan."""
    return Arrived(feed, "", "", [], [], list(plan))


def _present(feed: Feed, header: str | None) -> frozenset[str]:
    """The columns that a plain object has; none where its header is not plain."""
    names = (header or "").split(feed.delimiter)
    present = frozenset(name.lower() for name in names)
    is_plain = (
        (header or "").isascii()
        and all(name == name.strip() for name in names)
        and len(present) == len(names)
        and feed.required <= present <= set(feed.columns)
    )
    return present if is_plain else frozenset()


def has_column(feed: Feed, column: str, header: str) -> str:
    """Condition: does the header name the column?"""
    mark = _text(feed.delimiter)
    return f"position({mark} || {_text(column)} || {mark} in {mark} || lower({header}) || {mark}) > 0"


def has_plain_header(feed: Feed, header: str) -> str:
    """Condition, the same as `_present` asks: declared columns, once each, the required ones among them."""
    mark = _text(feed.delimiter)
    fields = f"length({header}) - length(replace({header}, {mark}, '')) + 1"
    declared = " + ".join(f"case when {has_column(feed, c, header)} then 1 else 0 end" for c in feed.columns)
    required = "".join(f" and {has_column(feed, c, header)}" for c in sorted(feed.required))
    return f"({fields} = {declared} and length({header}) = length(to_binary({header}, 'utf-8')){required})"


def key_of(file: str, prefix: str) -> str:
    """The object's key: Snowflake names a file below the bucket, or below the stage."""
    literal = _text(prefix)
    return f"case when left({file}, {len(prefix)}) = {literal} then {file} else {literal} || {file} end"


def forgotten(feed: Feed, prefix: str, name: str) -> str:
    """Deletes lines of what the ledger has; `name`: the feed's, as it stands in the statement."""
    return (
        f"delete from {table_of(feed)} where {key_of('file', prefix)} in "
        f"(select key from staging.object_ledger where feed = {name})"
    )


def _numbered(table: str, prefix: str, bound: str) -> str:
    """Lines of the objects for which `bound` holds, a condition on `numbered`, once each. Number 0 is the header."""
    order = "partition by file, etag order by file_row"
    # A line that is delivered twice is one line.
    etag = "replace(content_key, '\"', '')"
    named = f"select distinct {key_of('file', prefix)} as key, {etag} as etag, file, file_row, line from {table}"
    return (
        f"select key, etag, line, row_number() over ({order}) - 1 as row_number, "
        f"first_value(line) over ({order}) as header from ({named}) as numbered where {bound}"
    )


def judged(feed: Feed, table: str, prefix: str, bound: str) -> str:
    """Query, per object for which `bound` holds: key, etag, count_lines, count_bytes (with ends), is_plain, header."""
    mark = _text(feed.delimiter)
    # A name that stands in every header tells one that stands there again, whatever its blanks and capitals.
    telling = _text(max(feed.required, key=len)) if feed.required else f"lower(split_part(header, {mark}, 1))"
    sound = (
        "coalesce(line, '') <> '' and position('\"' in line) = 0 and position(chr(13) in line) = 0 "
        f"and length(line) - length(replace(line, {mark}, '')) "
        f"= length(header) - length(replace(header, {mark}, '')) "
        f"and (row_number = 0 or position({telling} in lower(line)) = 0)"
    )
    return (
        "select key, case when min(etag) = max(etag) then min(etag) end as etag, count(*) as count_lines, "
        "sum(length(to_binary(coalesce(line, ''), 'utf-8')) + 1) as count_bytes, "
        f"min(case when {sound} then 1 else 0 end) = 1 as is_plain, min(header) as header "
        f"from ({_numbered(table, prefix, bound)}) as lines group by key"
    )


def taken(feed: Feed, table: str, prefix: str, bound: str, now: str, batch: str) -> str:
    """Inserts the rows of objects for which `bound` holds; `now` and `batch` as they stand in the statement."""
    names = [*feed.columns, "_key", "_etag", "_row", "_loaded_at", "_batch"]
    values = [_field(feed, column) for column in feed.columns]
    return (
        f"insert into staging.{feed.name} ({', '.join(names)}) select {', '.join(values)}, key, etag, row_number, "
        f"{now}, {batch} from ({_numbered(table, prefix, bound)}) as lines where row_number > 0"
    )


def _places(count: int) -> str:
    return ", ".join("?" * count)


def _field(feed: Feed, column: str) -> str:
    """The value of a column in `line`, by its place in `header`; null where it is empty, or has none."""
    mark = _text(feed.delimiter)
    header = f"{mark} || lower(header) || {mark}"
    place = f"position({mark} || {_text(column)} || {mark} in {header})"
    before = f"left({header}, {place})"
    number = f"length({before}) - length(replace({before}, {mark}, ''))"
    return f"case when {place} > 0 then nullif(split_part(line, {mark}, {number}), '') end"


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
