"""The check of an account, on fakesnow: it ends there, says what held and what an emulator cannot hold, and waits for nothing in vain."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

from c360_assets.landing import Bucket
from c360_assets.settings import PROJECT
from tests.emulator import on_fakesnow
from tests.parts import command_environment, on_both, on_duckdb

pytestmark = [on_duckdb, on_both]


def test_the_check_of_an_account_ends_on_an_emulator_and_says_what_held(
    tmp_path: Path, bucket: Bucket, s3_endpoint: str, fakesnow: int
) -> None:
    environment = command_environment(tmp_path / "home", bucket, s3_endpoint) | on_fakesnow(fakesnow)
    ran = subprocess.run(
        [sys.executable, "-m", "tests.snowflake_check", "--patience", "20"],
        env=environment | {"C360_LOADING": "pipe"}, cwd=PROJECT, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "0 did not hold" in ran.stdout.splitlines()
    # Between them dbt says what it likes.
    words = ("...", "held", "cannot", "NOT", "left")
    lines = [line.split(maxsplit=1) for line in ran.stdout.splitlines() if line.startswith(words)]
    held = {what for word, what in lines if word == "held"}
    assert {
        "objects are put",
        "our reader loads them",
        "a build, its tests too",
        "a late change is spliced in",
        "history is what DuckDB has",
        "gone: objects",
    } <= held
    # Each is named before it is tried, and what nothing could come of is not waited for.
    for (first, what), (word, result) in itertools.pairwise(lines):
        assert first != "..." or (word in ("held", "cannot") and result.startswith(what))
    assert [what for word, what in lines if word == "left"] == ["a task merges what was loaded: not all of it was made"]
    assert any(what.startswith("task core.merge_customer") for word, what in lines if word == "cannot")
