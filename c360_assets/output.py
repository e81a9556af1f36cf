"""Output: results as csv, json or a table, with one text for each value whatever the engine.

Ids are text; timestamps `YYYY-MM-DDTHH:MM:SS[.ffffff]Z`, dates `YYYY-MM-DD`, decimals plain, booleans true/false;
null is empty in CSV.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TextIO

from tabulate import tabulate

from c360_assets import instants

TABLE_ROWS = 1_000


def text_of(value: Any) -> str:
    """The one text of a value; null is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return f"{instants.utc(value).isoformat()}Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | dict | tuple):
        return json.dumps(value, default=text_of, ensure_ascii=False)
    return str(value)


def write(names: Sequence[str], rows: Iterable[Sequence[Any]], form: str, out: TextIO | None = None) -> None:
    """Rows as `csv`, `json` (an array of objects) or `table`; csv and json are streamed."""
    out = out or sys.stdout
    if form == "csv":
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([text_of(v) for v in row] for row in rows)
    elif form == "json":
        out.write("[")
        for number, row in enumerate(rows):
            shown = {n: _json(v) for n, v in zip(names, row, strict=True)}
            out.write((",\n " if number else "\n ") + json.dumps(shown, ensure_ascii=False))
        out.write("\n]\n")
    else:
        shown_rows: list[list[str]] = []
        more = False
        for row in rows:
            if len(shown_rows) == TABLE_ROWS:
                more = True
                break
            shown_rows.append([text_of(v) for v in row])
        out.write(tabulate(shown_rows, headers=list(names), tablefmt="simple", disable_numparse=True) + "\n")
        if more:
            print(f"only the first {TABLE_ROWS} rows are shown; --format csv gives all", file=sys.stderr)


def markdown(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in markdown."""
    lines = [list(names), *([text_of(value).replace("|", "\\|") for value in row] for row in rows)]
    head, *body = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, "|" + " --- |" * len(names), *body])


def _json(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return text_of(value)
