"""Where DuckDB and Snowflake reckon differently, the SQL says which way: the rows of the table in docs/snowflake.md."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import sqlglot
from sqlglot import exp

from c360_assets.feeds import load_feeds
from c360_assets.reading import Layout, read_object
from c360_assets.settings import PROJECT
from c360_assets.snowflake import arrivals
from c360_assets.snowflake.warehouse import _SnowflakeSession
from c360_assets.warehouse import literals

DBT = PROJECT / "dbt"
DOCUMENT = PROJECT / "docs" / "snowflake.md"


def lines(*but: str) -> Iterator[tuple[str, str]]:
    """(file and number, line) of all SQL but comments and the files named."""
    for folder in ("macros", "models", "analyses", "tests"):
        for path in sorted((DBT / folder).rglob("*.sql")):
            if path.name in but:
                continue
            text = re.sub(r"{#.*?#}", lambda found: "\n" * found.group().count("\n"), path.read_text(), flags=re.DOTALL)
            for number, line in enumerate(text.splitlines(), 1):
                yield f"{path.relative_to(DBT)}:{number}", line.split("-- ")[0]


def holding(pattern: str, *but: str) -> list[tuple[str, str]]:
    return [(place, line) for place, line in lines(*but) if re.search(pattern, line)]


def test_what_is_divided_is_a_double() -> None:
    """Of decimals Snowflake keeps six digits more than it was given, DuckDB makes a double."""
    texts = {p: line for p, line in holding(r"[\w)] / \w") if "'" not in line.split(" / ")[0][-2:]}
    divided = {p: line for p, line in texts.items() if not re.search(r"/ \w+ \w+ \w+", line)}
    assert len(divided) >= 4, "the rule sees the divisions that there are"
    assert [place for place, line in divided.items() if "as double" not in line and "greatest(" not in line] == []


def test_nulls_are_never_left_to_greatest_and_least() -> None:
    """DuckDB passes over a null, Snowflake gives null. tests/engine runs the engine with Snowflake's."""
    found = {place.split(":")[0]: line for place, line in holding(r"\b(greatest|least)\(")}
    assert set(found) == {
        "macros/scd2_fold.sql",  # in a case that has looked at either
        "macros/absences.sql",  # of when a set came and when a key of it was known before, both of which are there
        "macros/analytics.sql",  # of a rank, which is no null
        "macros/debezium.sql",  # within `is not null`
        "models/gold/vw_customer_360.sql",  # of what is coalesced to a time that is no null
        "tests/generic/expectations.sql",  # of medians of sizes, which are there, and of counts that are coalesced
        "macros/anomalies.sql",  # of constants and of what is not null in its where
    }


def test_a_falling_order_says_where_nulls_stand() -> None:
    """They come first on Snowflake and last on DuckDB."""
    never_null = {
        "macros/latest.sql": "_last_modified desc, _key desc",
        "macros/analytics.sql": "(' desc' if from_above else '')",  # of days, counts and sums of those who bought
        "macros/scd2_views.sql": "content desc",
        "analyses/best_categories.sql": "net_revenue desc",  # sums and counts of groups that are there
        "analyses/segments.sql": "net_revenue desc",
        "analyses/tickets_by_category.sql": "count_tickets desc",
    }
    for place, line in holding(r"\bdesc\b"):
        if "nulls" not in line:
            assert never_null.get(place.split(":")[0], "\0") in line, place


def test_no_time_has_a_zone_and_none_depends_on_the_session() -> None:
    """A bare timestamp is what the account's TIMESTAMP_TYPE_MAPPING says."""
    assert holding(r"timestamp_(tz|ltz)|timestamptz|at time zone|\blocaltime") == []
    assert holding(r"(as|::) ?timestamp\b(?!_)", "dialect.sql") == []
    ours = {path.name: path.read_text() for path in (PROJECT / "c360_assets" / "snowflake").glob("*.py")}
    assert len(ours) > 5
    assert {name for name, text in ours.items() if re.search(r"(as|::) ?timestamp\b(?!_)", text)} == set()
    assert literals([datetime(2024, 1, 2)], "timestamp_ntz") == "cast('2024-01-02 00:00:00' as timestamp_ntz)"


