"""Snowflake Scripting, as much of it as the procedures of c360_assets/snowflake/native.py use, run statement by statement.

fakesnow runs no procedures: it is given the statements, the control between them is played here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from c360_assets.warehouse import Session

BLOCK = re.compile(
    r"create or replace procedure [\w.]+\(\) returns varchar language sql execute as owner as \$\$\n(.*)\n\$\$", re.S
)
OPENS = re.compile(r"if \((\w+) (>|=) 0\) then|for (\w+) in (\w+) do")
CLOSES = {"end if;": "if", "end for;": "for"}
HANDLER = ["exception", "when other then", "rollback;", "raise;", "end;"]


class Returned(Exception):
    """The procedure returned."""


class Procedure:
    """The text of a procedure, read whole: what does not follow the grammar is an error here."""

    def __init__(self, sql: str) -> None:
        whole = BLOCK.fullmatch(sql)
        assert whole, sql[:200]
        lines = whole.group(1).split("\n")
        assert lines[0] == "declare" and lines[-len(HANDLER) :] == HANDLER
        begin = lines.index("begin")
        self.variables = dict(line.removesuffix(";").split(" ", 1) for line in lines[1:begin])
        self.body, rest = _block(lines[begin + 1 : -len(HANDLER)])
        assert not rest

    def statements(self) -> list[str]:
        """Every SQL statement in it, variables as they stand."""
        return list(_statements(self.body))

    def run(self, session: Session, seen: Callable[[str], str] = lambda sql: sql) -> str:
        """Runs it; `seen` is given each statement and says what is sent instead."""
        values: dict[str, Any] = dict.fromkeys(self.variables)
        try:
            _run(self.body, session, values, seen)
        except Returned as returned:
            return str(returned)
        except BaseException:
            session.execute("rollback")
            raise
        return "ended"


def _block(lines: list[str]) -> tuple[list[Any], list[str]]:
    """Nested blocks up to the end of this one, and what is left."""
    block: list[Any] = []
    while lines:
        line, *lines = lines
        if line in CLOSES:
            return block, [line, *lines]
        if opened := OPENS.fullmatch(line):
            inner, rest = _block(lines)
            assert rest and CLOSES[rest[0]] == line.split(" ")[0], f"{line} is not closed"
            block.append((opened, inner))
            lines = rest[1:]
            continue
        statement = [line]
        while not statement[-1].endswith(";"):
            line, *lines = lines
            statement.append(line)
        block.append("\n".join(statement).removesuffix(";"))
    return block, []


def _statements(block: list[Any]) -> list[str]:
    found = []
    for part in block:
        if isinstance(part, tuple):
            found += _statements(part[1])
        elif assigned := re.fullmatch(r"(\w+) := \((.*)\)", part, re.S):
            found.append(assigned.group(2))
        elif not re.match(r"\w+ := |return |let ", part):
            found.append(part)
    return found


def _run(block: list[Any], session: Session, values: dict[str, Any], seen: Callable[[str], str]) -> None:
    for part in block:
        if isinstance(part, tuple):
            opened, inner = part
            if opened.group(1):
                value = values[opened.group(1)]
                if value > 0 if opened.group(2) == ">" else value == 0:
                    _run(inner, session, values, seen)
            else:
                names, rows = values[opened.group(4)]
                for row in rows:
                    values[opened.group(3)] = dict(zip(names, row, strict=True))
                    _run(inner, session, values, seen)
        elif cursor := re.fullmatch(r"let (\w+) cursor for (\w+)", part):
            values[cursor.group(1)] = values[cursor.group(2)]
        elif returned := re.fullmatch(r"return '(.*)'", part):
            raise Returned(returned.group(1))
        elif assigned := re.fullmatch(r"(\w+) := \((.*)\)", part, re.S):
            names, rows = session.result(seen(_bound(assigned.group(2), values)))
            values[assigned.group(1)] = (names, list(rows))
        elif assigned := re.fullmatch(r"(\w+) := (\w+)\.(\w+)", part):
            values[assigned.group(1)] = values[assigned.group(2)][assigned.group(3)]
        elif assigned := re.fullmatch(r"(\w+) := (\w+\(\))", part):
            ((values[assigned.group(1)],),) = session.rows(seen(f"select {assigned.group(2)}"))
        elif into := re.search(r" into :(\w+) from ", part):
            ((values[into.group(1)],),) = session.rows(seen(_bound(part.replace(into.group(0), " from ", 1), values)))
        else:
            session.execute(seen(_bound(part, values)))


def _bound(sql: str, values: Mapping[str, Any]) -> str:
    """Variables by their values, as Snowflake binds them."""

    def literal(found: re.Match[str]) -> str:
        value = values[found.group(1)]
        if isinstance(value, datetime):
            return f"cast('{value.isoformat(sep=' ')}' as timestamp_ntz(6))"
        return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"

    names = "|".join(values)
    return re.sub(rf"(?<![\w:\"]):({names})\b", literal, sql)
