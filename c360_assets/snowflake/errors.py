"""Errors of Snowflake, said so that a person knows what to do, and whether it is worth trying again.

Codes and their texts are those that Snowflake documents and its connector raises. What stands here under no code is
passed on as Snowflake said it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from c360_assets.settings import Snowflake
from c360_assets.warehouse import WarehouseRefused


@dataclass(frozen=True)
class Refusal:
    """A kind of error: by the codes that mean it and a part of its text; what to do; may it work when tried again?"""

    codes: tuple[int, ...]
    text: str
    what: str
    remedy: str
    passes: bool = False


# The first that fits is meant. A login that is refused has code 250001 whatever the reason, which its text names.
REFUSALS = (
    Refusal((250001, 390100), "incorrect username or password", "user {user} was refused",
            "check SNOWFLAKE_USER and SNOWFLAKE_PASSWORD; nothing is tried again, so that the user is not locked"),
    Refusal((250001, 390144, 394300), "jwt", "the key of user {user} was refused",
            "its public half must stand in RSA_PUBLIC_KEY of the user, and this machine's clock be right"),
    Refusal((250001, 390303, 390318), "token", "the token of user {user} was refused",
            "put a new one into SNOWFLAKE_TOKEN"),
    Refusal((250001, 390422), "is not allowed to access", "this machine's address may not reach account {account}",
            "add it to the account's network policy"),
    Refusal((250001, 390102), "locked", "user {user} is locked", "wait 15 minutes, or have the user unlocked"),
    Refusal((606,), "", "no warehouse runs the statement: {warehouse} is suspended, is not there, or may not be used",
            "alter warehouse {warehouse} set auto_resume = true; grant usage on it to role {role}"),
    Refusal((90073,), "", "warehouse {warehouse} has used up what its resource monitor allows",
            "raise the monitor's quota, or wait for its next period"),
    Refusal((630, 604), "", "Snowflake stopped a statement",
            "it ran into STATEMENT_TIMEOUT_IN_SECONDS, or somebody stopped it: a larger warehouse, smaller batches "
            "(C360_BATCH_BYTES), or more time"),
    Refusal((625,), "", "another transaction has held a table for longer than LOCK_TIMEOUT",
            "see show transactions; it is tried again", passes=True),
    Refusal((2003, 2043, 3001, 90105), "", "something is not there for role {role} in database {database}",
            "c360 snowflake bootstrap makes all that is needed; look at SNOWFLAKE_ROLE and SNOWFLAKE_DATABASE"),
    Refusal((250001, 250003, 250006, 251001, 251011, 251012), "", "Snowflake account {account} was not reached",
            "look at SNOWFLAKE_ACCOUNT and the network", passes=True),
)  # fmt: skip
# The connector's own codes for what HTTP answered: 290000 and the status.
HTTP, UNAVAILABLE = range(290_000, 291_000), (429, 500, 502, 503, 504)


def refused(error: Exception, settings: Snowflake) -> WarehouseRefused:
    """The error of the connector in our words, with what Snowflake said."""
    code = int(getattr(error, "errno", None) or -1)
    said = " ".join(str(getattr(error, "msg", None) or error).split())
    for kind in REFUSALS:
        if code in kind.codes and kind.text in said.lower():
            names = {
                name: getattr(settings, name) or "of the user" for name in ("user", "account", "role", "warehouse")
            }
            told = f"{kind.what}: {kind.remedy}".format(**names, database=settings.database)
            return WarehouseRefused(f"{told} (Snowflake: {said})", passes=kind.passes)
    return WarehouseRefused(f"Snowflake: {said}", passes=code in HTTP and code - HTTP.start in UNAVAILABLE)


def is_file_gone(error: Exception) -> bool:
    """Did a COPY end because a file that it names is not there?"""
    return re.search(r"remote file .* was not found", str(error).lower()) is not None


@contextmanager
def explained(settings: Snowflake) -> Iterator[None]:
    """Errors of the connector in the body become ours."""
    from snowflake.connector.errors import Error

    try:
        yield
    except Error as error:
        raise refused(error, settings) from error
