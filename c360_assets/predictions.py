"""Predictions: `gold.customer_value` and `gold.sales_forecast`, as of a day, where their extra is installed.

Belongs here: what is read, what is written, and the assets. Only what was bought up to the day is read, and on request
only what was known at an instant, so that the tables of any day can be made again; each day's rows stay until the same
day is made anew.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from importlib.util import find_spec
from typing import Any

import dagster as dg

from c360_assets import customer_value, instants, sales_forecast
from c360_assets.registers import last_instant
from c360_assets.warehouse import DATE, DECIMAL, INTEGER, TEXT, TIMESTAMP, Session, Warehouse, insert

# What the extra `predictions` brings.
LIBRARIES = ("pymc_marketing", "statsmodels")
READS = ("gold.fct_orders", "gold.fct_pos_lines", "gold.product_category_days")

CUSTOMER_VALUE = {
    "as_of": DATE,
    "currency": TEXT,
    "customer_id": TEXT,
    "days_with_purchase": INTEGER,
    "first_bought_on": DATE,
    "last_bought_on": DATE,
    "churn_risk": DECIMAL,
    "expected_purchases": DECIMAL,
    "expected_value": DECIMAL,
    "churn_error": DECIMAL,
    "naive_churn_error": DECIMAL,
    "known_at": TIMESTAMP,
}
SALES_FORECAST = {
    "as_of": DATE,
    "currency": TEXT,
    "category_id": TEXT,
    "sales_date": DATE,
    "forecast_revenue": DECIMAL,
    "method": TEXT,
    "backtest_error": DECIMAL,
    "naive_error": DECIMAL,
    "known_at": TIMESTAMP,
}

_PURCHASES = """
    select currency, customer_id, bought_on, sum(amount)
    from (
        select currency, customer_id, order_day as bought_on, amount from {orders} as orders where is_sale
        union all
        select currency, customer_id, sales_date as bought_on, amount from {lines} as lines where kind = 'sale'
    ) as bought
    where customer_id is not null and bought_on <= ? and amount > 0
    group by currency, customer_id, bought_on
    order by currency, customer_id, bought_on
"""
_SALES = """
    select currency, category_id, sales_date, gross_revenue
    from {days} as days
    where sales_date <= ?
    order by currency, category_id, sales_date
"""
# A day that goes on has brought little yet, and one that lies ahead of all that has come a wrong clock tells.
_LAST_DAY = """
    select max(day)
    from (
        select order_day as day from {orders} as orders where is_sale
        union all
        select sales_date as day from {lines} as lines where kind = 'sale'
    ) as days
    where day < (select cast(max(loaded_at) as date) from staging.object_ledger where loaded_at <= ?)
