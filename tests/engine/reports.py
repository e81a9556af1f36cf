"""The project's analyses with their results, as a page of docs: on the generated data of the star's test."""

from __future__ import annotations

from c360_assets.settings import PROJECT
from tests.parts import Platform, analyses

PAGE = PROJECT / "docs" / "analyses.md"
_HEAD = """# Analyses

Reports that people run by hand, in [dbt/analyses](../dbt/analyses), each with its result on two generated days of a small shop and its tills. To
run one on your own home, or to change it first:

```
export C360_DUCKDB_PATH=.c360/warehouse.duckdb
.venv/bin/dbt show --quiet --project-dir dbt --profiles-dir dbt --target duckdb --select monthly_revenue --limit -1
```

This page is made by a test of the star, which fails where it is not true any more: `C360_WRITE_DOCS=1` makes it anew.
"""


def page(platform: Platform) -> str:
    """Every analysis: what its first lines say, and its rows."""
    parts = [_HEAD]
    for name, sql in sorted(analyses(platform.warehouse, platform.project).items()):
        text = (platform.project / "analyses" / f"{name}.sql").read_text()
        told = " ".join(line.removeprefix("--").strip() for line in text.splitlines() if line.startswith("--"))
        with platform.warehouse.reading() as session:
            columns, rows = session.result(sql)
            lines = [" | ".join("" if value is None else str(value) for value in row) for row in rows]
        table = [" | ".join(columns), " | ".join("---" for _ in columns), *lines]
        parts.append(f"## {name}\n\n{told}\n\n" + "\n".join(f"| {line} |" for line in table) + "\n")
    return "\n".join(parts)
