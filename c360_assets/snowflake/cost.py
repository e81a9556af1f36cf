"""Cost: which asset took how much of the account, read from what Snowflake keeps of each statement and its tag.

ACCOUNT_USAGE is up to eight hours behind. QUERY_ATTRIBUTION_HISTORY gives the credits of each statement, without the
time that a warehouse idled; that is in WAREHOUSE_METERING_HISTORY, and is shown as a row of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from c360_assets.warehouse import Session

COLUMNS = ["asset", "warehouse", "statements", "minutes", "credits", "gb_read"]


def query(warehouses: Sequence[str]) -> str:
    """Bound are the days twice."""
    names = ", ".join(f"'{name.upper()}'" for name in warehouses)
    since = "dateadd(day, -?, current_timestamp())"
    return f"""
    with statements as (
        select
            h.query_id, h.warehouse_name, h.total_elapsed_time, h.bytes_scanned,
            coalesce(
                try_parse_json(h.query_tag):asset::varchar, try_parse_json(h.query_tag):purpose::varchar, 'by hand'
            ) as asset
        from snowflake.account_usage.query_history as h
        where h.start_time >= {since} and h.warehouse_name in ({names})
    ),

    spent as (
        select
            s.asset, s.warehouse_name,
            count(*) as statements,
            sum(s.total_elapsed_time) / 60000 as minutes,
            sum(coalesce(a.credits_attributed_compute, 0)) as credits,
            sum(s.bytes_scanned) / 1e9 as gb_read
        from statements as s
        left join snowflake.account_usage.query_attribution_history as a on s.query_id = a.query_id
        group by s.asset, s.warehouse_name
    ),

    metered as (
        select m.warehouse_name, sum(m.credits_used) as credits
        from snowflake.account_usage.warehouse_metering_history as m
        where m.start_time >= {since} and m.warehouse_name in ({names})
        group by m.warehouse_name
    )

    select asset, warehouse_name, statements, round(minutes, 1), round(credits, 4), round(gb_read, 2) from spent
    union all
    select
        'idle, and cloud services', m.warehouse_name, null, null,
        round(m.credits - coalesce(u.credits, 0), 4),
        null
    from metered as m
    left join (select warehouse_name, sum(credits) as credits from spent group by warehouse_name) as u
        on m.warehouse_name = u.warehouse_name
    order by 5 desc
    """


def spent(session: Session, warehouses: Sequence[str], days: int) -> list[tuple[Any, ...]]:
    """A row per asset and warehouse, the dearest first, as COLUMNS."""
    return session.rows(query(warehouses), [days, days])
