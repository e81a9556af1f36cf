"""Audit, the statement: every fault of a history in one query, with exact counts and at most `limit` rows per code.

Pure: text in, text out, in SQL that DuckDB and Snowflake both take. The steps are common table expressions, so that
nothing is written and the reader needs no right but to read. Here is what the log implies and how the history differs;
what the history shows by itself is in audit_structure. Values are fetched again for the few rows that are shown.

Each fault is told once, at its root: what follows from a fault that is told elsewhere (the end before a lost change,
the version that a wrong order left unmatched) is not counted again.
"""

from __future__ import annotations

from c360_assets.audit_columns import OPEN, Rows
from c360_assets.audit_structure import Key, fault, stated, structure, structure_faults

# What stands in a row that is read, between the key and the values: see audit_causes.Found.
FIELDS = ("i1", "i2", "i3", "i4", "n", "hint")


def statement(rows: Rows, limit: int) -> str:
    """Rows of code, key, FIELDS, the old values, the new values, and how many the code has in all."""
    key, attributes = Key(rows.keys), [f"a{n}" for n in range(1, len(rows.attributes) + 1)]
    steps = stated(key, attributes, rows) | structure(key)
    faults = structure_faults(key, has_log=bool(rows.log))
    if rows.log:
        steps |= _expected(key, rows.content) | _compared(key)
        faults += _log_faults(key)
    steps["faults"] = "\n  union all\n  ".join(faults)
    steps |= _shown(key, attributes, limit)
    with_steps = ",\n\n".join(f"{name} as (\n  {text.strip()}\n)" for name, text in steps.items())
    values = [f"{side}.{a}" for side in ("told_old", "told_new") for a in attributes]
    return f"""with {with_steps}

select f.code, {key.of("f")}, {", ".join(f"f.{field}" for field in FIELDS)}, {", ".join(values)}, f.total
from shown as f
left join told as told_old on {key.same_or_null("told_old", "f")} and told_old.state = f.old
left join told as told_new on {key.same_or_null("told_new", "f")} and told_new.state = f.new
order by f.code, f.place"""


def _expected(key: Key, content: str) -> dict[str, str]:
    """The history that the log implies, as docs/history.md has it: distinct, in order, the last of an instant."""
    by_time = f"over (partition by {key} order by t)"
    return {
        "events": f"""
  select {key}, s as t, del, state, max(p) as p, min(r) as r
  from stated
  where is_log = 1
  group by {key}, s, del, state""",
        "contested": f"""
  select *, count(*) over (partition by {key}, t) as rivals, count(*) over (partition by {key}, t, p) as tied
  from events""",
        # Contents decide last; hashes are made of those few alone.
        "contents": f"""
  select {key.of("x")}, x.state, min({content}) as content
  from (select distinct {key}, state from contested where rivals > 1 and del = 0) as x
  inner join stated as v on {key.same("v", "x")} and v.state = x.state
  group by {key.of("x")}, x.state""",
        "ranked_events": f"""
  select c.*,
    row_number() over (
      partition by {key.of("c")}, c.t
      order by case when c.p is null then 0 else 1 end desc, c.p desc, c.del desc, h.content desc
    ) as from_last
  from contested as c
  left join contents as h on c.rivals > 1 and {key.same("h", "c")} and h.state = c.state""",
        "outcomes": f"""
  select *, coalesce(lag(state) {by_time}, 0) as before_state
  from ranked_events
  where from_last = 1""",
        # A delete of what is not there, and a state like the one before, change nothing.
        "bounded": f"""
  select *,
    lag(t) {by_time} as before_t,
    lag(r) {by_time} as before_r,
    lead(t) {by_time} as next_t,
    lead(del) {by_time} as next_del,
    lead(r) {by_time} as next_r,
    lead(t, 2) {by_time} as again_t,
    lead(state, 2) {by_time} as again_state
  from outcomes
  where state <> before_state""",
        "expected": f"""
  select *,
    t as s,
    coalesce(next_t, {OPEN}) as e,
    coalesce(next_del, 0) as by_delete,
    coalesce(case when next_del = 1 then again_t else next_t end, {OPEN}) as then_t,
    case when next_del = 1 and again_state = state then 1 else 0 end as same_again
  from bounded
  where del = 0""",
        "log_keys": f"select distinct {key} from events",
    }


