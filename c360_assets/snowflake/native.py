"""The native way: Snowflake takes what pipes brought and merges it by itself, every minute, without us.

Two kinds of task, each woken by streams and each a procedure: `staging.take_arrivals` takes plain objects into staging
and the ledger; `core.merge_<entity>` takes an entity's batches into clean and core. What they run is what a run of ours
runs, over the same tables and marks: dbt renders the merge (`dbt/macros/alone.sql`), so that either may go on where the
other stopped, both may be at work, and gold and the checks are a matter of our runs as ever.

A stream only wakes. What there is to take is what the ledger and the marks lack, looked up before and after the stream
is emptied, in one transaction: so nothing is lost with a stream that went stale, and nothing slips between.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from c360_assets.feeds import Feed
from c360_assets.settings import Settings
from c360_assets.snowflake import arrivals
from c360_assets.snowflake.objects import Statement, roles, warehouses
from c360_assets.snowflake.warehouse import LOAD_TURN, TAKE_TURN

WOKEN = "staging.woken"
MINUTES_AT_MOST = 30


@dataclass(frozen=True)
class Merged:
    """A model that a task merges: the query for its batches, its work tables, what it writes (dbt/macros/alone.sql)."""

    model: str
    batches: str
    steps: Sequence[str]
    each: Mapping[str, str] | None
    then: Sequence[str]
    writes: Sequence[str]

    @staticmethod
    def read(models: Sequence[Mapping[str, Any]]) -> list[Merged]:
        return [Merged(**model) for model in models]


def native(settings: Settings, feeds: Mapping[str, Feed], merged: Mapping[str, Sequence[Merged]]) -> list[Statement]:
    """Statements that make it all, and start it; `merged` by entity. A run of ours has made the tables before."""
    return list(_Native(settings).all(feeds, merged))


class _Native:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = settings.snowflake.database
        self.role = roles(settings)["run"]

    def all(self, feeds: Mapping[str, Feed], merged: Mapping[str, Sequence[Merged]]) -> Iterator[Statement]:
        yield Statement("grant", "execute task", f"grant execute task on account to role {self.role}")
        for schema in ("staging", "core"):
            place = f"schema {self.database}.{schema}"
            yield Statement(
                "grant", place, f"grant create stream, create task, create procedure on {place} to role {self.role}"
            )
        arriving = [feed for feed in feeds.values() if self.settings.loading == "pipe" and may_be_taken(feed)]
        if arriving:
            listed = f"alter stage {arrivals.STAGE} set directory = (enable = true)"
            yield Statement("stage", arrivals.STAGE, listed)
        for table in map(arrivals.table_of, arriving):
            yield Statement("table", table, f"alter table {table} set change_tracking = true")
        # What follows belongs to whom the tables belong to, with no more rights than that.
        yield Statement("role", self.role, f"use role {self.role}")
        yield Statement("table", WOKEN, f"create transient table if not exists {WOKEN} (woken_at timestamp_ntz(6))")
        if arriving:
            for sql in LOAD_TURN:
                yield Statement("table", "staging.load_turn", sql)
            streams = {f"{arrivals.table_of(feed)}_news": arrivals.table_of(feed) for feed in arriving}
            body = _taking(arriving, streams, f"{self.settings.prefix}/" if self.settings.prefix else "")
            yield from self._task("staging.take_arrivals", body, streams, "load", " append_only = true")
        for entity, models in merged.items():
            streams = {
                f"core.{entity}_loaded": "staging.object_ledger",
                f"core.{entity}_decided": "staging.quarantine_decisions",
            }
            yield from self._task(f"core.merge_{entity}", _merging(models, streams), streams, "transform")

    def _task(
        self, name: str, body: Sequence[str], streams: Mapping[str, str], work: str, option: str = ""
    ) -> Iterator[Statement]:
        text = "\n".join(body)
        if "$$" in text:
            raise ValueError(f"{name}: a statement holds $$, which ends a procedure's text")
        for stream, table in streams.items():
            # Made anew each time: one that went stale could not be read, and what is there already wakes too.
            made = f"create or replace stream {stream} on table {table}{option} show_initial_rows = true"
            yield Statement("stream", stream, made)
        yield Statement(
            "procedure",
            name,
            f"create or replace procedure {name}() returns varchar language sql execute as owner as $$\n{text}\n$$",
        )
        woken = " or ".join(f"system$stream_has_data('{self.database}.{stream}')" for stream in streams)
        task = f"{name}_every_minute"
        yield Statement(
            "task",
            task,
            f"create or replace task {task} warehouse = {warehouses(self.settings)[work]} schedule = '1 minute' "
            "allow_overlapping_execution = false suspend_task_after_num_failures = 0 "
            f"user_task_timeout_ms = {MINUTES_AT_MOST * 60_000} "
            f"when {woken} as call {name}()",
        )
        yield Statement("task", task, f"alter task {task} resume")


def _merging(models: Sequence[Merged], streams: Mapping[str, str]) -> list[str]:
    """The procedure that merges an entity."""
    body = ["declare", "waiting integer;", "judged_feed varchar;", "judged_at timestamp_ntz(6);", "sets resultset;"]
    body += ["begin"]
    for model in models:
        body += [_ended(model.steps[0]), f"select count(*) into :waiting from {model.model}__batches;"]
        body += ["if (waiting > 0) then", *map(_ended, model.steps[1:])]
        if model.each:
            body += [_ended(f"sets := (select * from ({model.each['of']}) as waiting_sets order by feed, event_time)")]
            body += [
                "let judging cursor for sets;",
                "for one in judging do",
                "judged_feed := one.feed;",
                "judged_at := one.event_time;",
            ]
            body += [_ended(model.each["do"]), "end for;"]
        body += [*map(_ended, model.then), "begin transaction;", *map(_ended, model.writes), "commit;", "end if;"]
    return body + _ending([model.batches for model in models], streams)


def _ending(waiting: Sequence[str], streams: Mapping[str, str]) -> list[str]:
    """The end of a procedure: empties the streams if nothing waits any more; else they wake the task again."""
    body = ["begin transaction;"]
    body += [f"insert into {WOKEN} select sysdate() from {stream} where 0 = 1;" for stream in streams]
    counted = " union all ".join(f"select 1 as one from ({query}) as waiting_{n}" for n, query in enumerate(waiting))
    body += [f"select count(*) into :waiting from ({counted}) as all_waiting;"]
    body += [
        "if (waiting = 0) then",
        "commit;",
        "return 'nothing waits';",
        "end if;",
        "rollback;",
        "return 'more waits';",
    ]
    return [*body, "exception", "when other then", "rollback;", "raise;", "end;"]


def _ended(sql: str) -> str:
    return f"{sql.strip()};"


# ------------------------------------------------------------------------------------------------------------ arrivals


def may_be_taken(feed: Feed) -> bool:
    """Can Snowflake tell the instant of some of the feed's objects? That of the file's own time is ours to ask."""
    return arrivals.takes(feed) and bool(feed.event_time.column or _in_name(feed) or feed.event_time.initial)


def takeable(feed: Feed, prefix: str) -> str:
    """The query for objects that can be taken: key, etag, size, last_modified, event_time, rows.

    They are whole and plain, of a key that the ledger has never had, and each states the instant of its rows in a
    column or, in UTC, in its name.
    """
    time = feed.event_time
    table = arrivals.table_of(feed)
    name = "regexp_replace(listed.key, '^.*/', '')"
    in_column = arrivals.has_column(feed, time.column, "arrived.header") if time.column else "false"
    in_name = _in_name(feed)
    stated = f"when regexp_instr({name}, {in_name[0]}) > 0 then {in_name[1].format(name=name)} " if in_name else ""
    initial = f"when true then cast('{time.initial:%Y-%m-%d %H:%M:%S.%f}' as timestamp_ntz) " if time.initial else ""
    tells = [in_column]
    if in_name:
        tells.append(f"regexp_instr({name}, {in_name[0]}) > 0")
    if time.column and time.initial and (in_name or not time.name):
        tells.append("true")
    if time.name and not in_name:
        # What such a name states only our reader understands.
        initial = ""
    listing = (
        f"select '{prefix}' || relative_path as key, replace(etag, '\"', '') as etag, size, "
        "cast(convert_timezone('UTC', last_modified) as timestamp_ntz(6)) as last_modified "
        f"from directory(@{arrivals.STAGE}) where startswith(relative_path, '{feed.prefix}')"
    )
    return (
        "select listed.key, listed.etag, listed.size, listed.last_modified, arrived.count_lines - 1 as count_rows, "
        f"cast(case when {in_column} then null {stated}{initial}end as timestamp_ntz(6)) as event_time "
        f"from ({arrivals.judged(feed, table, prefix, 'true')}) as arrived inner join ({listing}) as listed "
        "on arrived.key = listed.key and arrived.etag = listed.etag "
        # The last line may have no end.
        "and arrived.count_bytes - listed.size between 0 and 1 "
        f"where arrived.is_plain and {arrivals.has_plain_header(feed, 'arrived.header')} and ({' or '.join(tells)}) "
        "and listed.key not like '%.gz' and listed.key not in (select key from staging.object_ledger)"
    )


def _in_name(feed: Feed) -> tuple[str, str] | None:
    """The pattern as Snowflake writes it, and the instant that a `{name}` states, if that can be told in SQL."""
    pattern, zone = feed.event_time.name, feed.event_time.zone
    if not pattern or zone != "UTC":
        return None
    text = pattern.pattern.replace("(?:", "(").replace(r"\d", "[0-9]")
    is_lazy = re.search(r"[*+?}]\?", text)
    if is_lazy or "\\" in text or "(?" in text or "'" in text or pattern.flags & ~re.UNICODE:
        return None
    # Its first group: how many open before it that were none.
    group = pattern.pattern.replace("(?:", "\0").partition("(")[0].count("\0") + 1
    stated = f"left(regexp_substr({{name}}, '{_braced(text)}', 1, 1, 'e', {group}), 14)"
    parts = r"'^(.{{4}})(.{{2}})(.{{2}})(.{{2}})(.{{2}})(.{{2}})$', '\\1-\\2-\\3 \\4:\\5:\\6'"
    # Fewer digits would be taken for an epoch.
    whole = f"case when regexp_like({stated}, '[0-9]{{{{14}}}}') then regexp_replace({stated}, {parts}) end"
    return f"'{text}'", f"try_cast({whole} as timestamp_ntz(6))"


def _braced(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _taking(feeds: Sequence[Feed], streams: Mapping[str, str], prefix: str) -> list[str]:
    """The procedure that takes what pipes brought."""
    body = ["declare", "waiting integer;", "batch varchar;", "loaded_at timestamp_ntz(6);", "begin"]
    body += [f"alter stage {arrivals.STAGE} refresh;"]
    for feed in feeds:
        work = f"taking_{feed.name}"
        body += [_ended(f"create or replace temporary table {work} as {takeable(feed, prefix)}")]
        body += [f"select count(*) into :waiting from {work};", "if (waiting > 0) then", "begin transaction;"]
        # Loads of ours take the same turn; what they have loaded meanwhile is theirs.
        body += [_ended(TAKE_TURN), "loaded_at := sysdate();"]
        body += [f"delete from {work} where key in (select key from staging.object_ledger);"]
        body += [_ended(_NEXT_BATCH)]
        chosen = f"exists (select 1 from {work} as w where w.key = numbered.key and w.etag = numbered.etag)"
        body += [_ended(arrivals.taken(feed, arrivals.table_of(feed), prefix, chosen, ":loaded_at", ":batch"))]
        body += [
            _ended(
                "insert into staging.object_ledger "
                "(feed, key, etag, size, last_modified, event_time, status, batch, loaded_at) "
                f"select '{feed.name}', key, etag, size, last_modified, event_time, "
                f"'loaded', :batch, :loaded_at from {work}"
            )
        ]
        body += [_ended(arrivals.forgotten(feed, prefix, f"'{feed.name}'")), "commit;", "end if;"]
    return body + _ending([takeable(feed, prefix) for feed in feeds], streams)


# Sorts after every other, as registers.next_batch has it.
_NEXT_BATCH = (
    "select to_char(cast(newest as timestamp_ntz(6)), 'YYYYMMDD') || 'T' "
    "|| to_char(cast(newest as timestamp_ntz(6)), 'HH24MISS.FF6') || '-' "
    "|| lower(substr(md5(uuid_string()), 1, 4)) into :batch from ("
    "select greatest(sysdate(), coalesce(dateadd(microsecond, 1, max(to_timestamp_ntz("
    "left(batch, 22), 'YYYYMMDD\"T\"HH24MISS.FF6'))), sysdate())) as newest from ("
    "select batch from staging.object_ledger union all select batch from staging.quarantine_decisions) as batches) as n"
)
