"""What runs on fakesnow and what does not: `make snowflake` and docs/snowflake.md say all of it."""

from __future__ import annotations

import re

from c360_assets.settings import PROJECT

PLATFORM = PROJECT / "tests" / "platform"
DOCUMENT = PROJECT / "docs" / "snowflake.md"
# Files, locks and signals of a home with a DuckDB file in it.
OF_DUCKDB = {"test_backup.py", "test_kill.py", "test_remembering.py"}


def listed(variable: str) -> set[str]:
    """The files that a variable of the Makefile names."""
    (value,) = re.findall(rf"^{variable} := ((?:.*\\\n)*.*)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    return set(re.findall(r"tests/platform/(\w+\.py)", value))


def test_every_test_of_the_platform_runs_on_fakesnow_or_the_docs_say_that_it_does_not() -> None:
    run, compared = listed("SNOWFLAKE_TESTS"), listed("COMPARED_TESTS")
    assert run and compared
    assert run | compared | OF_DUCKDB == {path.name for path in PLATFORM.glob("test_*.py")}
    assert not (run | compared) & OF_DUCKDB
    text = DOCUMENT.read_text()
    assert {name for name in OF_DUCKDB if f"`{name}`" not in text} == set()


def test_what_fakesnow_lacks_stands_in_the_docs() -> None:
    lacking = {
        what for path in PLATFORM.glob("*.py") for what in re.findall(r'@lacking\("([^"]+)"\)', path.read_text())
    }
    assert lacking
    not_run = DOCUMENT.read_text().split("## Not run against an account")[1]
    assert {what for what in lacking if what not in not_run} == set()