def test_names_are_never_quoted_so_that_their_case_means_nothing() -> None:
    """Snowflake would take "a" and A for two. Within JSON the case is the document's: the dialect's file."""
    quoted = [place for place, line in holding(r'(from|join|as|\.)\s*"', "dialect.sql") if "~" not in line]
    assert quoted == []


def test_patterns_have_no_backslash() -> None:
    """It means itself to DuckDB, and to Snowflake the next character."""
    assert [place for place, line in holding(r"(matches|replaced)\(", "dialect.sql") if "\\" in line] == []


def test_a_document_is_text_until_clean_reads_it() -> None:
    """VARIANT writes numbers anew: no column has it, and none but the dialect's macros makes one."""
    assert holding(r"\b(variant|parse_json|object_construct|flatten)\b", "dialect.sql") == []
    ours = [path.read_text() for path in (PROJECT / "c360_assets").rglob("*.py")]
    assert [text for text in ours if re.search(r"\bvariant\b", text)] == []
    # What is taken out of a document becomes text at once.
    dialect = (DBT / "macros" / "dialect.sql").read_text()
    for macro in ("json_field", "json_nested_field", "json_at"):
        body = dialect.split(f"snowflake__{macro}(")[1].split("endmacro")[0]
        assert "as varchar)" in body, macro


def test_an_empty_field_is_null_whichever_way_it_comes() -> None:
    """To Snowflake the empty text is a value: our reader and what takes the lines of COPY leave none."""
    feed = load_feeds([DBT / "models" / "staging"])["customers"]
    taken: Any = sqlglot.parse_one(arrivals.taken(feed, "arrived", "", "true", "?", "?"), dialect="snowflake")
    values = [each for each in taken.expression.expressions if isinstance(each, exp.Case)]
    assert len(values) == len(feed.columns)
    for value in values:
        assert isinstance(value.args["ifs"][0].args["true"], exp.Nullif) and value.args.get("default") is None
    # COPY itself makes nothing of a line, nor of a column of our Parquet.
    said: list[str] = []
    _SnowflakeSession.load(cast(Any, SimpleNamespace(execute=said.append)), "staging.customers", [], "@stage")
    assert "null_if = ()" in said[0]
    assert "null_if = ()" in arrivals.file_format() and "empty_field_as_null = false" in arrivals.file_format()
    layout = Layout(("customer_id", "first_name", "email", "city"), frozenset({"customer_id"}))
    (chunk,) = read_object(io.BytesIO(b'customer_id,first_name,email,city\n1,,"",Rome\n'), "csv", layout).chunks
    assert [list(values) for values in chunk.values] == [["1"], [None], [None], ["Rome"], [None]]


def test_texts_are_compared_by_their_bytes() -> None:
    assert holding(r"\bcollate\b|\bilike\b") == []


def test_hashes_of_what_is_shown_come_from_one_macro() -> None:
    """DuckDB's own `hash` is another in another version, and is none of Snowflake's."""
    assert holding(r"\b(sha1|sha2|sha256|md5|hash)\(", "dialect.sql") == []
    dialect = (DBT / "macros" / "dialect.sql").read_text()
    # Where DuckDB finds its rows by it.
    hashing = [line for line in dialect.splitlines() if re.search(r"(?<!_)\bhash\(", line)]
    assert [line.split("(")[0] for line in hashing] == ["{% macro key_hash"]


def test_every_row_of_the_table_in_the_docs_names_a_test_that_is_there() -> None:
    table = DOCUMENT.read_text().split("| held by |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(table) >= 10
    written = "".join(path.read_text() for path in (Path(__file__), PROJECT / "tests" / "platform" / "test_engines.py"))
    for row in table:
        name = row.rsplit("`", 2)[-2]
        assert f"def {name}(" in written, row
