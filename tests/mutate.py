"""Each rule of the engine's SQL changed, one at a time, and fixed cases and the rounds of `tests.prove` held against it: does one fail?

    python -m tests.mutate [--only TEXT] [--jobs N]

`greatest` and `least` are Snowflake's, which do not pass over nulls, and many keys share a hash.

A mutant is a rule as it stands in a file of dbt/macros and what it becomes. Prints who was caught by what, and ends with 1
if one survives, if a rule does not stand there any more, or if the engine as it is fails.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.engine.mixed import (
    EVERY,
    PROBE,
    Mixed,
    as_on_snowflake,
    mixed_project,
    with_colliding_hashes,
)
from tests.engine.stories import tell
from tests.parts import BuildFailed, forget_manifest, project_with
from tests.prove import NO_S3, Platform, Settings, customers_round, mixed_round

KEYS = 120
SEEDS = (3, 11, 27, 40, 41, 52, 60, 73)


@dataclass(frozen=True)
class Mutant:
    """What is changed of a rule; `where` is a file of dbt/macros.

    It is about what no feed gives partially: `whole`, without type 1 columns; `twin`, with them.
    """

    rule: str
    where: str
    old: str
    new: str
    whole: bool = False
    twin: bool = False


FOLD, WRITE, VIEWS, ABSENCES, AS_OF, DIALECT, SHAPE, ROWS, DEBEZIUM = (
    "scd2_fold.sql", "scd2_write.sql", "scd2_views.sql", "absences.sql", "scd2_as_of.sql", "dialect.sql", "scd2.sql", "entity_rows.sql", "debezium.sql",
)  # fmt: skip
MUTANTS = [
    Mutant("a copy with a position raises one without", FOLD, "or is_merged_anew or stored_position is null then incoming_position", "or is_merged_anew then incoming_position"),
    Mutant("a copy without a position takes none away", FOLD, "when incoming_position is null then stored_position\n", ""),
    Mutant("copies that were taken back do not count", FOLD, "where stream._retracted_by is null\n    and (", "where ("),
    Mutant("the greatest position of the copies counts", FOLD, "max(incoming.position) over", "min(incoming.position) over"),
    Mutant("a full copy makes nulls values", FOLD, "case when count(incoming.given) over {{ of_one }} = count(*) over {{ of_one }} then max(incoming.given) over {{ of_one }} end", "max(incoming.given) over {{ of_one }}"),
    Mutant("what stands of a retracted event is merged anew", FOLD, " or retracted.content is not null{% endif %})", "{% endif %})"),
    Mutant("the earliest change of a key bounds what is read", FOLD, "min(event_time) as since", "max(event_time) as since"),
    Mutant("a row that ends at the earliest change is read", DIALECT, "where log.next_at >= touched.since", "where log.next_at > touched.since"),
    Mutant("open rows are read", DIALECT, "where log.next_at is null\n  {%- endset -%}", "where false\n  {%- endset -%}"),
    Mutant("a change at the instant of the open row reaches behind it", DIALECT, "where is_of_key and event_time >= since)", "where is_of_key and event_time > since)"),
    Mutant("the open row of another key says nothing", DIALECT, "where is_of_key and event_time >= since)", "where event_time >= since)"),
    Mutant("a row of another key with the same hash is none of its", FOLD, "__stored where is_of_key)", "__stored)"),
    Mutant("each run says which keys it touched", WRITE, "__batches) as newest',", "__batches) as newest limit 40',"),
    Mutant("a later copy may raise the position", FOLD, "else greatest(stored_position, incoming_position)", "else stored_position"),
    Mutant("positions of copies that went do not stay", FOLD, "when not is_stored or is_merged_anew or stored_position is null then incoming_position", "when not is_stored or stored_position is null then incoming_position"),
    Mutant("an event that nothing states any more goes", FOLD, "where retracted.content is null or both_sides.is_incoming", "where true"),
    Mutant("a retracted event stands if a copy stands", FOLD, "where retracted.content is null or both_sides.is_incoming", "where retracted.content is null"),
    Mutant("the row before keeps what it was filled with", FOLD, "when event_time < since or stored_given is null\n      or substr", "when stored_given is null\n      or substr"),
    Mutant("filled values are not stated ones", FOLD, "or substr(stored_given, {{ entity.attributes.index(column) + 1 }}, 1) = '1' then", "or true then"),
    Mutant("a full copy that comes later makes nulls values", FOLD, "when incoming_given is not null then stored_given\n", "else stored_given\n"),
    Mutant("nothing is filled across a full event", FOLD, "count(case when given is null then 1 end)", "count(case when op = 'delete' then 1 end)"),
    Mutant("events are filled in their order: position", FOLD, "event_time asc, position asc nulls first, op desc, content asc", "event_time asc, position asc nulls last, op desc, content asc"),
    Mutant("events are filled in their order: upsert before delete", FOLD, "position asc nulls first, op desc, content asc", "position asc nulls first, op asc, content asc"),
    Mutant("events are filled in their order: content", FOLD, "op desc, content asc\n", "op desc, content desc\n"),
    Mutant("of an instant the greatest position wins", FOLD, "order by events.position desc nulls last, events.op", "order by events.position asc nulls last, events.op"),
    Mutant("no position comes before any", FOLD, "order by events.position desc nulls last, events.op", "order by events.position desc nulls first, events.op"),
    Mutant("a delete beats upserts", FOLD, "events.op asc, events.content desc", "events.op desc, events.content desc"),
    Mutant("the greatest content wins", FOLD, "events.op asc, events.content desc", "events.op asc, events.content asc"),
    Mutant("losers take no part", FOLD, "where losers._id is null", "where true"),
    Mutant("losers are hidden", FOLD, "  where _id in (select losers._id from losers)", "  where false"),
    Mutant("a loser ends at its own instant", FOLD, "null as version_from, event_time as next_at, false", "null as version_from, null as next_at, false"),
    Mutant("the first row read keeps its start", FOLD, "when previous_op is null and event_time < since then stored_version_from\n", ""),
    Mutant("the first row read keeps its change type", FOLD, "when previous_op is null and event_time < since then stored_change_type\n", ""),
    Mutant("a version begins after a delete", FOLD, "when previous_op is null or previous_op = 'delete' or previous_state <> {{ state }} then event_time", "when previous_op is null or previous_state <> {{ state }} then event_time"),
    Mutant("a no-op opens no version", FOLD, "or previous_op = 'delete' or previous_state <> {{ state }} then event_time", "or previous_op = 'delete' or true then event_time"),
    Mutant("what comes after a delete is an insert", FOLD, "when previous_op is null or previous_op = 'delete' then 'insert'", "when previous_op is null then 'insert'"),
    Mutant("a delete ends by delete", FOLD, "when next_op = 'delete' then 'delete'\n", "when next_op = 'delete' then 'update'\n"),
    Mutant("the last row of a version shows it", FOLD, "when next_state <> {{ state }} then 'update'\n      end as end_type", "else 'update'\n      end as end_type"),
    Mutant("the latest start is the version's", FOLD, "max(start_at) over", "min(start_at) over"),
    Mutant("a delete belongs to no version", FOLD, "case when op = 'upsert' then latest_start end as version_from", "latest_start as version_from"),
    Mutant("ties are made again where something came", FOLD, "select 1 from ({{ scd2_instants(entity, work) }}) as instants where", "select 1 from ({{ scd2_instants(entity, work) }}) as instants where false and"),
    Mutant("only instants touched have their ties made again", FOLD, "    where exists (\n      select 1 from ({{ scd2_instants(entity, work) }}) as instants where {{ agree('merged', 'instants', instant) }}\n    )\n", ""),
    Mutant("events that went leave the log", WRITE, "where incoming._id is null\n  ) as w", "where false\n  ) as w"),
    Mutant("marks that changed are written", WRITE, "where folded.is_stored and (", "where false and ("),
    Mutant("stored events are not added again", WRITE, "where not folded.is_stored{{ part }}", "where true{{ part }}"),
    Mutant("a key without an open version leaves current", WRITE, "left join (select * from {{ work }}__open where {{ same }}) as still", "left join {{ work }}__open as still"),
    Mutant("new open versions come to current", WRITE, "where not folded.is_stored and folded.is_version and folded.next_at is null", "where false"),
    Mutant("a version that opens again comes to current", WRITE, "where is_stored and not ({{ same }})) as w", "where false) as w"),
    Mutant("an open version that moves is moved", WRITE, "'was_open and version_from = stored_version_from'", "'was_open'", whole=True),
    Mutant("ties of an instant are replaced", WRITE, "delete_matching(ties, '(' ~ scd2_instants(entity, work) ~ ')', entity.key + ['event_time']),", ""),
    Mutant("a tie has one position", VIEWS, "partition by {{ instant }}, position order by op asc", "partition by {{ instant }} order by op asc"),
    Mutant("the winner of a tie", VIEWS, "position order by op asc, content desc) as rank_in_tie", "position order by op asc, content asc) as rank_in_tie"),
    Mutant("the current row is the open version", VIEWS, "from {{ log }}\nwhere is_version and next_at is null", "from {{ log }}\nwhere is_version"),
    Mutant("the history has versions alone", VIEWS, "from {{ log }}\nwhere is_version\n", "from {{ log }}\nwhere true\n"),
    Mutant("type 1 in every version is the last one's", VIEWS, "order by version_from rows between unbounded preceding and unbounded following", "order by version_from rows between unbounded preceding and current row"),
    Mutant("only what was there before is deleted", ABSENCES, "and (seen.first_at < verdicts.event_time or", "and (true or"),
    Mutant("what is there is not deleted", ABSENCES, "in ('stands', 'released', 'truncate') and there.feed is null", "in ('stands', 'released', 'truncate')"),
    Mutant("a truncate takes what comes at its instant too", ABSENCES, "      and verdicts.verdict <> 'truncate'\n", ""),
    Mutant("a held file deletes nothing", ABSENCES, "where verdicts.verdict in ('stands', 'released', 'truncate')", "where verdicts.verdict in ('stands', 'released', 'truncate', 'held')"),
    Mutant("an incomplete file deletes nothing", ABSENCES, "      when not this_set.is_complete then 'incomplete'\n", ""),
    Mutant("a file of an instant makes the whole incomplete", ABSENCES, "min(case when is_complete then 1 else 0 end) = 1 as is_complete", "max(case when is_complete then 1 else 0 end) = 1 as is_complete"),
    Mutant("a release is final", ABSENCES, "when this_set.is_released then 'released'", "when this_set.is_released then 'held'"),
    Mutant("too many is more than the share", ABSENCES, "not count_missing <= {{", "not count_missing >= {{"),
    Mutant("a held file is not what the next is judged against", ABSENCES, "verdict in ('stands', 'released', 'truncate')\" %}", "verdict in ('stands', 'released', 'truncate', 'held')\" %}"),
    Mutant("what stood before the earliest change is judged against", ABSENCES, "from {{ snapshots }}\n      where feed = {{ feed }} and {{ stands }}", "from {{ snapshots }}\n      where false"),
    Mutant("a set is judged against the last that stands", ABSENCES, "select max(event_time) as stood_at", "select min(event_time) as stood_at"),
    Mutant("verdicts are made again from the earliest change", ABSENCES, "select feed, min(event_time) as since", "select feed, max(event_time) as since"),
    Mutant("deletes that do not follow any more are taken back", ABSENCES, "and stood.event_time >= since.since and desired._feed is null", "and false"),
    Mutant("a refused row with a readable key is there", ABSENCES, "where _retracted_by is null and op <> 'truncate' and event_time is not null", "where _retracted_by is null and false and event_time is not null"),
    Mutant("a copy is known since the earliest", FOLD, "min(incoming.known_at) over", "max(incoming.known_at) over"),
    Mutant("a later copy leaves the known time", FOLD, "else least(stored_known_at, incoming_known_at)", "else incoming_known_at"),
    Mutant("what stands of a retracted event says since when it is known", FOLD, "when not is_stored or is_merged_anew then incoming_known_at", "when not is_stored then incoming_known_at"),
    Mutant("what stands of a retracted event says what it gives", FOLD, "when not is_stored or is_merged_anew then incoming_given", "when not is_stored then incoming_given"),
    Mutant("the first copy alone stands", FOLD, "where copy > 1) as w", "where copy > 2) as w"),
    Mutant("an event that came once is not settled", FOLD, "where count_copies > 1", "where count_copies > 2"),
    Mutant("keys of which something went are touched", FOLD, "  union all\n  select {{ entity.key | join(', ') }}, event_time from {{ work }}__retracted\n", ""),
    Mutant("type 1 columns open no version", FOLD, "content_hash(by_name(entity.tracked, 'stream.'), entity.types)", "content_hash(by_name(entity.attributes, 'stream.'), entity.types)", twin=True),
    Mutant("type 1 columns open no version, filled in", SHAPE, "content_hash(by_name(entity.tracked), entity.types)", "content_hash(by_name(entity.attributes), entity.types)"),
    Mutant("a change is an update", FOLD, "when previous_state <> {{ state }} then 'update'\n      end as start_change_type", "when previous_state <> {{ state }} then 'insert'\n      end as start_change_type"),
    Mutant("an open version is ended by nothing", FOLD, "nullif(end_type, 'open') as ended_by", "end_type as ended_by"),
    Mutant("a version that was closed may open again", FOLD, "coalesce(merged.stored_is_version and merged.stored_next_at is null, false) as was_open", "true as was_open", whole=True),
    Mutant("what only the next event changes is written", WRITE, "apart([scd2_ends(), ", "apart(["),
    Mutant("a raised position is written", WRITE, "['position', 'known_at'] + moving + scd2_starts()", "['known_at'] + moving + scd2_starts()"),
    Mutant("a known time that changed is written", WRITE, "['position', 'known_at'] + moving + scd2_starts()", "['position'] + moving + scd2_starts()"),
    Mutant("a start that changed is written", WRITE, "['position', 'known_at'] + moving + scd2_starts()", "['position', 'known_at'] + moving"),
    Mutant("an event comes from an object that stands", WRITE, "where w.is_merged_anew and", "where false and"),
    Mutant("ties are kept", WRITE, "'insert into ' ~ ties ~ ' select * from ' ~ work ~ '__ties',", ""),
    Mutant("a tie has two peers", VIEWS, "where count_peers > 1", "where count_peers > 2"),
    Mutant("losers are those that did not win", VIEWS, "case when rank_in_tie > 1 then content end", "content"),
    Mutant("a delete wins by being one", VIEWS, "case op when 'delete' then 'delete' else 'content' end", "'content'"),
    Mutant("the open version is current", VIEWS, "next_at is null as is_current", "true as is_current"),
    Mutant("what held at an instant had begun by then", AS_OF, "where valid_from <= {{ argument('valid_at') }}", "where valid_from < {{ argument('valid_at') }}"),
    Mutant("what ended at an instant does not hold then", AS_OF, "valid_to > {{ argument('valid_at') }}", "valid_to >= {{ argument('valid_at') }}"),
    Mutant("the greatest position that was known counts", AS_OF, "max(events.position) as position", "min(events.position) as position"),
    Mutant("a full copy that was known makes nulls values", AS_OF, "case when count(events.given) = count(*) then max(events.given) end as given", "max(events.given) as given"),
    Mutant("a truncate deletes at its position", ABSENCES, "max(position) as position", "cast(null as varchar) as position"),
    Mutant("a truncate deletes what came at its instant", ABSENCES, "(seen.first_at = verdicts.event_time and verdicts.verdict = 'truncate')", "false"),
    Mutant("a part that cannot be read makes the whole incomplete", ABSENCES, "(ledger.status = 'unreadable' and unread.count_unread is not null)", "false"),
    Mutant("what was dismissed is no part", ABSENCES, "and dismissed._row is null\n    group by refused.feed", "\n    group by refused.feed"),
    Mutant("a record without a key that was dismissed is none", ABSENCES, "and stream.op <> 'truncate' and dismissed._row is null", "and stream.op <> 'truncate'"),
    Mutant("an object without bytes says nothing until it is released", ABSENCES, "and (ledger.status <> 'empty' or released.batch is not null) as is_complete", "as is_complete"),
    Mutant("a verdict that a decision changed is made again", ABSENCES, "on decisions.feed = ledger.feed and decisions._key", "on false and decisions.feed = ledger.feed and decisions._key"),
    Mutant("only an object that gives the time orders its records", ROWS, "case when {{ object_orders(feed) }} then", "case when true then"),
    Mutant("what clean refused is no event", ROWS, "where reasons = '[]' and op <> 'tombstone'", "where op <> 'tombstone'"),
    Mutant("what was replaced is taken back", ROWS, "    rows_taken.content,\n    superseded._retracted_by", "    rows_taken.content,\n    cast(null as varchar) as _retracted_by"),
    Mutant("the key of a delete is in the row before it", DEBEZIUM, "when 'd' then {{ debezium_field(feed, 'before', fields) }}", "when 'd' then {{ debezium_field(feed, 'after', fields) }}"),
    Mutant("a binlog's position begins with its file", DEBEZIUM, "coalesce({{ replaced(json_at('envelope', ['source', 'file']), '^.*[.]', '') }}, '0')", "'0'"),
    Mutant("a value that was not sent is not given", ROWS, "case when {{ column }}_unavailable then '0' else '1' end", "'1'"),
    Mutant("a value that was not sent is none", DEBEZIUM, "nullif({{ debezium_column(feed, column) }}, {{ debezium_unavailable() }}) as", "{{ debezium_column(feed, column) }} as"),
    Mutant("the source's time comes before the envelope's", DEBEZIUM, "    {{ debezium_microseconds(['source']) }},\n", ""),
    Mutant("the finest unit of a time counts", DEBEZIUM, "case when {{ ns }} is not null then", "case when false then"),
    Mutant("what was taken back later was believed", AS_OF, "and (events._retracted_by is null or taken_back.came_at > {{ known_at }})", "and events._retracted_by is null"),
    Mutant("what came later was not known", AS_OF, "where events.known_at <= {{ known_at }}", "where true"),
]  # fmt: skip


def caught_by(mutant: Mutant, folder: Path) -> str:
    """What failed, or nothing."""
    every = "every version" in mutant.rule
    entity = EVERY if every else PROBE
    if mutant.whole:
        project = _mutated(project_with(folder, {}), mutant)
    else:
        project = _mutated(with_colliding_hashes(mixed_project(folder, every_version=every, twin=mutant.twin)), mutant)
    try:
        if not mutant.whole:
            with tempfile.TemporaryDirectory(prefix="c360-mutant-") as home:
                tell(Mixed(Platform(Settings.load({"C360_HOME": home}), NO_S3, project=project), entity))
        for seed in SEEDS:
            with tempfile.TemporaryDirectory(prefix="c360-mutant-") as home:
                if mutant.whole:
                    customers_round(seed, Path(home), project)
                else:
                    mixed_round(seed, Path(home), project, KEYS, entity)
    except BuildFailed as failure:
        if not failure.failed or " Error in " in str(failure):
            raise  # no project that can be read, or no SQL: that proves nothing
        return f"the build: {str(failure).splitlines()[0][:100]}"
    except AssertionError as difference:
        return f"the oracle: {str(difference).splitlines()[0][:100]}"
    finally:
        forget_manifest(project)
    return ""


def _mutated(project: Path, mutant: Mutant) -> Path:
    file = project / "macros" / mutant.where
    text = file.read_text()
    if mutant.old not in text:
        raise LookupError(f"{mutant.where} does not say any more: {mutant.old!r}")
    file.write_text(
        text.replace(mutant.old, mutant.new, 1) if mutant.where != VIEWS else text.replace(mutant.old, mutant.new)
    )
    return as_on_snowflake(project, strict=False)


def _caught(mutant: Mutant) -> str:
    with tempfile.TemporaryDirectory(prefix="c360-mutate-") as folder:
        return caught_by(mutant, Path(folder))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutate", description=__doc__)
    parser.add_argument("--only", default="", help="rules whose text contains this")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time (default: one a core)"
    )
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if options.only in m.rule]
    if wrong := _caught(Mutant("as it is", FOLD, "{% macro", "{% macro")):
        print(f"the engine as it is fails: {wrong}")
        return 1
    survivors = []
    # A process each, begun anew: dbt keeps what it read.
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as processes:
        for mutant, caught in zip(chosen, processes.map(_caught, chosen), strict=True):
            print(f"{'caught' if caught else 'SURVIVED':9}{mutant.rule}: {caught or 'nothing failed'}", flush=True)
            survivors += [] if caught else [mutant]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} rules: a change of it is noticed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
