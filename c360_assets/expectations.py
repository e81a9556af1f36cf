"""Expectations: what a feed's objects are held against, and what stands in for values that they lack.

Belongs here: the declarations `expect` and `impute` of a feed as validated, typed values, and what is learned from
history. How they are run stands in `checks`, what is imputed in the dbt macros.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any

from c360_assets.declared import DeclarationError, Fields, list_of, mapping_of

# The decision about an object that is taken as it is, whatever is expected of it.
ACCEPTED = "accept"
SEVERITIES = ("warn", "block")
LEARNED = ("volume", "freshness")
RULES = ("null_share", "at_least", "at_most", "one_of", "distinct", *LEARNED)
# Of objects with fewer rows a share says nothing.
ROWS_OF_A_SHARE = 20
# Objects, or hours with arrivals, that a bound is learned from: so many at least, so many at most.
LEAST, MOST = 8, 30
NORMAL = 1.4826  # times the median of the distances to the median: the standard deviation, were they normal
DEVIATIONS = 3.5


@dataclass(frozen=True)
class Expectation:
    """One rule. `column` is None for what is learned of whole objects, `texts` are those of `one_of`."""

    rule: str
    column: str | None
    number: float
    texts: tuple[str, ...]
    blocks: bool

    @property
    def name(self) -> str:
        return f"{self.rule}_{self.column}" if self.column else self.rule

    @property
    def remedy(self) -> str:
        """What ends it, where it blocks."""
        if self.rule == "distinct":
            return "land what is missing, or change the bound where it is declared"
        return (
            "land the object corrected, where it replaces what it brought (its name states the instant, or the feed "
            "says overwrite: replace), or take it as it is: c360 quarantine release --feed FEED --key KEY"
        )

    @property
    def text(self) -> str:
        """The rule in words."""
        if self.rule == "volume":
            return f"An object has about as many rows as the {MOST} before it."
        if self.rule == "freshness":
            return "The feed is not silent for more than twice the longest silence that it had."
        return {
            "null_share": f"At most the share {self.number:g} of an object's rows has no {self.column}.",
            "at_least": f"{self.column} is at least {self.number:g}, where it is a number.",
            "at_most": f"{self.column} is at most {self.number:g}, where it is a number.",
            "one_of": f"{self.column} is one of: {', '.join(self.texts)}.",
            "distinct": f"A feed that has any rows has at least {self.number:g} different {self.column}.",
        }[self.rule]


def take_expectations(where: str, declared: Any, columns: Collection[str], payload: bool) -> tuple[Expectation, ...]:
    """The list under `expect`.

    Raises:
        DeclarationError: for a rule that is not known, has no column or a bound that is none, or stands twice.
    """
    found: list[Expectation] = []
    for number, each in enumerate(list_of(declared, f"{where}: expect"), 1):
        one = _expectation(Fields(f"{where}: expect: {number}", each), columns, payload)
        if one.name in {e.name for e in found}:
            raise DeclarationError(f"{where}: expect: {number}: '{one.name}' stands twice")
        found.append(one)
    return tuple(found)


def _expectation(field: Fields, columns: Collection[str], payload: bool) -> Expectation:
    column = field.take("column", str, None)
    severity = field.choice("severity", SEVERITIES, "warn")
    given = [rule for rule in RULES if rule in field.left]
    if len(given) != 1:
        raise DeclarationError(f"{field.where}: give one rule of: {', '.join(RULES)}")
    (rule,) = given
    number = 0.0
    texts: tuple[str, ...] = ()
    if rule in LEARNED:
        field.choice(rule, ("learned",))
    elif rule == "one_of":
        texts = field.texts(rule)
        if not texts:
            raise DeclarationError(f"{field.where}: one_of: there are none")
    else:
        number = float(field.take(rule, (int, float)))
        if rule == "null_share" and not 0 <= number <= 1:
            raise DeclarationError(f"{field.where}: null_share: {number:g} is no share from 0 to 1")
    field.end()
    if rule == "freshness" and severity == "block":
        raise DeclarationError(f"{field.where}: freshness: can only warn: to hold things up makes nothing come")
    if (column is None) != (rule in LEARNED):
        said = "is about whole objects; take the column away" if column else "needs a column"
        raise DeclarationError(f"{field.where}: {rule}: {said}")
    if column is not None and payload:
        raise DeclarationError(
            f"{field.where}: column: '{column}' stands in the payload; hold the tables made of it against a dbt test"
        )
    if column is not None and column not in columns:
        raise DeclarationError(
            f"{field.where}: column: '{column}' is not declared; there are: {', '.join(sorted(columns))}"
        )
    return Expectation(rule, column, number, texts, severity == "block")


def check_imputation(
    where: str, declared: Any, columns: Collection[str], required: Collection[str], kind: str, payload: bool
) -> None:
    """The mapping under `impute`, `{column: rule}`; the dbt macros read it.

    Raises:
        DeclarationError: for a rule that is not known, or a column that the feed does not have.
    """
    rules = mapping_of(declared, f"{where}: impute")
    if rules and (payload or kind in ("partial", "lines", "clicks")):
        said = {"partial": "a null is 'not given' there"}.get(
            kind, "a document says it all" if payload else "say constants"
        )
        raise DeclarationError(f"{where}: impute: not in a feed of this kind: {said}")
    for column, rule in rules.items():
        here = f"{where}: impute: {column}"
        field = Fields(here, rule)
        value = field.take("value", str, None)
        other = field.take("column", str, None)
        factors = field.texts("product_of", ())
        field.end()
        if factors and len(factors) != 2:
            raise DeclarationError(f"{here}: product_of: give two columns")
        if [value is not None, other is not None, bool(factors)].count(True) != 1:
            raise DeclarationError(f"{here}: give one of: value, column, product_of")
        if column in required:
            raise DeclarationError(f"{here}: is required: a record without it is refused")
        for named in (column, *([other] if other else []), *factors):
            if named not in columns:
                raise DeclarationError(f"{here}: column '{named}' is not declared; there are: {', '.join(columns)}")
            if named in rules and named != column:
                raise DeclarationError(f"{here}: '{named}' is imputed itself")


def unusual_volumes(sizes: Sequence[int], judged: Collection[int]) -> list[tuple[int, int, int]]:
    """(place, least, most) of the objects at the places judged whose size those before them do not let expect.

    `sizes`: rows per object, oldest first. The bounds are taken in logarithms, where half and double are as far: the
    median of at least 8 and at most 30 objects before, without the one judged, plus and minus 3.5 robust deviations, or
    a factor of 2 if that is wider.
    """
    found = []
    logs = [math.log1p(size) for size in sizes]
    for place in sorted(judged):
        before = logs[max(0, place - MOST) : place]
        if len(before) < LEAST:
            continue
        middle = median(before)
        width = max(DEVIATIONS * NORMAL * median(abs(x - middle) for x in before), math.log(2))
        if abs(logs[place] - middle) > width + 1e-9:
            least, most = math.expm1(max(0.0, middle - width)), math.expm1(middle + width)
            found.append((place, math.ceil(least - 1e-6), math.floor(most + 1e-6)))
    return found


def silent_since(hours: Sequence[datetime], now: datetime) -> tuple[datetime, timedelta] | None:
    """(the last hour in which something came, the longest silence that is usual), if it is now silent for longer.

    `hours`: those in which something came, oldest first; many objects within one count once. Usual is twice the longest
    of the last 30 gaps, with at least 8 of them.
    """
    gaps = [later - sooner for sooner, later in pairwise(hours)][-MOST:]
    if len(gaps) < LEAST:
        return None
    usual = 2 * max(gaps)
    return (hours[-1], usual) if now - hours[-1] > usual else None