def _compared(key: Key) -> dict[str, str]:
    """Expected versions beside those there are: by their start; else, of equal states, one for one in order."""
    by_state = f"over (partition by {key}, state"
    best = "case when e.state = a.state then 0 else 1 end, case when a.e = e.e then 0 else 1 end, a.holds desc, a.nth"
    return {
        "history_keys": f"select distinct {key} from versions",
        "actual": f"""
  select v.*,
    case when v.e > v.s then 1 else 0 end as holds,
    lead(v.s) over (partition by {key.of("v")}, case when v.e > v.s then 1 else 0 end order by v.nth) as next_s,
    max(v.s) over (partition by {key.of("v")}) as last_s
  from versions as v
  inner join log_keys as l on {key.same("v", "l")}
  where v.del = 0""",
        "unmet": f"""
  select e.*
  from expected as e
  left join (select distinct {key}, s from actual) as a on {key.same("e", "a")} and e.s = a.s
  where a.s is null""",
        "unexplained": f"""
  select a.*
  from actual as a
  left join expected as e on {key.same("e", "a")} and e.s = a.s
  left join touching as t on {key.same("t", "a")} and t.nth = a.nth
  where e.s is null and t.s is null and a.holds = 1""",
        "loose": f"""
  select *,
    row_number() {by_state}, is_actual order by s) as pair_nth,
    sum(is_actual) {by_state}) as count_actual,
    sum(1 - is_actual) {by_state}) as count_expected
  from (
    select {key}, state, s, 0 as is_actual from unmet
    union all
    select {key}, state, s, 1 as is_actual from unexplained
  ) as both_sides""",
        # As many on both sides: the first with the first. Else an expected one with the one that follows it in time.
        "moved": f"""
  select {key}, s as expected_s, actual_s
  from (
    select *,
      case
        when count_actual = count_expected then lead(s) {by_state} order by pair_nth, is_actual)
        when lead(is_actual) {by_state} order by s, is_actual) = 1 then lead(s) {by_state} order by s, is_actual)
      end as actual_s
    from loose
  ) as neighbours
  where is_actual = 0 and actual_s is not null""",
        "pairs": f"""
  select *
  from (
    select e.*, a.state as actual_state, a.s as actual_s, a.e as actual_e, a.next_s, a.holds, a.nth, a.open_rows,
      row_number() over (partition by {key.of("e")}, e.s order by {best}) as choice
    from (
      select {key}, s as expected_s, s as actual_s from expected
      union all
      select {key}, expected_s, actual_s from moved
    ) as l
    inner join expected as e on {key.same("e", "l")} and e.s = l.expected_s
    inner join actual as a on {key.same("a", "l")} and a.s = l.actual_s
  ) as choices
  where choice = 1""",
        "ends": f"""
  select p.*,
    case
      when p.actual_e = p.e then null
      -- Told as negative_version, empty_version, overlap or two_open_versions.
      when p.holds = 0 or p.next_s < p.actual_e or (p.actual_e = {OPEN} and p.open_rows > 1) then null
      when p.by_delete = 1 and p.then_t = {OPEN} and p.actual_e = {OPEN} then 'deleted_key_still_open'
      when p.by_delete = 1 and p.then_t < {OPEN} and p.actual_e >= coalesce(n.actual_s, p.then_t)
        then case when p.same_again = 1 then 'reinsert_gap_lost' else 'delete_ignored' end
      -- Told of the version that begins there.
      when p.next_s = p.actual_e then null
      when p.by_delete = 0 and p.e < p.actual_e and n.actual_s is null then null
      when p.by_delete = 0 and p.actual_e < p.e then 'gap_without_delete'
      else 'wrong_end'
    end as fault,
    n.state as then_state
  from pairs as p
  left join pairs as n on {key.same("n", "p")} and n.s = p.then_t""",
        "lost": f"""
  select u.*, coalesce(seen.last_s, u.s) as last_s,
    case when rival.t is null then 0 else 1 end as is_tied
  from unmet as u
  inner join history_keys as h on {key.same("h", "u")}
  left join moved as m on {key.same("m", "u")} and m.expected_s = u.s
  left join ends as g on {key.same("g", "u")} and g.then_t = u.s and g.fault = 'reinsert_gap_lost'
  left join (select {key}, max(s) as last_s from actual group by {key}) as seen on {key.same("seen", "u")}
  -- Of two events that tie, the history took the one that changes nothing.
  left join events as rival
    on {key.same("rival", "u")} and rival.t = u.s and rival.p is not distinct from u.p and rival.state = u.before_state
  where m.expected_s is null and g.s is null""",
        "surplus": f"""
  select u.*
  from unexplained as u
  left join moved as m on {key.same("m", "u")} and m.actual_s = u.s
  where m.actual_s is null""",
        # States that the history shows where the log implies others: where else does the log have them?
        "traced": f"""
  select {key.of("q")}, q.nth,
    coalesce(max(case when v.t <= q.s then v.t end), min(v.t), {OPEN}) as seen_t,
    max(case when v.t = q.s and v.p is not distinct from q.p then 1 else 0 end) as is_tied
  from (
    select {key}, s, nth, p, actual_state as state from pairs where actual_state <> state
    union all
    select {key}, s, nth, null as p, state from surplus
  ) as q
  left join events as v on {key.same("v", "q")} and v.state = q.state
  group by {key.of("q")}, q.nth""",
    }


