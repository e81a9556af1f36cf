"""A stream of customers' changes of any size, made by DuckDB alone in seconds.

The event of each number is a pure function of that number, so that a batch is a further range of numbers and nothing has to be
remembered. Every key has `rows / keys` events; in each round over the keys their order is another, so that the events of
a batch lie scattered over the whole history. Shares as in SHARES; an event that is late lies up to 100 days back.
"""

from __future__ import annotations

from dataclasses import dataclass

ATTRIBUTES = ("city", "email", "first_name", "last_name", "phone", "segment", "street")
SHARES = {"duplicate": 1.0, "late": 2.0, "delete": 0.5, "no-op": 5.0}  # percent
OBJECT = 10_000  # rows of a file
START = "2025-01-01"
DAYS = 365

# The columns that the materialization `scd2` expects of a stream.
EVENTS = """
with arrivals as (
  -- Half of the copies are of the row before, half of one of long ago.
  select
    i as arrival,
    case
      when hash(i, 'copy') % 1000 < {duplicate} // 2 then greatest(i - 1, 0)
      when hash(i, 'copy') % 1000 < {duplicate} and i >= 2 * {keys} then i - {keys} - cast(hash(i, 'back') % {keys} as bigint)
      else i
    end as e
  from range({first}, {first} + {count}) as r(i)
), rounds as (
  select arrival, e, e // {keys} as round, (e % {keys}) // 1000 as high, e % 1000 as low
  from arrivals
), shuffled_high as (
  select * replace (cast((high + hash(low, round) % {high}) % {high} as bigint) as high) from rounds
), shuffled as (
  select * replace (cast((low + hash(high, round, 'low') % 1000) % 1000 as bigint) as low) from shuffled_high
), told as (
  select
    arrival, e, high * 1000 + low as k,
    -- What the key's attributes are made of; a no-op has that of the event before.
    round - case when hash(e, 'same') % 1000 < {no_op} then 1 else 0 end as state,
    case when hash(e, 'op') % 1000 < {delete} then 'delete' else 'upsert' end as op,
    timestamp '{start}' + to_microseconds(e * {step})
      - to_seconds(cast(case when hash(e, 'late') % 1000 < {late} then 3600 + hash(e, 'days') % 8640000 else 0 end as bigint)) as event_time,
    arrival // {object} as object
  from shuffled
), filled as (
  select
    'CUST_' || lpad(cast(k as varchar), 8, '0') as customer_id,
    event_time, cast(null as varchar) as position, op,
    case when op = 'upsert' then 'City' || cast(hash(k, state) % 500 as varchar) end as city,
    case when op = 'upsert' then 'user' || k || '@mail' || cast(hash(k, (state + k) // 4) % 50 as varchar) || '.example' end as email,
    case when op = 'upsert' then 'First' || cast(hash(k, 'first') % 5000 as varchar) end as first_name,
    case when op = 'upsert' then 'Last' || cast(hash(k, 'last', (state + k) // 16) % 50000 as varchar) end as last_name,
    case when op = 'upsert' then '+47' || lpad(cast(hash(k, 'phone', (state + k) // 3) % 100000000 as varchar), 8, '0') end as phone,
    case when op = 'upsert' then ['new', 'retail', 'silver', 'gold', 'business'][cast(1 + hash(k, 'segment', state // 2) % 5 as int)] end as segment,
    case when op = 'upsert' then 'Street ' || cast(hash(k, 'street', state) % 100000 as varchar) end as street,
    arrival, object
  from told
)
select
  customer_id, event_time, position, op, {attributes},
  sha256(case when op = 'upsert' then {text} else '' end) as content,
  timestamp '{start}' + to_microseconds(({object} * (object + 1)) * {step}) as known_at,
  'customers' as _feed,
  'customers/customer_' || lpad(cast(object as varchar), 8, '0') || '.csv' as _key,
  lpad(to_hex(hash(object)), 16, '0') as _etag,
  arrival % {object} + 1 as _row,
  {batch} as _batch,
  cast(null as varchar) as _retracted_by
from filled
"""


@dataclass(frozen=True)
class Stream:
    """`rows` events of `keys` keys, a multiple of 1,000; further numbers go on in the same pace."""

    rows: int
    keys: int

    def events(self, first: int, count: int, batch: str | None = None) -> str:
        """A query of the events of these numbers, all of one batch, or 20 for the whole stream."""
        return EVENTS.format(
            first=first, count=count, keys=self.keys, high=self.keys // 1000, step=DAYS * 86_400_000_000 // self.rows,
            start=START, object=OBJECT, attributes=", ".join(ATTRIBUTES),
            text=" || ".join(f"'{c}=' || strlen({c}) || ':' || {c} || ';'" for c in ATTRIBUTES),
            batch=f"'{batch}'" if batch else f"'first-' || lpad(cast(arrival * 20 // {self.rows} as varchar), 2, '0')",
            duplicate=int(SHARES["duplicate"] * 10), late=int(SHARES["late"] * 10),
            delete=int(SHARES["delete"] * 10), no_op=int(SHARES["no-op"] * 10),
        )  # fmt: skip
