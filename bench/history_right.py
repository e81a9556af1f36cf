"""What a history should be, told without the engine, and how far another one is from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from bench.history_stream import ATTRIBUTES

SHOWN = ", ".join(ATTRIBUTES)

# A history by windows over all events, in no way akin to the engine.
RIGHT = f"""
with told as (
  select distinct customer_id, event_time, op, content, {SHOWN} from bench.events
  where customer_id in (select customer_id from touched)
), won as (
  select * from told
  qualify row_number() over (partition by customer_id, event_time order by op, content desc) = 1
), turned as (
  select * from won
  window k as (partition by customer_id order by event_time)
  qualify lag(content) over k is null or op <> lag(op) over k or content <> lag(content) over k
), ended as (
  select *, lead(event_time) over (partition by customer_id order by event_time) as valid_to from turned
)
select customer_id, {SHOWN}, event_time as valid_from, valid_to from ended where op = 'upsert'
"""


def verdict(own: Path, right: Path, batches: Sequence[Path]) -> dict[str, Any]:
    """Shares, in percent, of what is wrong in a tool's history of the keys in the batches; files of Parquet."""
    compared = f"customer_id, {SHOWN}, valid_from, valid_to"
    with duckdb.connect() as connection:
        connection.execute(f"create table own as select {compared} from '{own}'")
        connection.execute(f"create table ideal as select {compared} from '{right}'")
        connection.execute(
            f"create table touched as select distinct customer_id from read_parquet({[str(b) for b in batches]})"
        )
        connection.execute("create table surplus as from own except all from ideal")
        connection.execute("create table missing as from ideal except all from own")
        for side in ("own", "ideal"):
            connection.execute(
                f"""
                create table {side}_states as
                select customer_id, list(({SHOWN}) order by valid_from, valid_to nulls last) as states
                from {side} group by 1
                """
            )
        found = connection.execute(
            """
            select
                (select count(*) from touched),
                (select count(distinct customer_id) from (from surplus union all from missing)),
                (select count(*) from own_states full join ideal_states using (customer_id)
                    where own_states.states is distinct from ideal_states.states),
                (select count(*) from surplus), (select count(*) from own),
                (select count(*) from missing), (select count(*) from ideal)
            """
        ).fetchone()
    assert found
    touched, wrong, wrong_values, surplus, own_rows, missing, ideal = found
    return {
        "keys touched": touched,
        "wrong keys %": _percent(wrong, touched),
        "wrong keys, times left out %": _percent(wrong_values, touched),
        "wrong rows of those keys %": _percent(surplus, own_rows),
        "right rows that it lacks %": _percent(missing, ideal),
    }


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 2)