def _shown(key: Key, attributes: list[str], limit: int) -> dict[str, str]:
    """The rows to be read, and the values of the states in them."""
    values = ", ".join(f"min(cast(v.{a} as varchar)) as {a}" for a in attributes)
    return {
        "shown": f"""
  select *
  from (
    select *,
      row_number() over (partition by code order by {key}, i1, i2) as place,
      count(*) over (partition by code) as total
    from faults
  ) as ranked
  where place <= {limit}""",
        "told": f"""
  select {key.of("w")}, w.state, {values}
  from (select {key}, old as state from shown union select {key}, new as state from shown) as w
  inner join stated as v on {key.same_or_null("v", "w")} and v.state = w.state
  where v.state > 0
  group by {key.of("w")}, w.state""",
    }


def _log_faults(key: Key) -> list[str]:
    """One select per kind of fault that only the log shows."""
    came = (
        "case when x.r = x.next_r then 'with next' when x.r > x.next_r then 'after next' "
        "when x.r = x.before_r then 'with before' when x.r < x.before_r then 'before it' "
        "when x.r is null then '' else 'in order' end"
    )
    traced = f"left join traced as q on {key.same('q', 'x')} and q.nth = x.nth"

    def event_at(instant: str) -> str:
        return f"left join outcomes as w on {key.same('w', 'x')} and w.t = {instant}"

    def per_key(source: str, known: str) -> str:
        return (
            f"(select {key.of('v')}, min(v.s) as s, max(v.e) as e, count(*) as n from {source} as v left join {known} "
            f"as l on {key.same('l', 'v')} where l.k1 is null group by {key.of('v')}) as x"
        )

    return [
        fault(key, "'unknown_key'", per_key("versions", "log_keys"), "x.s", n="x.n", new="0"),
        fault(key, "'missing_key'", per_key("expected", "history_keys"), "x.s", "x.e", n="x.n", new="0"),
        fault(
            key, "case when x.is_tied = 1 then 'tie' else 'lost_event' end",
            "lost as x cross join (select max(s) as until from versions) as h",
            "x.s", "x.next_t", "case when x.last_s > x.s then x.last_s end", "h.until",
            n="case when x.tied > 1 then 1 else 0 end + case when x.before_state = 0 then 2 else 0 end"
            " + case when x.next_del = 1 then 4 else 0 end",
            hint=came, old="x.before_state",
        ),
        fault(
            key, "'wrong_start'", f"pairs as x {event_at('x.actual_s')} where x.actual_s <> x.s",
            "x.s", "x.actual_s", "w.t",
        ),
        fault(
            key, "case when q.is_tied = 1 then 'tie' else 'wrong_values' end",
            f"pairs as x {traced} where x.actual_state <> x.state", "x.s", "x.e", "q.seen_t", old="x.actual_state",
        ),
        fault(
            key, "x.fault", "ends as x where x.fault is not null", "x.actual_s", "x.e", "x.actual_e", "x.then_t",
            n="x.by_delete", old="x.state", new="coalesce(x.then_state, 0)",
        ),
        fault(
            key, "case when w.tied > 1 and q.seen_t = x.s then 'tie' else 'surplus_version' end",
            f"surplus as x {traced} {event_at('x.s')}", "x.s", "x.e", "q.seen_t",
            hint="case when w.t is null then '' when w.del = 1 then 'delete' else 'no change' end",
        ),
    ]  # fmt: skip