"""


class AsOf(dg.Config):
    """`as_of`: YYYY-MM-DD; without it the last day, of those that are over, on which anything was bought.

    `known_at`: an instant; what came, was corrected or was cancelled after it is not looked at.
    """

    as_of: str = ""
    known_at: str = ""


@dataclass(frozen=True)
class Known:
    """The facts as they are, or as they were known at an instant, UTC without zone."""

    session: Session
    at: datetime | None = None

    def rows(self, sql: str, day: date | None = None) -> list[tuple[Any, ...]]:
        """What a query gives of `{orders}`, `{lines}` and `{days}`. Its one parameter is the day, or, without one, the
        instant."""
        tables = {"orders": "gold.fct_orders", "lines": "gold.fct_pos_lines", "days": "gold.product_category_days"}
        if self.at is not None:
            tables = {
                "orders": self.session.called("gold.fct_orders_as_of", [self.at]),
                "lines": self.session.called("core.pos_line_as_of", [self.at]),
                "days": self.session.called(
                    "gold.product_category_sales_as_of", [datetime.combine(day or date.max, time()), self.at]
                ),
            }
        return self.session.rows(sql.format(**tables), [day or self.at or datetime(9999, 12, 31)])


def is_installed() -> bool:
    """Is the extra here?"""
    return all(find_spec(library) for library in LIBRARIES)


def prediction_assets(warehouse: Warehouse, there: Collection[str], **policy: Any) -> list[dg.AssetsDefinition]:
    """Both tables, or none where the extra or what they read is not `there`.

    They are no part of a sync: a fit takes a minute, and what it tells changes little from hour to hour.
    """
    if not is_installed() or not set(READS) <= set(there):
        return []
    return [
        _asset(warehouse, "customer_value", CUSTOMER_VALUE, customer_values, _VALUE_TEXT, policy),
        _asset(warehouse, "sales_forecast", SALES_FORECAST, sales_forecasts, _FORECAST_TEXT, policy),
    ]


def _asset(
    warehouse: Warehouse,
    table: str,
    columns: Mapping[str, str],
    rows_as_of: Callable[[Known, date], list[tuple[object, ...]]],
    text: str,
    policy: Mapping[str, Any],
) -> dg.AssetsDefinition:
    def made(config: AsOf) -> dg.MaterializeResult[None]:
        at = instants.read(config.known_at) if config.known_at else None
        with warehouse.reading() as session:
            known = Known(session, at)
            day = date.fromisoformat(config.as_of) if config.as_of else _last_day(known)
            found = rows_as_of(known, day) if day else []
            # Asked last: whatever was read came by then.
            known_at = at or last_instant(session)
        with warehouse.writing(f"writing gold.{table}") as session:
            session.ensure(f"gold.{table}", columns)
            with session.transaction():
                session.execute(f"delete from gold.{table} where as_of = ?", [day])
                insert(session, f"gold.{table}", columns, [(*row, known_at) for row in found])
        metadata: dict[str, Any] = {"as of": str(day), "known at": str(known_at), "dagster/row_count": len(found)}
        return dg.MaterializeResult(metadata=metadata)

    reads = [dg.AssetKey(name.split(".")) for name in READS]
    asset: dg.AssetsDefinition = dg.asset(key=["gold", table], deps=reads, description=text, **policy)(made)
    return asset


_VALUE_TEXT = (
    "Risk of no purchase in the next 90 days, purchases then to be expected, and what a customer is worth in a year. "
    "One row per day as of which it was told, currency and customer, with the error that it had before."
)
_FORECAST_TEXT = (
    "Revenue of the next 28 days. One row per day as of which it was told, currency, category and day, with the error "
    "that the same way had before."
)


def customer_values(known: Known, as_of: date) -> list[tuple[object, ...]]:
    """The rows of `gold.customer_value` but for `known_at`; none for a currency in which too few bought twice."""
    bought: dict[str, list[tuple[str, date, float]]] = defaultdict(list)
    for currency, customer, day, amount in known.rows(_PURCHASES, as_of):
        bought[currency].append((customer, day, float(amount)))
    rows: list[tuple[object, ...]] = []
    for currency, purchases in bought.items():
        found = customer_value.estimates(purchases, as_of)
        if found is None:
            continue
        errors = (_decimal(found.churn_error), _decimal(found.naive_error))
        rows += [
            (
                as_of, currency, e.customer_id, e.days_with_purchase, e.first_bought_on, e.last_bought_on,
                _decimal(e.churn_risk), _decimal(e.expected_purchases), _money(e.expected_value), *errors,
            )
            for e in found.customers
        ]  # fmt: skip
    return rows


def sales_forecasts(known: Known, as_of: date) -> list[tuple[object, ...]]:
    """The rows of `gold.sales_forecast` but for `known_at`; none for a category that sold for less than eight weeks."""
    series: dict[tuple[str, str | None], dict[date, float]] = defaultdict(dict)
    for currency, category, day, revenue in known.rows(_SALES, as_of):
        series[currency, category][day] = float(revenue)
    rows: list[tuple[object, ...]] = []
    for (currency, category), days in series.items():
        told = sales_forecast.forecast(_daily(days, as_of))
        if told is None:
            continue
        errors = (_decimal(told.error), _decimal(told.naive_error))
        rows += [
            (as_of, currency, category, as_of + timedelta(n), _money(value), told.method, *errors)
            for n, value in enumerate(told.values, 1)
        ]
    return rows


def _daily(days: Mapping[date, float], as_of: date) -> Sequence[float]:
    """From the first day to the last one asked for; a day that is not there sold nothing."""
    first = min(days)
    return [days.get(first + timedelta(n), 0.0) for n in range((as_of - first).days + 1)]


def _last_day(known: Known) -> date | None:
    day: date | None
    ((day,),) = known.rows(_LAST_DAY)
    return day


def _decimal(value: float | None) -> Decimal | None:
    return None if value is None else Decimal(f"{value:.4f}")


def _money(value: float) -> Decimal:
    """To the cent: what two machines may tell differently lies far behind it."""
    return Decimal(f"{value:.2f}")
