"""Audit, the history by itself: the steps of the statement that look at nothing but its versions, and their faults.

Columns are those of `audit_columns.Rows`: k1.. the key, a1.. the attributes. Each distinct set of attributes of a key
has a number, its `state`, and 0 is no state at all: the steps compare one number, however wide the table is.
Instants that are not there are OPEN, never null: a null is smaller than an instant in one place, greater in the next.
"""

from __future__ import annotations

from c360_assets.audit_columns import OPEN, Rows


class Key:
    """The key's columns in the forms that SQL wants them in."""

    def __init__(self, count: int) -> None:
        self.columns = [f"k{n}" for n in range(1, count + 1)]
        self.is_whole = " and ".join(f"{k} is not null" for k in self.columns)

    def of(self, table: str) -> str:
        return ", ".join(f"{table}.{k}" for k in self.columns)

    def same(self, one: str, other: str) -> str:
        return " and ".join(f"{one}.{k} = {other}.{k}" for k in self.columns)

    def same_or_null(self, one: str, other: str) -> str:
        return " and ".join(f"{one}.{k} is not distinct from {other}.{k}" for k in self.columns)

    def __str__(self) -> str:
        return ", ".join(self.columns)


def fault(
    key: Key,
    code: str,
    source: str,
    *instants: str,
    n: str = "0",
    hint: str = "''",
    old: str = "0",
    new: str = "x.state",
) -> str:
    """A select of one kind of fault: i1 and i2 are the instants that are told, the rest is for the sentence."""
    shown = [*instants, *[OPEN] * (4 - len(instants))]
    told = ", ".join(f"coalesce({instant}, {OPEN}) as i{number}" for number, instant in enumerate(shown, 1))
    return (
        f"select {code} as code, {key.of('x')}, {told}, {n} as n, {hint} as hint, {old} as old, {new} as new\n"
        f"  from {source}"
    )


def stated(key: Key, attributes: list[str], rows: Rows) -> dict[str, str]:
    """The rows of both tables, each with the number of its state among the states of its key."""
    listed = ", ".join(attributes)
    both = f"select 0 as is_log, {key}, s, e, cur, del, null as p, null as r, {listed} from history_rows"
    if rows.log:
        both += (
            f"\n    union all\n    select 1 as is_log, {key}, t as s, {OPEN} as e, null as cur, del, p, r, {listed} "
            f"from log_rows where {key.is_whole} and t is not null"
        )
    steps = {"history_rows": rows.history} | ({"log_rows": rows.log} if rows.log else {})
    return steps | {
        "stated": f"""
  select *,
    case when is_log = 1 and del = 1 then 0 else dense_rank() over (partition by {key} order by {listed}) end as state
  from (
    {both}
  ) as both_tables"""
    }


def structure(key: Key) -> dict[str, str]:
    """The versions by themselves. `spans` are those that hold for some time, in order, each beside its neighbours."""
    row = f"{key}, s, e, del, state"
    by_key = f"over (partition by {key} order by nth"
    before = f"{by_key} rows between unbounded preceding and 1 preceding)"
    return {
        "kept": f"""
  select {row}, cur,
    row_number() over (partition by {row} order by cur) as copy_nth,
    count(*) over (partition by {row}) as copies
  from stated
  where is_log = 0 and {key.is_whole} and s is not null""",
        "versions": f"""
  select {row}, copies,
    row_number() over (partition by {key} order by s, e, del, state) as nth,
    sum(case when e = {OPEN} then copies else 0 end) over (partition by {key}) as open_rows
  from kept
  where copy_nth = 1""",
        "spans": f"""
  select *,
    coalesce(max(e) {before}, s) as reach,
    coalesce(max(case when e < {OPEN} then e end) {before}, s) as closed_reach,
    lag(s) {by_key}) as before_s,
    lag(e) {by_key}) as before_e,
    lag(del) {by_key}) as before_del,
    lag(state) {by_key}) as before_state
  from versions
  where e > s""",
        "opened": f"""
  select *,
    row_number() over (partition by {key} order by nth) as from_first,
    row_number() over (partition by {key} order by nth desc) as from_last
  from versions
  where e = {OPEN} and open_rows > 1""",
        "touching": "select * from spans where before_e = s and before_del = del and before_state = state",
    }


def structure_faults(key: Key, *, has_log: bool) -> list[str]:
    """One select per kind of fault that versions have among themselves."""
    told_gap = "" if not has_log else (
        f" left join ends as g on {key.same('g', 'x')} and g.actual_e = x.s and g.fault = 'reinsert_gap_lost'"
        " where g.s is null"
    )  # fmt: skip
    hides = f"(x.before_e < {OPEN} or x.open_rows = 1) and x.before_e > x.s"
    faults = [
        fault(key, "'null_key'", f"stated as x where x.is_log = 0 and not ({key.is_whole})", "x.s", "x.e"),
        fault(key, "'null_start'", f"stated as x where x.is_log = 0 and {key.is_whole} and x.s is null", OPEN, "x.e"),
        fault(key, "'negative_version'", "versions as x where x.e < x.s", "x.s", "x.e"),
        fault(key, "'empty_version'", "versions as x where x.e = x.s", "x.s", "x.e"),
        fault(
            key, "'duplicate_version'", f"versions as x where x.copies > 1 and x.s < x.e and x.e < {OPEN}",
            "x.s", "x.e", n="x.copies",
        ),
        fault(
            key, "'two_open_versions'",
            f"opened as x inner join opened as f on {key.same('f', 'x')} and f.from_first = 1 where x.from_last = 1",
            "f.s", "x.s", n="x.open_rows", old="f.state",
        ),
        # That of two open versions is told there.
        fault(
            key, "'overlap'",
            f"spans as x where x.closed_reach > x.s or (x.open_rows = 1 and x.reach = {OPEN} and x.e < {OPEN})",
            "x.s", f"case when {hides} then x.before_e when x.closed_reach > x.s then x.closed_reach end", "x.e",
            f"case when {hides} then x.before_s end", old="x.before_state",
        ),
        fault(key, "'touching_versions_equal'", f"touching as x{told_gap}", "x.s", "x.e", "x.before_s"),
        fault(
            key, "'current_flag_disagrees'",
            "kept as x cross join (select max(cur) as is_there from kept) as f where f.is_there is not null "
            f"and x.del = 0 and (coalesce(x.cur, 0) = 1) <> (x.e = {OPEN})",
            "x.s", "x.e", n="coalesce(x.cur, 0)",
        ),
    ]  # fmt: skip
    if not has_log:
        faults.append(fault(key, "'gap'", "spans as x where x.reach < x.s", "x.reach", "x.s", old="x.before_state"))
    return faults
