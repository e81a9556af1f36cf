"""What the text of a field means, for the oracle: blanks, instants, dates, numbers. None where it cannot be told."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from decimal import Decimal

BLANKS = " \t\r\n\f\v"
_DIGITS_OF_NAME = re.compile(r"customer_([0-9]{14})")
_INSTANT = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ](?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.(?P<fraction>[0-9]+))?"
    r"(?P<zone>Z|(?P<sign>[+-])(?P<hours>[0-9]{2}):(?P<minutes>[0-9]{2}))?)?"
)
_YEAR_FIRST = re.compile(r"([0-9]{4})([-/])([0-9]{2})\2([0-9]{2})")
_MONTH_FIRST = re.compile(r"([0-9]{2})/([0-9]{2})/([0-9]{4})")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def instant_of_name(name: str) -> datetime | None:
    """The instant in an object's name, the first 14 digits after `customer_`."""
    digits = _DIGITS_OF_NAME.search(name.rsplit("/", 1)[-1])
    try:
        return datetime.strptime(digits[1], "%Y%m%d%H%M%S") if digits else None
    except ValueError:
        return None


def instant(text: str) -> datetime | None:
    """An ISO date or time as naive UTC, cut to microseconds; no offset means UTC, a date its midnight."""
    parts = _INSTANT.fullmatch(text)
    if not parts:
        return None
    fraction = (parts["fraction"] or "")[:6].ljust(6, "0")
    try:
        local = datetime.fromisoformat(f"{parts['date']}T{parts['time'] or '00:00:00'}.{fraction}")
        if parts["sign"] is None:
            return local
        if int(parts["hours"]) > 23 or int(parts["minutes"]) > 59:
            return None
        offset = timedelta(hours=int(parts["hours"]), minutes=int(parts["minutes"]))
        return local - offset if parts["sign"] == "+" else local + offset
    except (ValueError, OverflowError):
        return None


def day(text: str) -> str | None:
    """A date as YYYY-MM-DD; a month-first one only where it cannot be read day first."""
    if parts := _YEAR_FIRST.fullmatch(text):
        year, month, day_of_month = parts[1], parts[3], parts[4]
    elif (parts := _MONTH_FIRST.fullmatch(text)) and (int(parts[2]) > 12 or parts[1] == parts[2]):
        year, month, day_of_month = parts[3], parts[1], parts[2]
    else:
        return None
    try:
        return date(int(year), int(month), int(day_of_month)).isoformat()
    except ValueError:
        return None


def number(text: str) -> Decimal | None:
    """A plain decimal number."""
    return Decimal(text) if _NUMBER.fullmatch(text) else None
